"""What the endpoint answers with: JSON in ASCII, as names in it come from outside; and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from cxr.network.heat_map import map_method
from cxr.serving.origin import describe_origin
from cxr.serving.package import Package
from cxr.serving.scoring.scores import column_types
from cxr.wording import DISCLAIMER


class Answer(JSONResponse):
    """A JSON document."""

    def render(self, content: Any) -> bytes:
        """Return the document as it is sent."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Picture(Response):
    """A PNG file."""

    media_type = "image/png"


def predictions(package: Package, rows: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """Return the document of a prediction: the model, and the row of each file with every column of the scores."""
    columns = list(column_types(package.outputs))
    images = [{name: _plain(row.get(name)) for name in columns} for row in rows]
    return {"note": DISCLAIMER, "model": package.name, "model_version": package.version, "images": images}


def _plain(value: object) -> object:
    """Return a value of a row as JSON has it; null for what is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value


def models(package: Package) -> dict[str, Any]:
    """Return the document that describes the model that answers."""
    described = {
        "name": package.name,
        "version": package.version,
        "sha256": package.file_hash,
        "outputs": list(package.outputs),
        "has_findings": package.outputs.link == "sigmoid",
        "size": package.size,
        "map": str(map_method(package.size)),
        "n_folds": package.n_folds,
        "operating_point": package.operating_point,
        "thresholds": package.thresholds_of or package.thresholds,
        "thresholds_from": describe_origin(package.facts),
        "refer": None if package.referral is None else package.referral.level,
    }
    return {"note": DISCLAIMER, "models": [described]}
