"""What /openapi.json says beyond the signatures: bodies, answers and their examples."""

from collections.abc import Mapping
from typing import Any

from cxr.endpoint import answers
from cxr.endpoint.bodies import FORM_TYPE, IMAGE_TYPES
from cxr.serving.package import Package
from cxr.serving.scoring.scores import column_types

REFUSALS = {
    400: ("The request is no whole image or form.", "the request has no body: send an image."),
    401: ("The request does not carry the token.", "send the header `Authorization: Bearer TOKEN`."),
    408: ("The request arrived too slowly.", "the request did not arrive whole in time: send fewer images in each."),
    413: ("The request is too large.", "the request has more than 64 MiB: send fewer images in each."),
    415: ("The body has another media type.", f"send an image as {', '.join(IMAGE_TYPES)}, or a form as {FORM_TYPE}."),
    422: (
        "A parameter or a file cannot be used, or there are too many files.",
        "a file cannot be used: not an image: no JPEG, PNG or DICOM header",
    ),
    429: ("The endpoint is busy.", "too many images are being received: send the request again later."),
}
"""By status: what it means, and an example of the sentence."""
JSON_TYPES = {"float64": "number", "Int32": "integer", "int64": "integer", "boolean": "boolean"}
"""By type of a column; the others are texts."""
PART = {"type": "string", "format": "binary"}
"""A part of a form; one that is empty has a row with a reason, as any file that cannot be used."""
BINARY = PART | {"minLength": 1}
SENTENCE = {
    "type": "object",
    "properties": {"detail": {"type": "string"}},
    "required": ["detail"],
    "additionalProperties": False,
}


def body(field: str, most: int) -> dict[str, Any]:
    """Return the description of a body: an image, or a form with one or more.

    Args:
        field: the name that each part of the form has.
        most: number of images, at most; 1 for a single one.
    """
    parts = PART if most == 1 else {"type": "array", "items": PART, "minItems": 1, "maxItems": most}
    form = {"type": "object", "properties": {field: parts}, "required": [field], "additionalProperties": False}
    types = {media_type: {"schema": BINARY} for media_type in IMAGE_TYPES}
    return {"requestBody": {"required": True, "content": {FORM_TYPE: {"schema": form}} | types}}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of answers that are one sentence."""
    return {
        status: {
            "description": REFUSALS[status][0],
            "content": {"application/json": {"schema": SENTENCE, "example": {"detail": REFUSALS[status][1]}}},
        }
        for status in statuses
    }


def predicted(package: Package) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer with predictions; `complete` adds its example."""
    columns = {name: _nullable(kind) for name, kind in column_types(package.outputs).items()}
    image = {"type": "object", "properties": columns, "required": list(columns), "additionalProperties": False}
    texts = {name: {"type": "string"} for name in ("note", "model", "model_version")}
    properties = texts | {"images": {"type": "array", "items": image, "minItems": 1}}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return _ok("A row of the scores for each image, in their order.", schema, {})


def described(package: Package) -> dict[int | str, dict[str, Any]]:
    """Return the description of an answer that describes the model."""
    properties = {"note": {"type": "string"}, "models": {"type": "array", "items": {"type": "object"}, "minItems": 1}}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return _ok("The model that answers.", schema, answers.models(package))


def healthy() -> dict[int | str, dict[str, Any]]:
    """Return the description of the answer that all is well."""
    schema = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
    return _ok("The model is loaded, and requests are answered.", schema, {"status": "ok"})


def complete(schema: dict[str, Any], package: Package, row: Mapping[str, object], *, has_token: bool) -> None:
    """Add to the schema that FastAPI makes what it cannot know, or would shorten: it leaves out what is null.

    Args:
        schema: is changed.
        package: the model, for the names of its outputs.
        row: an image's row of the scores, for the example.
        has_token: whether requests need a token.
    """
    answer = schema["paths"]["/predict"]["post"]["responses"]["200"]
    answer["content"]["application/json"]["example"] = answers.predictions(package, [row])
    for parameter in schema["paths"]["/explain"]["post"]["parameters"]:
        if parameter["name"] == "class":
            parameter["schema"] = {"type": "string", "enum": list(package.outputs)}
    if has_token:
        schemes = {"token": {"type": "http", "scheme": "bearer"}}
        schema.setdefault("components", {})["securitySchemes"] = schemes
        schema["security"] = [{"token": []}]
        schema["paths"]["/health"]["get"]["security"] = []


def _ok(description: str, schema: dict[str, Any], example: object) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {200: {"description": description, "content": content}}


def _nullable(kind: str) -> dict[str, Any]:
    return {"type": [JSON_TYPES.get(kind, "string"), "null"]}
