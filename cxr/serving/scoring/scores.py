"""The scores: one row per content, path and version of a model, in Parquet, each written once.

The rows are the only ledger: whether a file has been scored is asked of them alone. What the first row of a version is
written for is the package with that hash, and no other package of that name and version can add to these scores.

Parts are staged while a batch is being scored. Once the batch is checked, they are published as
`scores/<batch>/part-….parquet`, or held where readers of the scores do not look. The decision is written before the
first part moves, so if the process is killed in between, the next scoring run finishes the move.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.compute as pc

from cxr.classes import Classes, Findings
from cxr.errors import DiskError, PackageError, RunError
from cxr.images.other_files import OTHER_FILE
from cxr.serving.package import Package
from cxr.serving.screening import FileReading
from cxr.storage import files
from cxr.storage.files import read_table
from cxr.storage.local_files import disk_full_as_error
from cxr.storage.scores_folder import BatchFolder, ScoresFolder

if TYPE_CHECKING:
    from cxr.serving.predictor import Prediction  # and torch, which listing batches does without

log = logging.getLogger(__name__)

IDENTITY = ["batch", "path", "image_id", "model", "model_version", "status", "reason", "detail"]
MEASURED = {
    "fold_spread": "float64",
    "width": "Int32",
    "height": "Int32",
    "mean": "float64",
    "contrast": "float64",
    "border": "float64",
    "dark_share": "float64",
    "bright_share": "float64",
    "chroma": "float64",
    "novelty": "float64",
}
ADDED: dict[str, Any] = {"unlike_training": "boolean", "arithmetic": "str", "answer": "str", "prediction_set": "str"}
"""Columns that scores of before have not; their values are missing there."""
KEY = ["path", "image_id", "status", "reason"]
PASSING = ("broken_link", "missing_decoder", "permission_denied", "short_of_memory", "unreadable")
"""Reasons that may no longer hold in the next scoring run, although the file does not change."""


def scores_table(rows: Iterable[dict[str, object]], outputs: Sequence[str]) -> pd.DataFrame:
    """Return rows as a table whose column types do not depend on which values are missing.

    Columns: batch, path, image_id (missing where the file could not be read), model, model_version, status
    (`ok` or `quarantined`), reason (a code) and detail (missing where ok), probability_<class> per class,
    predicted_label (for findings called_<finding> for each), fold_spread, in_training, the image's measures (MEASURED),
    unlike_training (missing where the package has no limit), arithmetic (fp32, bf16 or int8), answer (a class or
    `refer`) and prediction_set (the classes that fit, separated by `|`), both missing where the package refers none,
    n_bytes, changed_ns, scored_at (UTC).

    Args:
        rows: of the scores.
        outputs: names of classes, or `Findings`.
    """
    types = column_types(outputs)
    return pd.DataFrame(list(rows), columns=list(types)).astype(types)


def column_types(outputs: Sequence[str]) -> dict[str, Any]:
    """Return the type of each column of the scores, in their order.

    Args:
        outputs: names of classes, or `Findings`.
    """
    if isinstance(outputs, Findings):
        decided = dict.fromkeys(outputs.called_columns, "boolean")
    else:
        outputs = Classes(outputs)
        decided = {"predicted_label": "str"}
    types: dict[str, Any] = dict.fromkeys(IDENTITY, "str")
    types |= dict.fromkeys(outputs.probability_columns, "float64") | decided
    types |= {"fold_spread": "float64", "in_training": "boolean"} | MEASURED | ADDED  # a name keeps its first place
    return types | {"n_bytes": "int64", "changed_ns": "int64", "scored_at": "datetime64[us, UTC]"}


class Seen:
    """What one version of a model has scored of a batch, whether published, held or staged: contents, by path."""

    def __init__(self, folder: ScoresFolder, name: str, version: str, batch: str) -> None:
        self._model = (pc.field("model") == name) & (pc.field("model_version") == version)
        self._places = folder.published(batch), folder.held(name, version, batch), folder.staged(name, version, batch)
        self._paths: set[str] = set()
        self._contents: set[tuple[str, str]] = set()
        self._scored: set[str] = set()
        self._refusals: set[tuple[str, str | None, str]] = set()
        for part in self._parts():
            self.add(read_table(part, KEY, self._model))

    def _parts(self) -> Iterator[Path]:
        return (part for place in self._places for part in place.parts())

    def add(self, rows: pd.DataFrame) -> None:
        """Remember rows of this batch."""
        self._paths.update(rows["path"])
        lasting = rows[rows["image_id"].notna() & ~rows["reason"].isin(PASSING)]
        self._contents.update(zip(lasting["path"], lasting["image_id"], strict=True))
        self._scored.update(lasting.loc[lasting["status"] == "ok", "image_id"])
        refused = rows[rows["status"] == "quarantined"]
        contents = refused["image_id"].astype(object).where(refused["image_id"].notna(), None)
        self._refusals.update(zip(refused["path"], contents, refused["reason"], strict=True))

    def has_path(self, path: str) -> bool:
        """Return whether a file of this name has a row."""
        return path in self._paths

    def has_content(self, path: str, image_id: str | None) -> bool:
        """Return whether a file of this name and content has a row that lasts."""
        return (path, image_id) in self._contents

    def has_refusal(self, path: str, image_id: str | None, reason: str) -> bool:
        """Return whether a file of this name and content, None if unread, was quarantined for this reason."""
        return (path, image_id, reason) in self._refusals

    def answer(self, image_id: str) -> dict[str, object] | None:
        """Return the prediction and measures stored for an image, under any name in the batch; None without one."""
        if image_id not in self._scored:
            return None
        same_image = self._model & (pc.field("image_id") == image_id) & (pc.field("status") == "ok")
        rows = pd.concat([read_table(part, filters=same_image) for part in self._parts()])
        own = [*IDENTITY, "n_bytes", "changed_ns", "scored_at"]
        return {str(name): value for name, value in rows.drop(columns=own).iloc[0].items()}


def stage(part: Path, table: pd.DataFrame) -> None:
    """Write rows as a part that is not published yet; an empty table leaves no part."""
    if not table.empty:
        files.write_table(part, table)


def read_parts(place: BatchFolder) -> pd.DataFrame:
    """Return the rows of all parts; what older parts lack is missing."""
    return pd.concat([_with_added(read_table(part)) for part in place.parts()], ignore_index=True)


def _with_added(rows: pd.DataFrame) -> pd.DataFrame:
    missing = {name: pd.Series(pd.NA, rows.index, dtype=kind) for name, kind in ADDED.items() if name not in rows}
    return rows.assign(**missing)


@contextmanager
def exclusive(folder: ScoresFolder, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock of the scores; turn an error of the operating system into one sentence.

    Raises:
        DiskError: something cannot be read or written.
        RunError: another process holds the lock.
    """
    try:
        what = f"scores folder {str(folder.path)!r}"
        with disk_full_as_error(folder.path), files.locked(folder.lock, what, patience_s=patience_s):
            yield
    except OSError as error:
        if error.errno is None:
            raise
        raise DiskError.of(error, folder.path) from error


