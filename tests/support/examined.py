"""Data sets that are examined, and folders that pass for those of runs."""

from pathlib import Path

from cxr.config import DataConfig
from cxr.dataset.examination import examine
from cxr.storage import files, verified
from cxr.storage.run_folder import RunFolder


def examined(data: Path, place: Path, **fields: object) -> RunFolder:
    """Examine a data set for a run in a folder; return the folder of the run."""
    folder = RunFolder(place / "run")
    examine(DataConfig(data=str(data), **fields), folder, cache=place / "cache")
    return folder


def begin(folder: RunFolder) -> None:
    """Let a folder pass for that of a run that has begun with the images that were examined in it."""
    data_hash = files.read_json(folder.data)["data_hash"]
    verified.write_json(folder.config, {"format": files.FORMAT, "identity": {"data": data_hash}})
