"""The words and figures that the page and the summary share: numbers, intervals, names of metrics and of cells."""

import re
from collections.abc import Mapping

from markupsafe import Markup

from imaging_ft.report.result import Cell, ConditionInfo, Estimate, Source

SMALLER_IS_BETTER = frozenset({"brier", "ece"})
"""Metrics that are errors: never drawn on the scale of the shares."""

_TITLES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "brier": "Brier score",
    "ece": "ECE",
    "macro_f1": "Macro-F1",
    "rejected": "Rejected images",
    "accuracy_answered": "Accuracy on the others",
}
_METHODS = {"wilson": "Wilson", "mover": "MOVER", "delong": "DeLong", "jackknife": "jackknife"}


def number(value: float) -> str:
    """Return a figure with three decimals, the precision of the whole page."""
    text = f"{value:.3f}"
    return "0.000" if text == "-0.000" else text.replace("-", "\u2212")


def signed(value: float) -> str:
    """Return a difference with its sign: `+0.012`."""
    text = number(value)
    return text if text.startswith("\u2212") or text == "0.000" else f"+{text}"


def interval(estimate: Estimate) -> str:
    """Return `[low, high]` with the precision of the page."""
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def signed_interval(estimate: Estimate) -> str:
    """Return the interval of a difference: `[−0.010, +0.034]`."""
    return f"[{signed(estimate.low)}, {signed(estimate.high)}]"


def p_value(p: float) -> str:
    """Return `0.012`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else number(p)


def breakable(text: str) -> Markup:
    """Return the text, escaped, with leave to break a line after each underscore."""
    return Markup("_<wbr>").join(text.split("_"))


def plain(value: float) -> str:
    """Return a number in its shortest form, with a true minus sign."""
    return f"{value:g}".replace("-", "\u2212")


def signed_plain(value: float) -> str:
    """Return a difference in its shortest form, with its sign: the end of a scale."""
    return f"+{plain(value)}" if value > 0 else plain(value)


def metric_parts(name: str) -> tuple[str, str]:
    """Return `sensitivity[knife]` as ("sensitivity", "knife") and `accuracy` as ("accuracy", "")."""
    family, bracket, label = name.partition("[")
    return family, label.removesuffix("]") if bracket else ""


def metric_title(name: str) -> str:
    """Return a metric in words: `Sensitivity, knife`, `AUROC, knife`, `Balanced accuracy`."""
    family, label = metric_parts(name)
    words = _TITLES.get(family, family.replace("_", " ").capitalize())
    return f"{words}, {label}" if label else words


def metric_words(name: str) -> str:
    """Return a metric within a sentence: `balanced accuracy`, `sensitivity for knife`."""
    family, label = metric_parts(name)
    words = _TITLES.get(family, family.replace("_", " "))
    return f"{words} for {label}" if label else words


def method_title(method: str) -> str:
    """Return how an interval was made: `Wilson`, `DeLong by group`."""
    base = method.removesuffix("_by_group")
    return _METHODS[base] + (" by group" if base != method else "")


def name_of(conditions: Mapping[str, int | str], source: Source = "synthetic") -> str:
    """Return a cell's name in words: `low_dose 5 × roll 3`, `site = B, sex = F`; `clean` without conditions."""
    if source == "synthetic":
        return " × ".join(f"{name} {severity}" for name, severity in conditions.items()) or "clean"
    return ", ".join(f"{name} = {value}" for name, value in conditions.items()) or "clean"


def values_of(cell: Cell) -> str:
    """Return a recorded or measured cell's values alone: `B × F`, for a table that names the columns."""
    return " × ".join(str(value) for value in cell.conditions.values())


def physical(info: ConditionInfo, severity: int) -> str:
    """Return `deviation index −10 dB` for the parameter `deviation index (dB)`."""
    value = plain(info.values[severity])
    match = re.fullmatch(r"(.+?) \(([^()]+)\)", info.parameter)
    if match is None:
        return f"{info.parameter} {value}"
    return f"{match[1]} {value}{'' if match[2] in ('°', '%') else ' '}{match[2]}"


def count_range(counts: "list[int]") -> str:
    """Return `700`, or `690 to 700` where the counts differ; `0` without any."""
    found = sorted(set(counts)) or [0]
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return `1 gate` or `3 gates`."""
    return f"{count} {one if count == 1 else many or one + 's'}"
