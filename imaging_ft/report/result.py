"""The report as data: what `report.json` holds. The page, the CSV and the gates are made from it alone."""

import json
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from imaging_ft.config import Frozen
from imaging_ft.types import Axis, Status

SCHEMA = "imaging_ft.report/1"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""The JSON Schema that `json_schema` is written in."""

Source = Literal["synthetic", "recorded", "measured"]


class _Written(Frozen):
    """A part of the file: every key is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class Estimate(_Written):
    """A metric with its 95% interval."""

    value: float
    low: float
    high: float
    method: Literal["wilson", "mover"]


class Evidence(_Written):
    """What was measured on one set of images. Keys of `metrics` are the metric names of the plan."""

    n: int
    groups: int
    """Independent units among the n images: patients, series, cameras; identical files count as one."""
    status: Status
    metrics: dict[str, Estimate]
    """`accuracy`, `balanced_accuracy`, `sensitivity[<label>]`, `specificity[<label>]`; empty if undefined.

    Of a multi-label task, accuracy is the share of images on which every label is right, and balanced accuracy the
    mean over the labels of (sensitivity + specificity) / 2; elsewhere it is the mean sensitivity.
    """


class Cell(Evidence):
    """The evidence under one condition, or one pair of them."""

    source: Source
    conditions: dict[str, int | str]
    """Condition name to severity (synthetic) or to the value or bin (recorded)."""
    axes: list[str]
    practised: bool | None = None
    """Whether training practised every condition of the cell (synthetic cells only)."""


class ConditionInfo(_Written):
    """What a synthetic condition does."""

    name: str
    axis: Axis
    title: str
    parameter: str
    """The physical parameter and its unit, such as `deviation index (dB)`."""
    values: dict[int, float]
    """The parameter's value by severity."""
    practised: bool


class ModelInfo(_Written):
    """Which file was measured."""

    file: str
    sha256: str
    backbone: str
    task: str
    labels: list[str]
    thresholds: dict[str, float] | None = None
    """By label, the probability from which it counts as present (multi-label); null: the largest is the label."""
    intended_use: str | None = None


class DatasetInfo(_Written):
    """Which images it was measured on."""

    name: str
    fingerprint: str
    split: str
    n: int
    groups: int
    classes: dict[str, int]
    """How many images show each class; of a multi-label task one image may count several times, or never."""
    none: int | None = None
    """How many images show none of the classes (multi-label)."""
    skipped: int = 0


class Gate(_Written):
    """A requirement and what became of it."""

    expr: str
    bound: Literal["low", "high"]
    observed: float | None
    outcome: Literal["pass", "fail", "insufficient"]
    detail: str


class Report(_Written):
    """Everything that was measured."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    schema_: Annotated[Literal["imaging_ft.report/1"], Field(alias="schema")] = SCHEMA
    created: str
    tool: str
    model: ModelInfo
    dataset: DatasetInfo
    suite: str
    severities: list[int]
    conditions: list[ConditionInfo]
    positive: list[str]
    """Classes whose sensitivity is reported first."""
    overall: Evidence
    """The clean images of the split."""
    cells: list[Cell]
    mean: dict[str, float]
    worst: Cell | None
    gates: list[Gate]
    warnings: list[str]
    limitations: list[str]


def json_schema() -> str:
    """Return the JSON Schema of `report.json`, which `export/report.schema.json` holds."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"
