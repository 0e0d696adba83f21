"""The names of all files in a folder of DICOM results, and what it remembers of them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.storage import files


@dataclass(frozen=True)
class DicomFolder:
    """A folder of instances, each named by its SOP Instance UID; names with `_` are this program's own."""

    path: Path

    @property
    def work(self) -> Path:
        """Where instances are written before they are whole."""
        return self.path / "_work"

    @property
    def lock(self) -> Path:
        return self.work / "dicom.lock"

    @property
    def sent(self) -> Path:
        return self.path / "_sent.jsonl"

    @property
    def refused(self) -> Path:
        return self.path / "_refused.jsonl"

    def instance(self, uid: str) -> Path:
        return self.path / f"{uid}.dcm"

    def instances(self) -> list[Path]:
        return sorted(self.path.glob("[!_.]*.dcm"))

    def put(self, uid: str, data: bytes) -> None:
        """Write an instance, whole or not at all."""
        files.deliver(self.instance(uid), data, through=self.work)

    def refuse(self, uid: str, image_id: str, reason: str) -> None:
        """Remember why the report with this UID cannot be made."""
        self._append(self.refused, {"uid": uid, "image_id": image_id, "reason": reason})

    def refused_uids(self) -> set[str]:
        """Return the UIDs of the reports that cannot be made."""
        return {line["uid"] for line in _lines(self.refused)}

    def confirm(self, uid: str, node: str, status: int) -> None:
        """Remember that a node has taken an instance."""
        self._append(self.sent, {"uid": uid, "node": node, "status": f"{status:04X}"})

    def sent_uids(self, node: str) -> set[str]:
        """Return the UIDs of the instances that a node has taken."""
        return {line["uid"] for line in _lines(self.sent) if line["node"] == node}

    def _append(self, path: Path, facts: dict[str, Any]) -> None:
        files.append_line(path, json.dumps({"time": files.now()} | facts))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a file; one that a full disk has cut off was never confirmed."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
