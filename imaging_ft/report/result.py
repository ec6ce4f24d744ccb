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


class Written(Frozen):
    """A part of the file: every key is always there."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


Method = Literal[
    "wilson",
    "mover",
    "delong",
    "jackknife",
    "wilson_by_group",
    "mover_by_group",
    "delong_by_group",
    "jackknife_by_group",
]
"""How an interval was made (`docs/statistics.md`); `_by_group` where several images come from one group."""


class Estimate(Written):
    """A metric with its 95% interval."""

    value: float
    low: float
    high: float
    method: Method


class Evidence(Written):
    """What was measured on one set of images. Keys of `metrics` are the metric names of the plan."""

    n: int
    groups: int
    """Independent units among the n images: patients, series, cameras; identical files count as one."""
    status: Status
    metrics: dict[str, Estimate]
    """`accuracy`, `balanced_accuracy`, `macro_f1`, `sensitivity[<label>]`, `specificity[<label>]`, `auroc[<label>]`,
    `auprc[<label>]` (a label against the rest), `brier`, `ece`; of a model that rejects images `rejected`, the share of
    images that it does, and `accuracy_answered`, on the others alone; and where operating points were chosen
    `sensitivity_at_threshold[<label>]` and `specificity_at_threshold[<label>]`; empty if undefined.

    Of a multi-label task, accuracy is the share of images on which every label is right, and balanced accuracy the
    mean over the labels of (sensitivity + specificity) / 2; elsewhere it is the mean sensitivity.
    """


class Paired(Written):
    """The difference between this model and the other one, on the same images."""

    accuracy: Estimate
    """The difference in [-1, 1]; above 0 this model is better."""
    balanced_accuracy: Estimate | None
    only_this: int
    """Images that only this model has right …"""
    only_other: int
    """… and those that only the other has."""
    p: float
    """Of no difference in accuracy: exact McNemar, or by groups where several images come from one."""
    p_holm: float
    """The same, adjusted by Holm for all cells of the report."""


class Cell(Evidence):
    """The evidence under one condition, or a few of them together."""

    source: Source
    conditions: dict[str, int | str]
    """Condition name to severity (synthetic) or to the value or bin (recorded, measured)."""
    axes: list[str]
    practised: bool | None = None
    """Whether training practised every condition of the cell (synthetic cells only)."""
    against: Paired | None = None
    """Beside the other model, where there is one."""


class Column(Written):
    """A recorded or measured column that cuts the clean images into cells."""

    name: str
    source: Source
    title: str
    """What it is, with its unit: `brightness (share of full scale)`."""
    axis: str
    """`lighting` or `angle` where the column says how the image was taken, else the column's own name."""
    centres: list[float] | None = None
    """The middle of each cell's values, in the order of the cells, where the column is a number: a curve's places. The
    cell `(empty)`, which comes last, has none."""


class Gap(Written):
    """How far the cells of one column, or of one condition, lie apart."""

    of: str
    """A column's name, or a synthetic condition's."""
    source: Source
    best: str
    worst: str
    """The cells that are compared by accuracy: `site = A`; `clean`."""
    metrics: dict[str, Estimate]
    """Best less worst, for `accuracy` and `balanced_accuracy`."""


class Bin(Written):
    """A bin of a reliability diagram."""

    n: int
    confidence: float
    """Mean probability of what was said."""
    accuracy: Estimate


class Detail(Written):
    """What lies behind the figures of one synthetic cell."""

    conditions: dict[str, int | str]
    """Empty for clean."""
    confusion: list[list[int]] | None
    """[truth][said], in the order of the labels; null for a multi-label task."""
    reliability: list[Bin]
    """By rising confidence, bins of about as many images."""
    risk_coverage: list[tuple[float, float]]
    """(coverage, risk): the error among the most confident images, over the share of images that is answered."""
    aurc: float
    """Area under the risk–coverage curve (Geifman & El-Yaniv 2017): the mean risk."""


class Against(Written):
    """The other model."""

    file: str
    sha256: str
    overall: Paired
    mce: float | None
    """Mean corruption error: this model's summed error over the other's, a condition each, averaged (Hendrycks &
    Dietterich 2019); below 1 this model is more robust. Null where the other makes no error."""
    relative_mce: float | None
    """The same with what each loses against its own clean images."""
    by_condition: dict[str, float]
    """The corruption error of each condition."""


class Discovered(Written):
    """A slice of the clean images that was searched for, and held up on images that the search didn't see."""

    conditions: dict[str, str]
    found: Estimate
    """Accuracy on the half that was searched."""
    found_n: int
    accuracy: Estimate
    """Accuracy on the other half."""
    n: int
    rest: float
    """Accuracy of the images outside the slice, on the other half."""
    p: float
    """One-sided, of the slice being as good as the rest, on the other half, adjusted by Benjamini–Hochberg."""
    confirmed: bool
    """Whether p is below .05."""


class Failure(Written):
    """One of the worst mistakes: wrong, and sure of it."""

    image: str
    conditions: dict[str, int | str]
    """Empty for clean."""
    truth: str
    said: str
    probability: float
    """Of what was said."""
    truth_probability: float


class ConditionInfo(Written):
    """What a synthetic condition does."""

    name: str
    axis: Axis
    title: str
    parameter: str
    """The physical parameter and its unit, such as `deviation index (dB)`."""
    values: dict[int, float]
    """The parameter's value by severity."""
    practised: bool


class ModelInfo(Written):
    """Which file was measured."""

    file: str
    sha256: str
    backbone: str
    task: str
    labels: list[str]
    thresholds: dict[str, float] | None = None
    """By label, the probability from which it counts as present. In a multi-label task these decide; elsewhere the
    largest probability is the label, and chosen operating points are measured beside it; null where none were."""
    intended_use: str | None = None


class DatasetInfo(Written):
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


class Gate(Written):
    """A requirement and what became of it."""

    expr: str
    bound: Literal["low", "high"]
    observed: float | None
    outcome: Literal["pass", "fail", "insufficient"]
    detail: str


class Report(Written):
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
    columns: list[Column] = Field(default_factory=list)
    """The recorded and measured columns, in the order of their cells."""
    gaps: list[Gap] = Field(default_factory=list)
    details: list[Detail] = Field(default_factory=list)
    """Clean first, then the worst cell, then each condition at its highest severity."""
    against: Against | None = None
    discovered: list[Discovered] = Field(default_factory=list)
    failures: list[Failure] = Field(default_factory=list)
    gates: list[Gate]
    warnings: list[str]
    limitations: list[str]


def json_schema() -> str:
    """Return the JSON Schema of `report.json`, which `export/report.schema.json` holds."""
    schema = Report.model_json_schema(by_alias=True, mode="serialization")
    return json.dumps({"$schema": DIALECT, **schema}, indent=2, ensure_ascii=False) + "\n"
