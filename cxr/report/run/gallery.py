"""The images that a run's report shows.

Each of the most confident errors is beside the map of where the network that held it out looked; the label suspects are
by themselves: whoever judges a label should not see what the network thinks.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from cxr.dataset.pictures import find_pictures, read_pictures
from cxr.errors import DataError, UnreadableError
from cxr.network.heat_map import heat_maps, overlay
from cxr.report.markup import THUMBNAIL_PX, thumbnail
from cxr.training.predictions import load_network
from cxr.training.run import Run

log = logging.getLogger(__name__)

GALLERY_PX = 220
"""Longest side of a picture."""
N_SUSPECTS = 24


def gallery(run: Run, errors: pd.DataFrame, columns: Mapping[str, int]) -> list[dict[Any, Any]]:
    """Return the rows with `pictures`: the image and its map as data URIs, or an empty tuple if the image is gone.

    Args:
        run: finished.
        errors: columns path, image_id, fold and predicted; any others are kept.
        columns: the network's output that shows where it looked for each class that is predicted.
    """
    pictures: dict[str, tuple[str, str]] = {}
    read = None
    for fold, rows in errors.groupby("fold"):
        try:
            read = read or read_pictures(run.config, GALLERY_PX)
            targets = rows["predicted"].map(columns).to_numpy().astype(np.int64)
            maps = heat_maps([load_network(run, int(str(fold)))], run.squares(rows), targets, run.outputs.link)
            for row, heat in zip(rows.itertuples(), maps, strict=True):
                grey = read(str(row.path), str(row.image_id)).grey
                overlaid = overlay(np.asarray(grey), heat)
                pictures[str(row.path)] = thumbnail(grey, GALLERY_PX), thumbnail(overlaid, GALLERY_PX)
        except (DataError, UnreadableError) as error:
            log.warning("the errors of fold %s are shown without pictures: %s", fold, error)
    return [row | {"pictures": pictures.get(str(row["path"]), ())} for row in errors.to_dict("records")]


def suspects(run: Run, ranked: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return the rows of the first label suspects with `picture`: the image as a data URI, or None if it is gone.

    Args:
        run: finished.
        ranked: of `label_suspects`.
    """
    first = ranked[ranked["is_suspect"]].head(N_SUSPECTS)
    pictures = find_pictures(run.config, zip(first["path"], first["image_id"], strict=True), THUMBNAIL_PX)
    rows = zip(first.to_dict("records"), pictures, strict=True)
    return [row | {"picture": picture and thumbnail(picture.grey)} for row, picture in rows]
