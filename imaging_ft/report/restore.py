"""Stored predictions, read back and checked: a report's own, or a table that another program wrote."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from imaging_ft import __version__
from imaging_ft.augment.conditions import CONDITIONS, condition
from imaging_ft.bundle import DEFAULT_THRESHOLD, SEPARATOR, Said, decide
from imaging_ft.catalog import suggest
from imaging_ft.config import reason
from imaging_ft.errors import DataError
from imaging_ft.report.metrics import Scored
from imaging_ft.report.result import ConditionInfo, DatasetInfo, ModelInfo
from imaging_ft.report.store import (
    CLEAN,
    METADATA,
    PREFIX,
    REJECTED,
    SCHEMA,
    UNKNOWN,
    About,
    Conditions,
    Predictions,
    reserved,
    setting_name,
    thresholds_of,
)
from imaging_ft.types import Floats, Ints, Task

_OUTSIDE = 1e-4
"""How far a probability may lie outside of 0 to 1 by rounding …"""
_SUM = 1e-2
"""… and how far the sum of a row from 1."""
_SHA = "__sha"


def read_predictions(path: Path) -> Predictions:
    """Return the predictions in a Parquet file, checked.

    Raises DataError where a column or the clean rows are missing, a label unknown, a probability no number, or an image
    twice in a setting, and ConfigError where a setting names an unknown condition.
    """
    schema, about = _open(path)
    labels = about.model.labels if about else [name.removeprefix(PREFIX) for name in schema if name.startswith(PREFIX)]
    if len(labels) < 2:
        raise DataError(f"{path}: no probabilities of two or more classes; name their columns {PREFIX}<label>")
    for name in ["truth", *(f"{PREFIX}{label}" for label in labels)]:
        if name not in schema:
            raise DataError(f"{path}: no column {name!r}; it has {', '.join(schema)}")
    extra = [*about.recorded, *about.measured] if about else _others(schema, labels)
    table = _load(path, schema, labels, extra)
    if not table.height:
        raise DataError(f"{path}: holds no predictions (0 rows)")
    probabilities = np.stack([table[f"{PREFIX}{label}"].to_numpy() for label in labels], axis=1)
    truth, task = _truth(path, table["truth"], labels, about)
    _refuse_odd(path, probabilities, task)
    settings, of_setting = _settings(path, table)
    if settings[0]:
        raise DataError(f"{path}: no clean predictions (setting {CLEAN!r}); a report starts from them")
    names, images = _images(table)
    groups = _groups(table, images)
    order = np.lexsort((images, of_setting)) if len(settings) > 1 or not _rising(images) else None
    if order is not None:
        probabilities, truth, images = probabilities[order], truth[order], images[order]
        groups, of_setting = groups[order], of_setting[order]
    starts = np.searchsorted(of_setting, np.arange(len(settings) + 1))
    twice = np.flatnonzero((np.diff(images) == 0) & (np.diff(of_setting) == 0))
    if len(twice):
        name, where = names[int(images[twice[0]])], setting_name(settings[int(of_setting[twice[0]])])
        raise DataError(f"{path}: image {name!r} stands twice in setting {where}; keep one row of each")
    rejected = _rejected(table, about)
    found = about or _about(path, table, labels, task, settings, truth[: starts[1]], groups, extra)
    said = decide(probabilities, task=task, thresholds=thresholds_of(found.model))
    if rejected is not None and order is not None:
        rejected = rejected[order]
    clean = np.arange(starts[1]) if order is None else order[: starts[1]]
    observed = table.select(extra)[clean] if extra else pl.DataFrame()
    return Predictions(
        about=found,
        settings=tuple(settings),
        starts=tuple(starts.tolist()),
        rows=Scored(truth, probabilities, said, groups, rejected),
        images=images,
        names=names,
        recorded=observed.select(found.recorded),
        measured=observed.select(found.measured),
    )


def _open(path: Path) -> tuple[list[str], About | None]:
    if not path.is_file():
        raise DataError(f"{path}: no such file of predictions")
    try:
        schema = list(pl.read_parquet_schema(path))
        metadata = pl.read_parquet_metadata(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: not a Parquet file, or a damaged one: {reason(error)}") from error
    if METADATA not in metadata:
        return schema, None
    try:
        return schema, About.model_validate_json(metadata[METADATA])
    except ValidationError as error:
        raise DataError(
            f"{path}: its metadata {METADATA} isn't {SCHEMA}: {reason(error)}; measure again with imaging-ft report"
        ) from error


def _others(schema: Sequence[str], labels: Sequence[str]) -> list[str]:
    return [name for name in schema if not reserved(name, labels)]


def _load(path: Path, schema: Sequence[str], labels: Sequence[str], extra: Sequence[str]) -> pl.DataFrame:
    texts = [
        pl.col(name).cast(pl.String) for name in ("image", "group", "truth", "setting", "status") if name in schema
    ]
    shares = [pl.col(f"{PREFIX}{label}").cast(pl.Float32) for label in labels]
    sha = [pl.col("model_sha256").cast(pl.String).first().alias(_SHA)] if "model_sha256" in schema else []
    try:
        return pl.scan_parquet(path).select([*texts, *shares, *(pl.col(name) for name in extra), *sha]).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: can't be read as predictions: {reason(error)}") from error


def _refuse_odd(path: Path, probabilities: Floats, task: Task) -> None:
    """Raise DataError where probabilities are none, naming the row (from 1)."""
    bad = ~((probabilities >= -_OUTSIDE) & (probabilities <= 1 + _OUTSIDE)).all(axis=1)
    what = "probabilities must be within 0 to 1"
    if not bad.any() and task is not Task.MULTILABEL:
        bad = np.abs(probabilities.sum(axis=1) - 1) > _SUM
        what = "the probabilities of one image must add up to 1"
    if bad.any():
        row = int(bad.argmax())
        values = ", ".join(f"{value:g}" for value in probabilities[row].tolist())
        raise DataError(f"{path}: row {row + 1}: {what}, not {values}; mend or drop the row")


def _coded(column: pl.Series) -> tuple[pl.Series, Ints]:
    """Return a text column's values in their order, and each row's place among them; -1 where it is empty."""
    values = column.drop_nulls().unique().sort()
    places = pl.DataFrame({"value": values, "place": np.arange(len(values))})
    joined = pl.DataFrame({"value": column}).join(places, on="value", how="left", maintain_order="left")
    return values, joined["place"].fill_null(-1).to_numpy().astype(np.int64)


def _truth(path: Path, column: pl.Series, labels: Sequence[str], about: About | None) -> tuple[Said, Task]:
    """Return what rows show [rows, classes], and the task (multi-label where a row shows several)."""
    values, codes = _coded(column)
    texts: list[str] = values.to_list()
    several = any(not text or (SEPARATOR in text and text not in labels) for text in texts)
    task = Task(about.model.task) if about else Task.MULTILABEL if several else Task.MULTICLASS
    if (codes < 0).any():
        row = int((codes < 0).argmax()) + 1
        raise DataError(f"{path}: row {row}: no truth; name the class that the image shows, or drop the row")
    table = np.zeros((len(texts), len(labels)), np.bool_)
    index = {label: position for position, label in enumerate(labels)}
    for place, text in enumerate(texts):
        for name in [part for part in text.split(SEPARATOR) if part] if task is Task.MULTILABEL else [text]:
            if name not in index:
                raise DataError(f"{path}: truth {name!r}: the model knows no such class; {suggest(name, list(labels))}")
            table[place, index[name]] = True
    return table[codes], task


def _settings(path: Path, table: pl.DataFrame) -> tuple[list[Conditions], Ints]:
    """Return the settings, clean first, then in the order in which they first occur, and each row's."""
    if "setting" not in table.columns:
        return [{}], np.zeros(table.height, np.int64)
    values, codes = _coded(table["setting"])
    if (codes < 0).any():
        row = int((codes < 0).argmax()) + 1
        raise DataError(f"{path}: row {row}: no setting; write {CLEAN} or low_dose@3")
    parsed = [_conditions(path, text) for text in values.to_list()]
    first = np.unique(codes, return_index=True)[1]
    order = sorted(range(len(parsed)), key=lambda place: (bool(parsed[place]), first[place]))
    return [parsed[place] for place in order], np.argsort(order)[codes]


