"""Predictions as a table: what a model said of each image in each setting, beside what the image shows.

A report is made from this table alone, so that it can be made again, or from predictions that another program wrote:

| column | |
|---|---|
| `truth` | the class; of a multi-label task every class, joined by `|` |
| `p_<label>` | the probability of each class, for every label of the model |
| `image` | the image's name; without it every row is another image |
| `group` | patient, series or camera; without it every image stands for itself |
| `setting` | `clean`, `low_dose@3`, or `low_dose@3,roll@5`; without it every row is clean |
| `status` | `ok`, or `rejected` where the model's bounds reject the image; without it nothing is |
| any other | a recorded condition of the clean rows |

A table that a report wrote also holds the columns of `imaging-ft predict`, and says in its metadata what was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from imaging_ft.bundle import DEFAULT_THRESHOLD, SEPARATOR, Said, decide
from imaging_ft.config import reason
from imaging_ft.errors import InputError
from imaging_ft.inference.rejection import REASONS
from imaging_ft.report.metrics import Scored
from imaging_ft.report.result import ConditionInfo, DatasetInfo, ModelInfo, Written
from imaging_ft.types import Floats, Ints, Task

SCHEMA = "imaging_ft.predictions/1"
METADATA = "imaging_ft.predictions"
PREFIX = "p_"
CLEAN = "clean"
REJECTED = "rejected"
UNKNOWN = "not recorded"
_OF_PREDICT = ("status", "label", "probability", "reason", "model_sha256")
_OWN = ("image", "group", "truth", "setting", *_OF_PREDICT)

Conditions = dict[str, int | str]


class About(Written):
    """What a report says that no row holds."""

    created: str
    tool: str
    model: ModelInfo
    dataset: DatasetInfo
    suite: str
    severities: list[int]
    conditions: list[ConditionInfo]
    positive: list[str]
    warnings: list[str]
    rejects: bool = False
    """Whether the model has bounds by which it rejects images; where it has none, nothing is said of rejection."""
    recorded: list[str]
    """The columns that were recorded …"""
    measured: list[str]
    """… and those that were measured of the pixels."""


@dataclass(frozen=True)
class Predictions:
    """What a model said: rows by setting, clean first, and in each setting by image."""

    about: About
    settings: tuple[Conditions, ...]
    starts: tuple[int, ...]
    """Where each setting's rows begin, and after the last one the number of rows."""
    rows: Scored
    images: Ints
    """[rows]: a number for each image, the same in every setting; `names` says which."""
    names: pl.Series
    recorded: pl.DataFrame
    """A row for each clean row, as are those of `measured`."""
    measured: pl.DataFrame

    @property
    def labels(self) -> list[str]:
        """The classes in the order of the probabilities."""
        return self.about.model.labels

    @property
    def task(self) -> Task:
        """What the model decides."""
        return Task(self.about.model.task)

    @property
    def clean(self) -> Scored:
        """The clean rows: the first setting's."""
        return self.of(0)

    def of(self, setting: int) -> Scored:
        """Return the rows of a setting, by its position."""
        return self.rows.take(slice(self.starts[setting], self.starts[setting + 1]))

    def image_name(self, number: int) -> str:
        """Return the name of an image by its number; where images have none, its row (from 1)."""
        return str(self.names[number]) if len(self.names) else f"row {number + 1}"

    def images_of(self, setting: int) -> Ints:
        """Return the numbers of a setting's images."""
        return self.images[self.starts[setting] : self.starts[setting + 1]]


def setting_name(conditions: Mapping[str, int | str]) -> str:
    """Return a setting as the table writes it: `clean`, `low_dose@3,roll@5`."""
    return ",".join(f"{name}@{severity}" for name, severity in conditions.items()) or CLEAN


def write_predictions(
    path: Path,
    about: About,
    *,
    images: Sequence[str],
    groups: Sequence[str],
    truth: Said,
    settings: Sequence[Conditions],
    probabilities: Floats,
    rejected: npt.NDArray[np.uint8],
    observed: pl.DataFrame,
) -> None:
    """Write the table of a measurement: probabilities [images, settings, classes], truth [images, classes].

    `rejected` [images, settings] is 0, or the place of a reason in REASONS, from 1. `observed` has a row for each image
    and the columns `about.recorded` and `about.measured`. Raises InputError where the file can't be written.
    """
    labels, task = about.model.labels, Task(about.model.task)
    said = decide(probabilities.reshape(-1, len(labels)), task=task, thresholds=thresholds_of(about.model)).reshape(
        probabilities.shape
    )
    shown = _texts(truth, labels)
    reasons = pl.Series([None, *REASONS], dtype=pl.String)
    parts = [
        pl.DataFrame(
            {
                "image": images,
                "group": groups,
                "setting": [setting_name(conditions)] * len(images),
                "truth": shown,
                "status": pl.Series(np.where(rejected[:, number], REJECTED, "ok").tolist()),
                "label": _texts(said[:, number], labels),
                "probability": _of_said(probabilities[:, number], said[:, number]),
                **{f"{PREFIX}{label}": probabilities[:, number, column] for column, label in enumerate(labels)},
                "reason": reasons.gather(rejected[:, number].astype(np.uint32)),
                "model_sha256": [about.model.sha256] * len(images),
            }
        )
        .with_columns(pl.when(pl.col("status") == "ok").then(pl.col("label", "probability")))
        .hstack(observed)
        for number, conditions in enumerate(settings)
    ]
    temporary = path.with_name(f".{path.name}.part")
    try:
        table = pl.concat(parts)
        table.write_parquet(temporary, metadata={METADATA: about.model_dump_json(by_alias=True)})
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: can't be written: {reason(error)}") from error
    finally:
        temporary.unlink(missing_ok=True)


def reserved(name: str, labels: Sequence[str]) -> bool:
    """Return whether a column of that name would stand for something else in the table."""
    return name in _OWN or name in {f"{PREFIX}{label}" for label in labels}


def thresholds_of(model: ModelInfo) -> list[float]:
    """Return each class's threshold, in the order of the labels."""
    thresholds = model.thresholds or {}
    return [thresholds.get(label, DEFAULT_THRESHOLD) for label in model.labels]


def _texts(shown: Said, labels: Sequence[str]) -> list[str]:
    """Return what rows [n, classes] show as texts; several classes are joined."""
    if (shown.sum(axis=1) == 1).all():
        return np.array(labels)[shown.argmax(axis=1)].tolist()
    return [SEPARATOR.join(label for label, there in zip(labels, row, strict=True) if there) for row in shown.tolist()]


def _of_said(probabilities: Floats, said: Said) -> Floats:
    """Return the probability of what was said, or the largest of all where nothing was."""
    chosen = np.where(said, probabilities, -1.0).max(axis=1)
    return np.where(said.any(axis=1), chosen, probabilities.max(axis=1))
