"""Rejection: how many images the model's bounds turn away, and how often it is right on the others."""

from dataclasses import dataclass

from imaging_ft.report.result import Cell, Estimate, Evidence, Report
from imaging_ft.report.sections.cells import by_name


@dataclass(frozen=True)
class Turned:
    """What is rejected in a cell."""

    rejected: Estimate | None
    """The share of its images; None where they are too few to say."""
    accuracy: Estimate | None
    answered: Estimate | None
    """Accuracy on the images that are answered; None where they are too few to say."""


@dataclass(frozen=True)
class Rejection:
    """What stands in the part."""

    clean: Turned
    severities: list[int]
    rows: list[tuple[str, list[Turned]]]
    """By condition, in the order of the severities."""


def rejection(report: Report) -> Rejection | None:
    """Return the part on rejection; None where the model has no bounds."""
    clean = _turned(report.overall)
    if clean.rejected is None:
        return None
    single = by_name(report.cells)
    names = [info.name for info in report.conditions if info.name in single]
    rows = [(name, [_turned(single[name].get(level)) for level in report.severities]) for name in names]
    return Rejection(clean, list(report.severities), rows)


def _turned(found: Evidence | Cell | None) -> Turned:
    metrics = found.metrics if found else {}
    return Turned(*(metrics.get(name) for name in ("rejected", "accuracy", "accuracy_answered")))