def _conditions(path: Path, text: str) -> Conditions:
    if text == CLEAN:
        return {}
    found: Conditions = {}
    for part in text.split(","):
        name, mark, severity = part.strip().partition("@")
        if not mark or severity not in {"1", "2", "3", "4", "5"}:
            raise DataError(
                f"{path}: setting {text!r}: write {CLEAN}, low_dose@3 or low_dose@3,roll@5 (severity 1 to 5)"
            )
        found[condition(name, where=f"{path}: setting {text!r}").name] = int(severity)
    return found


def _images(table: pl.DataFrame) -> tuple[pl.Series, Ints]:
    """Return the images' names in their order, and each row's number among them, so that two tables agree."""
    if "image" not in table.columns:
        return pl.Series("image", [], pl.String), np.arange(table.height)
    return _coded(table["image"])


def _groups(table: pl.DataFrame, images: Ints) -> Ints:
    """Return each row's group; an image without one is a group of its own."""
    if "group" not in table.columns:
        return images
    values, codes = _coded(table["group"])
    return np.where(codes < 0, len(values) + images, codes)


def _rejected(table: pl.DataFrame, about: About | None) -> Said | None:
    """Return which rows the model's bounds reject; None where it has none, or nothing says so."""
    if "status" not in table.columns or (about is not None and not about.rejects):
        return None
    found = (table["status"] == REJECTED).fill_null(value=False).to_numpy()
    return found if about is not None or found.any() else None


