"""The manifest: one row per film found, whether it can be used, and if not, why.

Every file that lies where a film lies has a row. `status` is `unreadable` (with the reason), `duplicate`
(the same bytes under the same label stand in an earlier row), or `used`. Copies are neither trained on
nor judged twice, yet stay in the table and in the folds, so that nobody can hold one out by mistake.
"""

import hashlib
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr.config import TrainConfig
from cxr.errors import ConfigError, DataError
from cxr.images import Header, PreparedImages, UnreadableError, decode_square, read_header
from cxr.source import MAX_FILM_BYTES, Film, Listing, Source

log = logging.getLogger(__name__)

COLUMNS = [
    "image_id", "path", "label", "subtype", "split", "patient_id",
    "width", "height", "mode", "n_bytes", "status", "reason",
]  # fmt: skip
SUBTYPE = re.compile(r"_(bacteria|virus)(?=[_.])", re.IGNORECASE)
CHUNK = 512


@dataclass(frozen=True)
class _Reading:
    """What one film's bytes gave."""

    image_id: str | None = None
    header: Header | None = None
    square: NDArray[np.uint8] | None = None
    """None as well where the square was prepared before."""
    reason: str | None = None


def build_manifest(source: Source, listing: Listing, config: TrainConfig, prepared: PreparedImages) -> pd.DataFrame:
    """Read every film once; return the manifest, ordered by path, and leave the squares in `prepared`.

    Raises:
        DataError: the same bytes stand in two classes.
    """
    rows: list[dict[str, Any]] = []
    total = len(listing.films)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, total, CHUNK):
            films = listing.films[start : start + CHUNK]
            readings = list(pool.map(lambda film: _read_film(source, film, prepared), films))
            rows += [_row(film, reading, config) for film, reading in zip(films, readings, strict=True)]
            prepared.add({r.image_id: r.square for r in readings if r.image_id and r.square is not None})
            log.info(
                "read %d of %d films", len(rows), total, extra={"bar": "films read", "done": len(rows), "of": total}
            )
    numbers = {"width": "Int32", "height": "Int32", "n_bytes": "int64"}
    manifest = pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(COLUMNS, "str") | numbers)
    _mark_copies(manifest)
    return manifest


def _read_film(source: Source, film: Film, prepared: PreparedImages) -> _Reading:
    if film.n_bytes > MAX_FILM_BYTES:
        return _Reading(reason=f"too large: {film.n_bytes:,} bytes, at most {MAX_FILM_BYTES:,}")
    try:
        data = source.read(film.key)
    except Exception as error:  # OSError; from a damaged zip also BadZipFile, zlib.error, EOFError, struct.error, …
        return _Reading(reason=f"cannot be read: {getattr(error, 'strerror', None) or error}")
    image_id = hashlib.sha256(data).hexdigest()
    try:
        header = read_header(data)
        square = None if image_id in prepared else decode_square(data, prepared.size)
        return _Reading(image_id, header, square)
    except UnreadableError as error:
        return _Reading(image_id, reason=str(error))


def _row(film: Film, reading: _Reading, config: TrainConfig) -> dict[str, Any]:
    name = film.path.rsplit("/", 1)[-1]
    subtype = SUBTYPE.search(name)
    patient = re.search(config.patient_pattern, name)
    subtype = subtype.group(1).lower() if subtype else None
    header = reading.header
    return {
        "image_id": reading.image_id,
        "path": film.path,
        "label": subtype if subtype and config.label_from == "subtype" else film.class_folder,
        "subtype": subtype,
        "split": film.split,
        "patient_id": patient.group(1) if patient else None,
        "width": header.width if header else None,
        "height": header.height if header else None,
        "mode": header.mode if header else None,
        "n_bytes": film.n_bytes,
        "status": "used" if header else "unreadable",
        "reason": reading.reason,
    }


def _mark_copies(manifest: pd.DataFrame) -> None:
    readable = manifest[manifest["status"] == "used"]
    for image_id, copies in readable[readable.duplicated("image_id", keep=False)].groupby("image_id", sort=False):
        if copies["label"].nunique() > 1:
            first, other = copies.drop_duplicates("label")["path"].head(2)
            raise DataError(
                f"a film has one label, but {first!r} and {other!r} hold the same bytes "
                f"(SHA-256 {str(image_id)[:12]}…) in two classes: remove the wrong one."
            )
        manifest.loc[copies.index[1:], ["status", "reason"]] = ["duplicate", f"same bytes as {copies['path'].iloc[0]}"]


def data_hash(manifest: pd.DataFrame) -> str:
    """Return a SHA-256 over every film's path, label and content: equal for a folder and for a zip of it."""
    lines = manifest[["path", "label", "image_id"]].fillna("").agg("\t".join, axis=1)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def count_films(manifest: pd.DataFrame) -> dict[str, int]:
    """Return the flow of films: found, and of these unreadable, duplicate and used."""
    status = manifest["status"]
    return {"found": len(manifest)} | {
        name: int((status == name).sum()) for name in ("unreadable", "duplicate", "used")
    }


def class_names(manifest: pd.DataFrame, config: TrainConfig) -> list[str]:
    """Return the classes in the order of the model's outputs: sorted, but of two the positive one last.

    Raises:
        DataError: fewer than two classes have a usable film.
        ConfigError: of two classes none is positive, or `positive` is no class, or there are more than two.
    """
    used = manifest[manifest["status"] == "used"]
    names = sorted(used["label"].unique())
    if len(names) < 2:
        raise DataError(f"two classes or more are needed, but usable films were found only in {names or 'none'}.")
    if config.label_from == "subtype" and used["subtype"].isna().all():
        raise ConfigError("--label-from subtype needs names like person1_bacteria_2.jpeg, but no film has a subtype.")
    if len(names) > 2:
        if config.positive is not None:
            raise ConfigError(f"--positive is for two classes; {len(names)} were found: {', '.join(names)}.")
        return names
    positive = config.positive or "PNEUMONIA"
    if positive not in names:
        raise ConfigError(
            f"--positive must name one of the classes {names[0]!r} and {names[1]!r}, got {config.positive!r}."
        )
    return sorted(names, key=lambda name: name == positive)
