"""From predictions to the report: every cell's evidence, what lies between cells, and the gates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imaging_ft.augment.conditions import CONDITIONS
from imaging_ft.bundle import decide
from imaging_ft.errors import DataError
from imaging_ft.image import TAGS
from imaging_ft.report.calibration import detail
from imaging_ft.report.discover import discover
from imaging_ft.report.gallery import worst_failures
from imaging_ft.report.gates import AT_THRESHOLD
from imaging_ft.report.metrics import evidence, shares
from imaging_ft.report.observed import Observed, Slice, codes_of, observe
from imaging_ft.report.paired import difference, holm, paired
from imaging_ft.report.pixels import MEASURES
from imaging_ft.report.result import Against, Cell, Column, Detail, Discovered, Estimate, Evidence, Gap, Report
from imaging_ft.report.scored import Scored
from imaging_ft.report.store import Conditions, Predictions, thresholds_of
from imaging_ft.report.wording import name_of
from imaging_ft.types import Json, Status, Task, Track, silent

LIMITATIONS = (
    "Synthetic conditions are physical models laid over the test images; they are not recordings of them.",
    "The severities of one condition are measured on the same images; they are not more evidence.",
    "Measured conditions are estimated from the pixels: what an image shows and how it was taken are not told apart.",
    "Nothing here speaks of images from another source, another task or another population.",
)
FEW_GROUPS = 10
"""Below so many groups, an interval by group says little."""


@dataclass(frozen=True)
class _Part:
    """The rows of one cell, and of the other model on the same images."""

    cell: Cell
    rows: Scored
    other: Scored | None


def assemble(
    predictions: Predictions,
    *,
    other: Predictions | None = None,
    cross: Sequence[Sequence[str]] = (),
    track: Track = silent,
) -> Report:
    """Return the report of predictions, without gates.

    `other` holds another model's predictions of the same images in the same settings; `cross` names recorded or
    measured columns, two or three at a time, whose intersections become cells. Raises ConfigError where a column is
    unknown, and DataError where the two tables are of different images.
    """
    about, task = predictions.about, predictions.task
    clean = predictions.clean
    if other is not None:
        _refuse_other_images(predictions, other)
    recorded, measured = _observe(predictions, cross)
    overall = _evidence(clean, predictions)
    parts: list[_Part] = []
    slices = [*recorded.slices, *measured.slices]
    todo: list[int | Slice] = [*range(1, len(predictions.settings)), *slices]
    twin = other.clean if other is not None else None
    for place in track(todo, "evaluating", len(todo)):
        if isinstance(place, Slice):
            rows, beside = clean.take(place.positions), twin.take(place.positions) if twin is not None else None
            found = _evidence(rows, predictions)
            cell = Cell(**found.model_dump(), source=place.source, conditions=dict(place.conditions), axes=place.axes)
        else:
            rows, beside = predictions.of(place), other.of(place) if other is not None else None
            cell = _synthetic(predictions, predictions.settings[place], _evidence(rows, predictions))
        parts.append(_Part(cell, rows, beside))
    synthetic = sorted(
        (part for part in parts if part.cell.source == "synthetic"), key=lambda part: _badness(part.cell)
    )
    parts = [*synthetic, *(part for part in parts if part.cell.source != "synthetic")]
    against, cells = _compared(parts, clean, other, task)
    defined = [cell for cell in cells if cell.source == "synthetic" and cell.status is not Status.UNDEFINED]
    worst = defined[0] if defined else None
    return Report(
        created=about.created,
        tool=about.tool,
        model=about.model,
        dataset=about.dataset,
        suite=about.suite,
        severities=about.severities,
        conditions=about.conditions,
        positive=about.positive,
        overall=overall,
        cells=cells,
        mean=_means([cell.metrics for cell in defined]),
        worst=worst,
        columns=[*recorded.columns, *measured.columns],
        gaps=[*_synthetic_gaps(predictions, cells, clean), *_observed_gaps(recorded, measured, parts, task)],
        details=_details(predictions, worst),
        against=against,
        discovered=_discovered(recorded, measured, clean),
        failures=worst_failures(predictions),
        gates=[],
        warnings=[*about.warnings, *recorded.notes, *measured.notes, *_cautions(overall, clean, predictions.labels)],
        limitations=list(LIMITATIONS),
    )


def _evidence(rows: Scored, predictions: Predictions) -> Evidence:
    """Return the evidence of rows, with what the operating points reach where some were chosen."""
    labels, task = predictions.labels, predictions.task
    found = evidence(rows, labels, task=task)
    model = predictions.about.model
    if model.thresholds is None or task is Task.MULTILABEL or not found.metrics:
        return found
    alarms = decide(rows.probabilities, task=Task.MULTILABEL, thresholds=thresholds_of(model))
    at = shares(Scored(rows.truth, rows.probabilities, alarms, rows.groups), labels, task=Task.MULTILABEL)
    added = {share.name.replace("[", f"{AT_THRESHOLD}[", 1): share.estimate for share in at}
    return found.model_copy(update={"metrics": found.metrics | added})


def _observe(predictions: Predictions, cross: Sequence[Sequence[str]]) -> tuple[Observed, Observed]:
    """Return the recorded and the measured columns; an intersection is of columns of one kind."""
    known = set(predictions.measured.columns)
    of_measured = [names for names in cross if set(names) <= known]
    of_recorded = [names for names in cross if not set(names) <= known]
    return (
        observe(predictions.recorded, source="recorded", cross=of_recorded, titles=TAGS),
        observe(predictions.measured, source="measured", cross=of_measured, titles=MEASURES),
    )


def _synthetic(predictions: Predictions, conditions: Conditions, found: Evidence) -> Cell:
    practised = {info.name for info in predictions.about.conditions if info.practised}
    return Cell(
        **found.model_dump(),
        source="synthetic",
        conditions=conditions,
        axes=[CONDITIONS[name].axis.value for name in conditions],
        practised=set(conditions) <= practised,
    )


def _badness(cell: Cell) -> tuple[float, float]:
    """Sort cells worst first: by accuracy, then by balanced accuracy; undefined ones last."""
    nothing = Estimate(value=2, low=2, high=2, method="wilson")
    accuracy, balanced = (cell.metrics.get(name, nothing).value for name in ("accuracy", "balanced_accuracy"))
    return accuracy, balanced


def _means(metrics: Sequence[dict[str, Estimate]]) -> dict[str, float]:
    """Return the mean over cells of each metric that every cell has."""
    if not metrics:
        return {}
    shared = [name for name in metrics[0] if all(name in found for found in metrics)]
    return {name: float(np.mean([found[name].value for found in metrics])) for name in shared}


def _refuse_other_images(predictions: Predictions, other: Predictions) -> None:
    where = f"{other.about.model.file} against {predictions.about.model.file}"
    if predictions.settings != other.settings or predictions.starts != other.starts:
        raise DataError(f"{where}: the two were not measured in the same settings; measure both with one command")
    if not predictions.names.equals(other.names) or not np.array_equal(predictions.images, other.images):
        raise DataError(f"{where}: the two were not measured on the same images; measure both with one command")
    if predictions.labels != other.labels:
        raise DataError(
            f"{where}: the two models name different classes ({', '.join(other.labels)} and"
            f" {', '.join(predictions.labels)}); compare models of the same classes in the same order"
        )


def _compared(
    parts: Sequence[_Part], clean: Scored, other: Predictions | None, task: Task
) -> tuple[Against | None, list[Cell]]:
    """Return how the two models compare, and the cells with their differences, adjusted by Holm over all of them."""
    if other is None:
        return None, [part.cell for part in parts]
    beside = other.clean
    overall = paired(clean, beside, task=task)
    found = [
        paired(part.rows, part.other, task=task)
        if part.other is not None and part.cell.status is not Status.UNDEFINED
        else None
        for part in parts
    ]
    first, *rest = holm([overall.p, *(pair.p for pair in found if pair)])
    adjusted = iter(rest)
    cells = [
        part.cell.model_copy(update={"against": pair and pair.model_copy(update={"p_holm": next(adjusted)})})
        for part, pair in zip(parts, found, strict=True)
    ]
    about = other.about.model
    against = Against(
        file=about.file,
        sha256=about.sha256,
        overall=overall.model_copy(update={"p_holm": first}),
        **_corruption(parts, clean, beside),
    )
    return against, cells


def _corruption(parts: Sequence[_Part], clean: Scored, other_clean: Scored) -> Json:
    """Return the corruption errors over single conditions (Hendrycks & Dietterich 2019)."""
    errors: dict[str, list[tuple[float, float]]] = {}
    for part in parts:
        if part.cell.source == "synthetic" and len(part.cell.conditions) == 1 and part.other is not None:
            (name,) = part.cell.conditions
            errors.setdefault(name, []).append((_error(part.rows), _error(part.other)))
    base, other_base = _error(clean), _error(other_clean)
    absolute: dict[str, float] = {}
    relative: list[float] = []
    for name, found in sorted(errors.items()):
        this, that = (float(np.sum(side)) for side in zip(*found, strict=True))
        if that > 0:
            absolute[name] = this / that
        if that - len(found) * other_base > 0:
            relative.append((this - len(found) * base) / (that - len(found) * other_base))
    return {
        "mce": float(np.mean(list(absolute.values()))) if absolute and len(absolute) == len(errors) else None,
        "relative_mce": float(np.mean(relative)) if relative and len(relative) == len(errors) else None,
        "by_condition": absolute,
    }


def _error(rows: Scored) -> float:
    return float(1 - rows.right.mean())


def _synthetic_gaps(predictions: Predictions, cells: Sequence[Cell], clean: Scored) -> list[Gap]:
    """Return for each condition how far its worst severity lies below clean, on the same images."""
    found: list[Gap] = []
    for info in predictions.about.conditions:
        own = [cell for cell in cells if cell.source == "synthetic" and list(cell.conditions) == [info.name]]
        worst = next((cell for cell in own if cell.status is not Status.UNDEFINED), None)
        if worst is None:
            continue
        setting = predictions.settings.index(worst.conditions)
        rows = predictions.of(setting)
        if not np.array_equal(predictions.images_of(setting), predictions.images_of(0)):
            continue  # stored predictions of other images: no pairs, and no gap on the same images
        metrics = difference(clean, rows, task=predictions.task, same_images=True)
        found.append(
            Gap(
                of=info.name,
                source="synthetic",
                best="clean",
                worst=name_of(worst.conditions),
                metrics=metrics,
            )
        )
    return found


def _observed_gaps(recorded: Observed, measured: Observed, parts: Sequence[_Part], task: Task) -> list[Gap]:
    """Return for each column how far its worst cell lies below its best one."""
    found: list[Gap] = []
    columns: list[Column] = [*recorded.columns, *measured.columns]
    for column in columns:
        own = [
            part
            for part in parts
            if part.cell.source == column.source
            and list(part.cell.conditions) == [column.name]
            and part.cell.status is not Status.UNDEFINED
        ]
        if len(own) < 2:
            continue
        best = max(own, key=lambda part: part.cell.metrics["accuracy"].value)
        worst = min(own, key=lambda part: part.cell.metrics["accuracy"].value)
        found.append(
            Gap(
                of=column.name,
                source=column.source,
                best=name_of(best.cell.conditions, column.source),
                worst=name_of(worst.cell.conditions, column.source),
                metrics=difference(best.rows, worst.rows, task=task, same_images=False),
            )
        )
    return found


def _details(predictions: Predictions, worst: Cell | None) -> list[Detail]:
    """Return what lies behind clean, the worst cell, and each condition at its highest severity."""
    strongest: dict[str, Conditions] = {}
    for conditions in predictions.settings[1:]:
        if len(conditions) == 1:
            ((name, severity),) = conditions.items()
            known = strongest.get(name)
            if known is None or int(known[name]) < int(severity):
                strongest[name] = conditions
    wanted: list[Conditions] = [{}, *([worst.conditions] if worst else [])]
    wanted += [conditions for conditions in strongest.values() if conditions not in wanted]
    found: list[Detail] = []
    for conditions in wanted:
        rows = predictions.of(predictions.settings.index(conditions))
        if len(rows.truth):
            found.append(detail(rows, predictions.labels, task=predictions.task, conditions=conditions))
    return found


def _discovered(recorded: Observed, measured: Observed, clean: Scored) -> list[Discovered]:
    codes = codes_of(recorded, len(clean.truth)) | codes_of(measured, len(clean.truth))
    return discover(codes, clean.right, clean.groups) if codes else []


def _cautions(overall: Evidence, clean: Scored, labels: Sequence[str]) -> list[str]:
    """Return what a reader must know of the images before any figure."""
    found: list[str] = []
    if overall.groups < FEW_GROUPS and overall.n >= FEW_GROUPS:
        found.append(
            f"the {overall.n} images come from only {overall.groups} groups (patients, series, cameras): intervals say"
            " little of new ones; measure on at least 30"
        )
    occurring = [labels[place] for place in np.flatnonzero(clean.truth.sum(axis=0)).tolist()]
    if len(occurring) < 2 <= len(labels):
        which = repr(occurring[0]) if occurring else "no class"
        found.append(
            f"the images show {which} alone: what the model does on others, AUROC and balanced accuracy are not defined"
        )
    return found
