"""Overall: every metric of the clean images, and which classes are taken for which."""

from dataclasses import dataclass

from imaging_ft.report.result import Detail, Estimate, Report
from imaging_ft.report.sections.verdict import multilabel
from imaging_ft.report.wording import (
    SMALLER_IS_BETTER,
    method_title,
    metric_parts,
    metric_title,
    name_of,
    number,
)

_SUMMARIES = ("balanced_accuracy", "accuracy", "macro_f1", "brier", "ece", "rejected", "accuracy_answered")
_FAMILIES = ("sensitivity", "specificity", "auroc", "auprc")
_SHOWN_ROWS = 24
"""More rows than so many are folded away, all but the first few."""
_MOST_CLASSES = 20
"""A confusion matrix of more classes can't be read; its largest entries are listed instead."""
_MOST_PAIRS = 10
_SHORT_LABEL = 12


@dataclass(frozen=True)
class MetricRow:
    """A line of the overall table."""

    title: str
    note: str
    estimate: Estimate
    method: str
    n: int
    first: bool
    """Whether it belongs to a class whose sensitivity is reported first."""


@dataclass(frozen=True)
class Constant:
    """What a model would reach that always answers the same: the most frequent class, or no class at all."""

    answer: str
    accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True)
class ConfusionRow:
    """The images of one class: how many were said to be of each."""

    label: str
    counts: list[tuple[int, float]]
    """(count, share of the row), by what was said."""
    n: int


@dataclass(frozen=True)
class Confusion:
    """Which classes are taken for which, under one condition."""

    title: str
    rows: list[ConfusionRow]
    """Empty where there are too many classes for a matrix."""
    pairs: list[tuple[str, str, int, int]]
    """(truth, said, count, images of that truth), most frequent first, instead of the matrix."""


@dataclass(frozen=True)
class Overall:
    """What stands in the part."""

    rows: list[MetricRow]
    more: list[MetricRow]
    """Rows that are folded away."""
    constant: Constant | None
    confusions: list[Confusion]
    numbered: bool
    """Whether the matrices' columns carry numbers, because the labels are long or many."""
    grouped: bool
    """Whether several images come from one group."""
    by_group: bool
    """Whether the intervals count groups rather than images."""


def overall(report: Report) -> Overall:
    """Return the part on the clean images."""
    rows = _metric_rows(report)
    leading = sum(row.first for row in rows) + sum(name in report.overall.metrics for name in _SUMMARIES)
    shown = len(rows) if len(rows) <= _SHOWN_ROWS else leading
    labels = report.model.labels
    return Overall(
        rows=rows[:shown],
        more=rows[shown:],
        constant=_constant(report),
        confusions=[found for detail in report.details[:2] if (found := _confusion(detail, report))],
        numbered=len(labels) > 6 or any(len(label) > _SHORT_LABEL for label in labels),
        grouped=report.overall.groups < report.overall.n,
        by_group=any(found.method.endswith("_by_group") for found in report.overall.metrics.values()),
    )


def _metric_rows(report: Report) -> list[MetricRow]:
    """Return every overall metric: the positive classes' sensitivity first, then the whole, then class by class."""
    metrics = report.overall.metrics
    leading = [f"sensitivity[{label}]" for label in report.positive]
    families = [name for family in _FAMILIES for name in metrics if metric_parts(name)[0] == family]
    ordered = dict.fromkeys([*leading, *_SUMMARIES, *families, *metrics])
    return [_row(report, name, first=name in leading) for name in ordered if name in metrics]


def _row(report: Report, name: str, *, first: bool) -> MetricRow:
    classes, n = report.dataset.classes, report.overall.n
    family, label = metric_parts(name)
    counted = label in classes and (multilabel(report) or sum(classes.values()) == n)
    if counted:
        n = {"sensitivity": classes[label], "specificity": n - classes[label]}.get(family, n)
    note = "smaller is better" if name in SMALLER_IS_BETTER else ""
    if counted and family == "auprc" and n:
        note = f"by chance {number(classes[label] / n)}"
    estimate = report.overall.metrics[name]
    return MetricRow(metric_title(name), note, estimate, method_title(estimate.method), n, first)


def _constant(report: Report) -> Constant | None:
    """Return what always answering the most frequent class reaches; of a multi-label task, always answering none."""
    data = report.dataset
    if multilabel(report):
        return Constant("none of the labels", data.none / data.n, 0.5) if data.none is not None and data.n else None
    total = sum(data.classes.values())
    if not total:
        return None
    label = max(data.classes, key=lambda name: data.classes[name])
    occurring = sum(1 for count in data.classes.values() if count)
    return Constant(label, data.classes[label] / total, 1 / occurring)


def _confusion(detail: Detail, report: Report) -> Confusion | None:
    matrix, labels = detail.confusion, report.model.labels
    if matrix is None or not any(map(sum, matrix)):
        return None
    title = f"under {name_of(detail.conditions)}, the worst cell" if detail.conditions else "on the clean images"
    if len(labels) > _MOST_CLASSES:
        wrong = [
            (labels[truth], labels[said], count, sum(line))
            for truth, line in enumerate(matrix)
            for said, count in enumerate(line)
            if count and truth != said
        ]
        return Confusion(title, [], sorted(wrong, key=lambda pair: -pair[2])[:_MOST_PAIRS])
    rows = [
        ConfusionRow(label, [(count, count / (sum(line) or 1)) for count in line], sum(line))
        for label, line in zip(labels, matrix, strict=True)
    ]
    return Confusion(title, rows, [])
