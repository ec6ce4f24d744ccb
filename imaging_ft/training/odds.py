"""Condition-aware augmentation: the odds of each condition family follow the errors that validation finds under it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import ConfigError
from imaging_ft.training.judge import AS_TRAINED, Judged
from imaging_ft.types import Json

LOWEST, HIGHEST = 0.5, 3.0
"""No family is given up, and none takes all."""
_FLOOR = 0.02
"""An error that counts as none: below it, families differ by chance alone."""

Odds = dict[str, float]
"""A factor on the odds of each family, 1 where the recipe's own odds hold."""


def follow(judged: Judged, before: Mapping[str, float]) -> Odds:
    """Return the odds after a validation: each family's error over the mean error, halfway from the odds before.

    Halfway in the logarithm, so that one unlucky epoch moves no family all the way; within LOWEST to HIGHEST.
    """
    errors = {name: 1 - score.balanced_accuracy for name, score in judged.conditions.items() if name != AS_TRAINED}
    return _towards(errors, before)


@dataclass(frozen=True)
class Focus:
    """What an earlier round's report found."""

    odds: Odds
    about: Json
    """The data set's name and fingerprint, and the split that was measured; null where the report doesn't say."""


def read_focus(path: Path, families: Sequence[str]) -> Focus:
    """Return the odds that an earlier round's `report.json` suggests for families: by the errors of its single cells.

    The error of a family is the mean over the severities that were measured. Families that the report doesn't speak
    of keep the recipe's odds. Raises ConfigError where the file is no report, or speaks of none of the families.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: can't be read: {reason(error)}; give a report.json that imaging-ft wrote"
        ) from error
    if not isinstance(report, dict) or not str(report.get("schema", "")).startswith("imaging_ft.report/1"):
        raise ConfigError(f"{path}: not a report; give a report.json that imaging-ft wrote")
    try:
        found = _errors(report["cells"], families)
        about = {key: (report.get("dataset") or {}).get(key) for key in ("name", "fingerprint", "split")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: damaged; give a report.json as imaging-ft wrote it") from error
    if not found:
        raise ConfigError(
            f"{path}: measured none of the recipe's condition families ({', '.join(families) or 'it has none'})"
        )
    errors = {name: sum(values) / len(values) for name, values in found.items()}
    return Focus(_towards(errors, {}, all_the_way=True), about)


def _errors(cells: list[Json], families: Sequence[str]) -> dict[str, list[float]]:
    """Return each family's errors, by severity, in the cells of a single condition."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        if cell["source"] != "synthetic" or len(cell["conditions"]) != 1:
            continue
        (name,) = cell["conditions"]
        metrics = cell["metrics"]
        known = metrics.get("balanced_accuracy") or metrics.get("accuracy")
        if name in families and known:
            found.setdefault(name, []).append(1 - float(known["value"]))
    return found


def _towards(errors: Mapping[str, float], before: Mapping[str, float], *, all_the_way: bool = False) -> Odds:
    if not errors:
        return {}
    known = {name: max(_FLOOR, _FLOOR if math.isnan(error) else error) for name, error in errors.items()}
    mean = sum(known.values()) / len(known)
    weight = 1.0 if all_the_way else 0.5
    return {
        name: min(HIGHEST, max(LOWEST, before.get(name, 1.0) ** (1 - weight) * (error / mean) ** weight))
        for name, error in known.items()
    }
