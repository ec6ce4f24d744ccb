"""Gates: what a model must reach before it ships, held against the bound of an interval.

```
overall.accuracy >= 0.9                             the clean images
worst.sensitivity[handgun] >= 0.8                   every synthetic cell
worst[site].accuracy >= 0.8                         every cell of a column, or of one synthetic condition
condition[low_dose@3].balanced_accuracy >= 0.85     one synthetic cell; a pair is low_dose@3,roll@5
condition[site=B].accuracy >= 0.8                   one recorded or measured cell; two are site=B,sex=F
mean.accuracy >= 0.8                                the mean over the synthetic cells
gap[site].accuracy <= 0.05                          best less worst cell of a column; of a condition, clean less worst
against.accuracy >= -0.01                           this model less the other; also against.worst, against.condition[…]
```

`>=` compares the interval's lower bound, `<=` its upper one. `docs/gates.md` holds the rules.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import Protocol

from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError
from imaging_ft.report.requirements import EXAMPLE, Place, find_place, names_in, no_place, parse
from imaging_ft.report.result import Against, Cell, Estimate, Evidence, Gap, Gate, Paired, Source
from imaging_ft.report.wording import name_of
from imaging_ft.types import Status

__all__ = ["COMPARED", "EXAMPLE", "Judged", "Known", "Place", "Requirement", "exit_code", "metric_names"]

COMPARED: tuple[str, ...] = ("accuracy", "balanced_accuracy")
"""The metrics that a gap and a comparison with another model have."""
AT_THRESHOLD = "_at_threshold"
"""Ends the name of a metric of the operating points, where the largest probability is the label."""
_SOURCES: tuple[Source, ...] = ("recorded", "measured", "synthetic")
"""Which is meant first, where a column and a condition have the same name."""
_RELATIONS: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<=": operator.le}


@dataclass(frozen=True)
class Known:
    """What is known before anything is measured."""

    places: Sequence[Place]
    """The cells that will be measured."""
    columns: Sequence[str] = ()
    """The columns that the recorded ones among them come from."""
    later: Sequence[str] = ()
    """Further columns, whose cells are known only once they are measured: bins of brightness and the like."""
    other: bool = False
    """Whether there is another model to compare with."""


class Judged(Protocol):
    """What gates look at: a `Report`, or what has those parts of one."""

    @property
    def overall(self) -> Evidence: ...
    @property
    def cells(self) -> Sequence[Cell]: ...
    @property
    def gaps(self) -> Sequence[Gap]: ...
    @property
    def against(self) -> Against | None: ...


@dataclass(frozen=True)
class _Piece:
    """One figure that a gate is held against."""

    where: str
    estimate: Estimate | None
    n: str
    few: bool
    note: str = ""


class Requirement:
    """A gate's expression, parsed and checked before anything is measured."""

    def __init__(self, expr: str, *, labels: Sequence[str], where: str = "--require") -> None:
        """Parse an expression; raises ConfigError where it isn't one, or names a metric that no cell has."""
        self.expr = expr.strip()
        self._called = f"{where} {expr!r}"
        parts = parse(expr, where=where)
        self.against, self.place, self.which = parts.against, parts.place, parts.which
        self.metric, self.relation, self.threshold = parts.metric, parts.relation, parts.threshold
        known = list(COMPARED) if parts.against or parts.place == "gap" else metric_names(labels)
        if self.metric not in known:
            raise ConfigError(f"{self._called}: no metric {self.metric!r}; {suggest(self.metric, known)}")

    def check(self, known: Known) -> None:
        """Raise ConfigError where the expression names what isn't among that to be measured."""
        if self.against and not known.other:
            raise ConfigError(f"{self._called}: there is no other model; name one with --against")
        held = {name for _, conditions in known.places for name in conditions}
        held |= set(known.columns)
        columns = held | set(known.later)

        def late(names: Sequence[str]) -> bool:
            """Return whether cells of such columns may turn up when they are measured."""
            return set(names) <= columns and not set(names) <= held

        if self.which is None:
            if self.place in {"worst", "mean"} and all(source != "synthetic" for source, _ in known.places):
                raise ConfigError(f"{self._called}: no synthetic condition is measured; name a column: worst[site]")
        elif self.place == "condition":
            named = [part.partition("=")[0] for part in names_in(self.which)]
            if find_place(self.which, known.places) is None and not late(named):
                raise ConfigError(f"{self._called}: {no_place(self.which, known.places)}")
        else:
            groups = [list(conditions) for _, conditions in known.places] + [
                [name] for name in (*known.columns, *known.later)
            ]
            names = dict.fromkeys(",".join(group) for group in groups if self.place != "gap" or len(group) == 1)
            wanted = names_in(self.which)
            if all(names_in(name) != wanted for name in names) and not (self.place == "worst" and late(wanted)):
                raise ConfigError(
                    f"{self._called}: no column or condition {self.which!r}; {suggest(self.which, list(names))}"
                )

    def judge(self, found: Judged) -> Gate:
        """Return the outcome.

        Where several cells must hold, one that fails decides, else one with too little evidence, else the one whose
        bound is worst.
        """
        gates = [self._outcome(piece) for piece in self._pieces(found)]
        for outcome in ("fail", "insufficient", "pass"):
            deciding = [gate for gate in gates if gate.outcome == outcome]
            seen = [(gate.observed, gate) for gate in deciding if gate.observed is not None]
            if seen:
                pick = min if self.relation == ">=" else max
                return pick(seen, key=lambda pair: pair[0])[1]
            if deciding:
                return deciding[0]
        return self._outcome(_Piece("every cell", None, "0", few=True))

    def _pieces(self, found: Judged) -> list[_Piece]:
        if self.place == "overall":
            return [self._piece("clean", found.overall, found.against.overall if found.against else None)]
        if self.place == "gap":
            return self._gap(found)
        if self.place == "condition":
            which = self.which or ""
            position = find_place(which, [(cell.source, cell.conditions) for cell in found.cells])
            if position is None:
                why = no_place(which, [(cell.source, cell.conditions) for cell in found.cells])
                return [_Piece(which, None, "0", few=True, note=why)]
            cells = [found.cells[position]]
        else:
            cells = self._group(found.cells)
        pieces = [self._piece(name_of(cell.conditions, cell.source), cell, cell.against) for cell in cells]
        return [_mean(pieces, self.relation)] if self.place == "mean" and pieces else pieces

    def _piece(self, where: str, cell: Evidence, paired: Paired | None) -> _Piece:
        few, n = cell.status is not Status.OK, f"{cell.n}"
        if not self.against:
            return _Piece(where, cell.metrics.get(self.metric), n, few)
        difference = {} if paired is None else {"accuracy": paired.accuracy, COMPARED[1]: paired.balanced_accuracy}
        return _Piece(f"{where}, this model less the other", difference.get(self.metric), n, few)

    def _group(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells that must all hold: the synthetic ones, or those of the columns or conditions named."""
        if self.which is None:
            return [cell for cell in cells if cell.source == "synthetic"]
        same = [cell for cell in cells if names_in(",".join(cell.conditions)) == names_in(self.which)]
        source = next((one for one in _SOURCES if any(cell.source == one for cell in same)), None)
        return [cell for cell in same if cell.source == source]

    def _gap(self, found: Judged) -> list[_Piece]:
        """Return the gap, and with it each of the column's cells that it leaves out for want of images."""
        gaps = sorted((gap for gap in found.gaps if gap.of == self.which), key=lambda gap: _SOURCES.index(gap.source))
        if not gaps:
            return [
                _Piece(f"the gap of {self.which}", None, "0", few=True, note="fewer than two cells can be compared")
            ]
        gap = gaps[0]
        cells = [cell for cell in found.cells if cell.source == gap.source and list(cell.conditions) == [gap.of]]
        by_name: dict[str, Evidence] = {"clean": found.overall} | {
            name_of(cell.conditions, cell.source): cell for cell in cells
        }
        ends = [by_name[name] for name in (gap.best, gap.worst) if name in by_name]
        piece = _Piece(
            f"{gap.best} less {gap.worst}",
            gap.metrics.get(self.metric),
            " and ".join(f"{end.n}" for end in ends),
            few=any(end.status is not Status.OK for end in ends),
        )
        return [
            piece,
            *(
                self._piece(name_of(cell.conditions, cell.source), cell, None)
                for cell in cells
                if self.metric not in cell.metrics
            ),
        ]

    def _outcome(self, piece: _Piece) -> Gate:
        bound = "low" if self.relation == ">=" else "high"
        holds = _RELATIONS[self.relation]
        estimate = piece.estimate
        if estimate is None or not all(map(isfinite, (estimate.value, estimate.low, estimate.high))):
            detail = f"{piece.where}: {self.metric} is undefined ({piece.note or f'n = {piece.n}'})"
            return Gate(expr=self.expr, bound=bound, observed=None, outcome="insufficient", detail=detail)
        observed, best = (estimate.low, estimate.high)[:: 1 if self.relation == ">=" else -1]
        figures = f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
        detail = f"{piece.where}: {self.metric} {figures}, n = {piece.n}"
        detail += f"; {piece.note}" if piece.note else ""
        if holds(observed, self.threshold):
            outcome = "pass"
        elif piece.few and holds(best, self.threshold):
            outcome = "insufficient"
            detail += "; too few images to tell"
        else:
            outcome = "fail"
        return Gate(expr=self.expr, bound=bound, observed=observed, outcome=outcome, detail=detail)


def metric_names(labels: Sequence[str]) -> list[str]:
    """Return the metrics that a cell of a model with these classes may have (`Evidence.metrics`)."""
    at = [f"{kind}{AT_THRESHOLD}" for kind in ("sensitivity", "specificity")]
    by_label = [
        f"{kind}[{label}]" for kind in ("sensitivity", "specificity", "auroc", "auprc", *at) for label in labels
    ]
    return ["accuracy", "balanced_accuracy", "macro_f1", "brier", "ece", "rejected", "accuracy_answered", *by_label]


def exit_code(gates: Sequence[Gate]) -> int:
    """Return 1 where a gate failed, 3 where none failed but one lacks evidence, else 0."""
    outcomes = {gate.outcome for gate in gates}
    return 1 if "fail" in outcomes else 3 if "insufficient" in outcomes else 0


def _mean(pieces: Sequence[_Piece], relation: str) -> _Piece:
    """Return the mean over cells with the means of their bounds.

    The cells show the same images. However they vary together, the mean's own interval is no wider than the mean of
    theirs, which it equals where all cells rise and fall as one.
    """
    estimates = [piece.estimate for piece in pieces if piece.estimate is not None]
    where = f"mean of {len(pieces)} synthetic cells"
    if len(estimates) < len(pieces):
        lacking = next(piece for piece in pieces if piece.estimate is None)
        return _Piece(where, None, lacking.n, few=True, note=f"{lacking.where}: n = {lacking.n}")
    value, low, high = (fmean(getattr(estimate, part) for estimate in estimates) for part in ("value", "low", "high"))
    note = f"the bound is the mean of the cells' {'lower' if relation == '>=' else 'upper'} bounds"
    mean = Estimate(value=value, low=low, high=high, method=estimates[0].method)
    return _Piece(where, mean, pieces[0].n, few=any(piece.few for piece in pieces), note=note)
