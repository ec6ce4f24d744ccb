"""Versions of the metadata's schema: an earlier one is read as the present one, a later one says what to do."""

from collections.abc import Callable

from imaging_ft.errors import BundleError
from imaging_ft.types import Json

SCHEMA = "imaging_ft.bundle/2"


def upgraded(values: Json, *, where: str) -> Json:
    """Return a bundle's metadata in the present schema; raises BundleError naming the file where there is no way."""
    while (found := values.get("schema")) != SCHEMA:
        step = _STEPS.get(str(found))
        if step is None:
            raise BundleError(
                f"{where}: bundle schema {found!r}, but this version reads {_readable()}; {_remedy(found)}"
            )
        values = step(values)
    return values


def _from_1(values: Json) -> Json:
    """Before there were targets: every file was float32 for any provider, preprocessing inside."""
    graph: Json = {
        "target": "server-cpu",
        "precision": "fp32",
        "opset": 18,
        "preprocessing": "inside",
        "resize": "antialias",
        "batch": None,
        "batches": [1, 2, 4, 8, 16, 32],
        "providers": ["CPUExecutionProvider"],
    }
    return {**values, "schema": "imaging_ft.bundle/2", "graph": graph}


_STEPS: dict[str, Callable[[Json], Json]] = {"imaging_ft.bundle/1": _from_1}
"""How an earlier schema's metadata become the next one's."""


def _readable() -> str:
    return " and ".join(repr(schema) for schema in (*_STEPS, SCHEMA))


def _remedy(found: object) -> str:
    name, _, version = str(found).rpartition("/")
    if name == SCHEMA.rpartition("/")[0] and version.isdecimal() and int(version) > int(SCHEMA.rpartition("/")[2]):
        return "it was written by a later imaging_ft: update this one, or export the run again here"
    return "export it again"
