"""What the OpenAPI document says of the service's answers and bodies."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from imaging_ft.types import Json

_ERROR = "#/components/schemas/Error"
_CODES: Mapping[int, str] = {
    400: "The request is wrong.",
    401: "No API key, or an unknown one.",
    403: "Not allowed here.",
    404: "No model of that name.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of a kind that is not read.",
    422: "The image can't be read, or can't be run.",
    429: "Too much at once; Retry-After says when to try again.",
    503: "The service is stopping.",
    504: "No answer before the deadline.",
}
_TEXT: Json = {"type": "string"}
_NUMBER: Json = {"type": "number"}
_OR_NONE: Json = {"type": ["string", "null"]}
_BY_LABEL: Json = {"type": "object", "additionalProperties": _NUMBER}
_FILE: Json = {"type": "string", "format": "binary"}


def _record(properties: Json, *optional: str) -> Json:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_TENSOR = _record(
    {
        "name": _TEXT,
        "datatype": _TEXT,
        "shape": _list({"type": "integer"}),
        "data": {"type": "array"},
        "parameters": {"type": "object"},
    },
    "data",
    "parameters",
)
_INFERRED = _record(
    {"model_name": _TEXT, "model_version": _TEXT, "id": _TEXT, "outputs": _list(_TENSOR)},
    "id",
)
_PREDICTION = _record(
    {
        "status": {"enum": ["ok", "rejected", "error"]},
        "label": _OR_NONE,
        "labels": _list(_TEXT),
        "probability": {"type": ["number", "null"]},
        "probabilities": _BY_LABEL,
        "thresholds": {"type": "object"},
        "reason": _OR_NONE,
        "heatmap": {"type": "string", "description": "A PNG in a data URL, with heatmap=true."},
    },
    "heatmap",
)
_PREDICTED = _record(
    {
        "model": _TEXT,
        "model_version": _TEXT,
        "model_sha256": _TEXT,
        "request_id": _TEXT,
        "predictions": _list(_PREDICTION),
        "seconds": _record({"queue": _NUMBER, "compute": _NUMBER}),
    }
)
PREDICTED: dict[int | str, Any] = {
    200: {"description": "What is seen in each file.", "content": {"application/json": {"schema": _PREDICTED}}}
}
INFERRED: dict[int | str, Any] = {
    200: {
        "description": "The outputs; in binary after the JSON where that was asked for.",
        "content": {"application/json": {"schema": _INFERRED}, "application/octet-stream": {"schema": _FILE}},
    }
}
METRICS: dict[int | str, Any] = {200: {"description": "Counters.", "content": {"text/plain": {"schema": _TEXT}}}}
TENSORS: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": _TEXT,
                        "inputs": {**_list(_TENSOR), "minItems": 1, "maxItems": 1},
                        "outputs": _list({"type": "object", "required": ["name"], "properties": {"name": _TEXT}}),
                        "parameters": {"type": "object"},
                    },
                }
            },
            "application/octet-stream": {"schema": _FILE},
        },
    }
}
UPLOAD: Json = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": _FILE}}
            },
            **{
                kind: {"schema": _FILE}
                for kind in ("image/jpeg", "image/png", "image/tiff", "application/dicom", "application/octet-stream")
            },
        },
    }
}


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return what the document says of errors: one line of JSON each."""
    content = {"application/json": {"schema": {"$ref": _ERROR}}}
    return {code: {"description": _CODES[code], "content": content} for code in codes}


def describe(app: FastAPI, *, keys: bool) -> None:
    """Let the document say what an error looks like, rather than FastAPI's own 422; and that keys are wanted."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        components = document.setdefault("components", {})
        components.setdefault("schemas", {})["Error"] = _record({"error": _TEXT})
        if keys:
            components["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
        for path, operations in document["paths"].items():
            for operation in operations.values():
                found = operation["responses"].get("422")
                if found and "HTTPValidationError" in json.dumps(found):
                    del operation["responses"]["422"]
                    operation["responses"].setdefault("400", refusals(400)[400])
                if keys and not path.startswith("/v2/health/"):
                    operation["security"] = [{"bearer": []}, {"key": []}]
        return document

    app.openapi = openapi