def _rising(images: Ints) -> bool:
    return bool((np.diff(images) > 0).all())


def _counts(truth: Said, labels: Sequence[str]) -> dict[str, int]:
    return dict(zip(labels, truth.sum(axis=0).tolist(), strict=True))


def _about(
    path: Path,
    table: pl.DataFrame,
    labels: Sequence[str],
    task: Task,
    settings: Sequence[Conditions],
    clean: Said,
    groups: Ints,
    extra: Sequence[str],
) -> About:
    """Return what a table without our metadata lets one say."""
    named = list(dict.fromkeys(name for conditions in settings for name in conditions))
    severities = sorted({int(severity) for conditions in settings for severity in conditions.values()})
    warnings = ["the predictions were not written by imaging-ft report: nothing says which model and data they are of"]
    if named:
        warnings.append("nothing says which conditions training practised; all are called held out")
    if "group" not in table.columns:
        warnings.append("the predictions have no column 'group': every image is taken to stand for itself")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return About(
        created=UNKNOWN,
        tool=f"imaging_ft {__version__}",
        model=ModelInfo(
            file=UNKNOWN,
            sha256=str(table[_SHA][0]) if _SHA in table.columns else UNKNOWN,
            backbone=UNKNOWN,
            task=task.value,
            labels=list(labels),
            thresholds=dict.fromkeys(labels, DEFAULT_THRESHOLD) if task is Task.MULTILABEL else None,
        ),
        dataset=DatasetInfo(
            name=path.stem,
            fingerprint=digest.hexdigest(),
            split="as given",
            n=len(clean),
            groups=len(np.unique(groups)),
            classes=_counts(clean, labels),
            none=int((~clean.any(axis=1)).sum()) if task is Task.MULTILABEL else None,
        ),
        suite=UNKNOWN,
        severities=severities,
        conditions=[
            ConditionInfo(
                name=name,
                axis=CONDITIONS[name].axis,
                title=CONDITIONS[name].title,
                parameter=CONDITIONS[name].parameter,
                values={level: CONDITIONS[name].value(level) for level in severities},
                practised=False,
            )
            for name in named
        ],
        positive=[],
        warnings=warnings,
        recorded=list(extra),
        measured=[],
    )