def claim(folder: ScoresFolder, package: Package) -> None:
    """Let a version of a model be this package in these scores, from its first row on.

    Hold the lock of the scores while you call this.

    Raises:
        PackageError: in these scores, that version is another package.
    """
    claimed = folder.package_hash(package.name, package.version)
    if not claimed.exists():
        files.write_text(claimed, package.file_hash + "\n")
    elif claimed.read_text(encoding="utf-8").strip() != package.file_hash:
        raise PackageError(
            f"in the scores {str(folder.path)!r}, version {package.version} of {package.name!r} is another package "
            f"than {str(package.folder.path)!r}: give another --out, or package the run under another --name."
        )


def settle(folder: ScoresFolder, staged: BatchFolder, *, publish: bool) -> None:
    """Publish or hold staged parts; once the decision is written, a kill only delays it."""
    files.write_json(staged.decision, {"publish": publish, "at": files.now()})
    _move(staged, folder.destination(staged, publish=publish))


def _move(staged: BatchFolder, target: BatchFolder) -> None:
    target.path.mkdir(parents=True, exist_ok=True)
    for part in staged.parts():
        part.rename(target.path / part.name)
    shutil.rmtree(staged.path)


def recover(folder: ScoresFolder, name: str, version: str) -> None:
    """Finish what a killed scoring run had decided, and drop parts that other versions staged.

    Hold the lock of the scores while you call this.
    """
    for staged_version, staged in folder.all_staged(name):
        files.sweep(staged.path)
        if staged.decision.exists():
            _move(staged, folder.destination(staged, publish=files.read_json(staged.decision)["publish"]))
        elif staged_version != version:
            log.info(
                "dropped unfinished scores from version %s; version %s scores those images", staged_version, version
            )
            shutil.rmtree(staged.path)


def staged_batches(folder: ScoresFolder, name: str) -> list[str]:
    """Return the batches of which a model has staged rows."""
    return [
        read_table(place.parts()[0], ["batch"])["batch"].iloc[0]
        for _, place in folder.all_staged(name)
        if place.parts()
    ]


