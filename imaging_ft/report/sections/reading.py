"""How to read the page, and what it can't say."""

from dataclasses import dataclass

from imaging_ft.report.result import Estimate, Report
from imaging_ft.report.wording import metric_parts, metric_title

_ABSENT_COLUMNS = (
    "No column is recorded beside image, label, split and group, so nothing is said here about sites, devices or"
    " patients."
)
_FIGURES = {
    "auroc": "AUROC: how often an image of the class gets a higher probability of it than one of another class; 0.5"
    " is chance.",
    "auprc": "AUPRC: the precision, averaged over all thresholds; chance is the share of the class.",
    "macro_f1": "Macro-F1: the mean over the classes of F1, which weighs misses and false alarms alike.",
    "brier": "Brier score: the mean squared error of the probabilities; smaller is better.",
    "ece": "ECE, the expected calibration error: how far probability and accuracy lie apart, on average; smaller is"
    " better.",
}


@dataclass(frozen=True)
class Reading:
    """What occurs on the page and so has to be explained."""

    figures: list[str]
    """A sentence for each family of metrics that isn't explained elsewhere."""
    delong: bool
    jackknife: str
    """The metrics whose intervals are jackknifed, in words; empty without."""
    by_group: bool
    """Whether an interval counts groups rather than images."""


def reading(report: Report) -> Reading:
    """Return what has to be explained of a report."""
    found: list[tuple[str, Estimate]] = [*report.overall.metrics.items()]
    found += [item for cell in report.cells for item in cell.metrics.items()]
    families = {metric_parts(name)[0]: estimate.method.removesuffix("_by_group") for name, estimate in found}
    jackknifed = [metric_title(name) for name in (*_FIGURES, "balanced_accuracy") if families.get(name) == "jackknife"]
    return Reading(
        [words for name, words in _FIGURES.items() if name in families],
        "delong" in families.values(),
        ", ".join(jackknifed),
        any(estimate.method.endswith("_by_group") for _, estimate in found),
    )


def limitations(report: Report) -> list[str]:
    """Return what the page can't say: the report's limitations, and what it has no data for."""
    if any(cell.source == "recorded" for cell in report.cells):
        return list(report.limitations)
    return [*report.limitations, _ABSENT_COLUMNS]
