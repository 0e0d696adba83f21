"""The surest errors of a run, each as a picture of the image and of where the network that never saw it looked."""

import logging
from typing import Any

import numpy as np
import pandas as pd

from cxr.dataset.pictures import read_pictures
from cxr.errors import DataError, UnreadableError
from cxr.network.grad_cam import grad_cam, overlay
from cxr.report.markup import thumbnail
from cxr.training.predictions import load_network
from cxr.training.run import Run

log = logging.getLogger(__name__)

GALLERY_PX = 220


def gallery(run: Run, errors: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return a row for each image with `pictures`: the image and its map as data URIs, or none where the image is gone.

    Args:
        run: finished.
        errors: columns path, image_id, fold, called, and what else a row is to hold.
    """
    index = {name: k for k, name in enumerate(run.classes)}
    shown: dict[str, tuple[str, str]] = {}
    read = None
    for fold, rows in errors.groupby("fold"):
        try:
            read = read or read_pictures(run.config, GALLERY_PX)
            asked_for = rows["predicted"].map(index).to_numpy().astype(np.int64)
            heat = grad_cam([load_network(run, int(str(fold)))], run.squares(rows), asked_for)
            for row, one in zip(rows.itertuples(), heat, strict=True):
                grey = read(str(row.path), str(row.image_id)).grey
                laid_over = overlay(np.asarray(grey), one)
                shown[str(row.path)] = thumbnail(grey, GALLERY_PX), thumbnail(laid_over, GALLERY_PX)
        except (DataError, UnreadableError) as error:
            log.warning("no pictures of the errors of fold %s: %s", fold, error)
    rows = errors.to_dict("records")
    return [row | {"pictures": shown.get(str(row["path"]), ())} for row in rows]
