"""Gates: what a model must reach before it ships, held against the bound of an interval.

```
overall.accuracy >= 0.9                             the clean images
worst.sensitivity[handgun] >= 0.8                   the worst synthetic cell, by that metric
condition[low_dose@3].balanced_accuracy >= 0.85     one synthetic cell; a pair is low_dose@3,roll@5
condition[site=B].accuracy >= 0.8                   one recorded cell
```

`>=` compares the interval's lower bound, `<=` its upper one. Where the cell is undefined, or is flagged for
few images and its interval straddles the threshold, there is too little evidence to judge.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError
from imaging_ft.report.result import Cell, Estimate, Evidence, Gate
from imaging_ft.types import Status

_EXPRESSION = re.compile(
    r"""^\s*(?P<place>overall|worst|condition\[(?P<which>.+?)\])
        \.(?P<metric>[a-z0-9_]+(?:\[.+\])?)
        \s*(?P<relation>>=|<=)\s*(?P<threshold>[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*$""",
    re.VERBOSE,
)
EXAMPLE = "worst.accuracy >= 0.8"
Place = tuple[str, Mapping[str, int | str]]
"""What tells a cell from the others: its source and its conditions."""
_RELATIONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


class Requirement:
    """A gate's expression, parsed and checked before anything is measured."""

    def __init__(self, expr: str, *, metrics: Sequence[str]) -> None:
        """Parse an expression; raises ConfigError where it isn't one, or names an unknown metric."""
        match = _EXPRESSION.match(expr)
        if match is None:
            raise ConfigError(f"--require {expr!r}: not a requirement; write for example {EXAMPLE!r}")
        self.expr = expr.strip()
        self.place: str = match["place"]
        self.which: str | None = match["which"]
        self.metric: str = match["metric"]
        self.relation: str = match["relation"]
        self.threshold = float(match["threshold"])
        if self.metric not in metrics:
            raise ConfigError(f"--require {expr!r}: no metric {self.metric!r}; {suggest(self.metric, list(metrics))}")
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"--require {expr!r}: {match['threshold']} is not within 0 to 1; metrics are shares of 1")

    def check(self, known: Sequence[Place]) -> None:
        """Raise ConfigError where the expression names a cell that isn't among those to be measured."""
        if self.which is not None:
            self._find(known)

    def judge(self, overall: Evidence, cells: Sequence[Cell]) -> Gate:
        """Return the outcome; raises ConfigError where the expression names a cell that wasn't measured."""
        if self.place == "overall":
            return self._outcome(overall, "clean")
        if self.place == "worst":
            return self._worst(cells)
        cell = cells[self._find([(cell.source, cell.conditions) for cell in cells])]
        return self._outcome(cell, name_of(cell))

    def _worst(self, cells: Sequence[Cell]) -> Gate:
        synthetic = [cell for cell in cells if cell.source == "synthetic"]
        if not synthetic:
            raise ConfigError(f"--require {self.expr!r}: no synthetic condition was measured")
        defined = [cell for cell in synthetic if self.metric in cell.metrics]
        if not defined:
            return self._outcome(synthetic[0], "every cell")
        pick = min if self.relation == ">=" else max
        worst = pick(defined, key=lambda cell: self._bound(cell.metrics[self.metric]))
        return self._outcome(worst, name_of(worst))

    def _find(self, known: Sequence[Place]) -> int:
        """Return the position of the named cell; a pair may be named in either order."""
        which = self.which or ""
        # The whole first: a recorded value may hold a comma itself.
        for wanted in ({_tight(which)}, {_tight(part) for part in re.split(r"[,×]", which)}):
            for position, place in enumerate(known):
                if {_tight(part) for part in _parts(place)} == wanted:
                    return position
        raise ConfigError(f"--require {self.expr!r}: no cell {which!r}; {_nearest(which, known)}")

    def _bound(self, estimate: Estimate) -> float:
        return estimate.low if self.relation == ">=" else estimate.high

    def _outcome(self, found: Evidence, where: str) -> Gate:
        bound = "low" if self.relation == ">=" else "high"
        estimate = found.metrics.get(self.metric)
        if estimate is None:
            detail = f"{where}: {self.metric} is undefined (n = {found.n})"
            return Gate(expr=self.expr, bound=bound, observed=None, outcome="insufficient", detail=detail)
        holds = _RELATIONS[self.relation]
        observed = self._bound(estimate)
        best = estimate.high if self.relation == ">=" else estimate.low
        detail = f"{where}: {self.metric} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}], n = {found.n}"
        if holds(observed, self.threshold):
            outcome = "pass"
        elif found.status is not Status.OK and holds(best, self.threshold):
            outcome = "insufficient"
            detail += "; too few images to tell"
        else:
            outcome = "fail"
        return Gate(expr=self.expr, bound=bound, observed=observed, outcome=outcome, detail=detail)


def exit_code(gates: Sequence[Gate]) -> int:
    """Return 1 where a gate failed, 3 where none failed but one lacks evidence, else 0."""
    outcomes = {gate.outcome for gate in gates}
    return 1 if "fail" in outcomes else 3 if "insufficient" in outcomes else 0


def name_of(cell: Cell) -> str:
    """Return a cell's name in words: `low_dose 5 × roll 3`, or `site = B`."""
    if cell.source == "synthetic":
        return " × ".join(f"{name} {severity}" for name, severity in cell.conditions.items())
    return ", ".join(f"{name} = {value}" for name, value in cell.conditions.items())


def _parts(place: Place) -> list[str]:
    source, conditions = place
    mark = "@" if source == "synthetic" else "="
    return [f"{name}{mark}{value}" for name, value in conditions.items()]


def _tight(part: str) -> str:
    return re.sub(r"\s*([@=])\s*", r"\1", part.strip())


def _nearest(which: str, known: Sequence[Place]) -> str:
    """Return the end of an error message: the nearest cell, else the cells of one condition or column."""
    names = [",".join(_parts(place)) for place in known]
    close = get_close_matches(_tight(which), names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are: {', '.join(name for name in names if ',' not in name)}, and pairs such as roll@3,low_dose@5"