def list_batches(folder: ScoresFolder) -> pd.DataFrame:
    """Return one row per batch, state, model and version, the latest first.

    Columns: batch, state (`published` or `held`), model, model_version, images, quarantined, other_files, scored_at (of
    the last row).
    """
    keys = ["batch", "state", "model", "model_version"]
    read = [*keys[:1], *keys[2:], "status", "reason", "scored_at"]
    rows = _with_state(folder.all_published(), folder.all_held(), read)
    if rows.empty:
        return pd.DataFrame(columns=[*keys, "images", "quarantined", "other_files", "scored_at"])
    is_other = rows["reason"] == OTHER_FILE
    is_quarantined = (rows["status"] == "quarantined") & ~is_other
    rows = rows.assign(images=rows["status"] == "ok", quarantined=is_quarantined, other_files=is_other)
    counts = dict.fromkeys(("images", "quarantined", "other_files"), "sum")
    table = rows.groupby(keys, sort=False).agg(counts | {"scored_at": "max"})
    return table.reset_index().sort_values("scored_at", ascending=False, ignore_index=True)


def read_batch(folder: ScoresFolder, batch: str) -> pd.DataFrame:
    """Return the rows of a batch, published and held, with `state` as in `list_batches`; empty if there are none."""
    rows = _with_state([folder.published(batch)], folder.all_held(batch))
    return rows if rows.empty else _with_added(rows)


def _with_state(
    published: Iterable[BatchFolder], held: Iterable[BatchFolder], columns: list[str] | None = None
) -> pd.DataFrame:
    places = [("published", place) for place in published] + [("held", place) for place in held]
    parts = [
        pd.read_parquet(part, columns=columns).assign(state=state) for state, place in places for part in place.parts()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def held_batches(folder: ScoresFolder) -> dict[str, int]:
    """Return the number of rows held, by batch."""
    names = [read_table(part, ["batch"])["batch"] for place in folder.all_held() for part in place.parts()]
    return {str(name): int(n) for name, n in pd.concat(names).value_counts(sort=False).items()} if names else {}


def release(folder: ScoresFolder, batch: str) -> int:
    """Publish the held rows of a batch; return how many there are.

    Raises:
        DiskError: the rows cannot be moved.
        ConfigError: the scores are in an object store.
        RunError: no rows of that batch are held, or a scoring run is in progress.
    """
    files.require_local("--out", folder.path)
    if not folder.path.is_dir():
        raise RunError(f"no rows of batch {batch!r} are held: {str(folder.path)!r} does not exist.")
    with exclusive(folder, patience_s=60):
        held = folder.all_held(batch)
        if not held:
            held_names = ", ".join(map(repr, held_batches(folder))) or "none"
            raise RunError(f"no rows of batch {batch!r} are held; held batches: {held_names}.")
        n_rows = 0
        for place in held:
            n_rows += len(read_parts(place)) if place.parts() else 0
            _move(place, folder.published(batch))
    log.info("released %d rows of batch %r", n_rows, batch)
    return n_rows


def score_rows(
    package: Package, batch: str | None, readings: Iterable[FileReading], predictions: Iterable["Prediction"]
) -> list[dict[str, object]]:
    """Return the rows of files that were read: with a prediction, or with the reason why a file was refused.

    Args:
        package: the model.
        batch: the files' batch; None if they are in none.
        readings: the files.
        predictions: of the files that were not refused, in their order.
    """
    remaining = iter(predictions)
    return [
        score_row(package, batch, reading, {} if reading.refused else next(remaining).columns | reading.measures)
        for reading in readings
    ]


def score_row(
    package: Package, batch: str | None, reading: FileReading, answer: Mapping[str, object]
) -> dict[str, object]:
    """Return a file's row of the scores.

    Args:
        package: the model.
        batch: the file's batch; None if it is in none.
        reading: the file, read.
        answer: the image's prediction and measures, by column; ignored where the file was refused.
    """
    refused = reading.refused
    return {
        "batch": batch,
        "path": reading.arrival.path,
        "image_id": reading.image_id,
        "model": package.name,
        "model_version": package.version,
        "status": "quarantined" if refused else "ok",
        "reason": refused.reason if refused else None,
        "detail": refused.detail if refused else None,
        "n_bytes": reading.arrival.n_bytes,
        "changed_ns": reading.arrival.changed_ns,
        "scored_at": datetime.now(UTC),
        **({} if refused else answer),
    }
