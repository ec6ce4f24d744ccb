"""The precision gate: what a lower precision costs, cell by cell, before the file is written.

Each class's sensitivity and the balanced accuracy are measured in every cell of the data set's condition suite, in
float32 and in the lower precision, on the same images. The file is refused where

- a metric's mean over the cells drops by more than `max_drop`, or
- in a single cell it drops by more than `max_drop` plus chance: of a hundred images one or two near the boundary change
  sides by rounding alone, also to the better, so the images lost are tested against those won (exact, one-sided, 5%).

Before it's refused, the layers that lose most are left in float32, four times as many each time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from scipy import stats

from imaging_ft.bundle import CellLoss, PrecisionLoss, Said, decide
from imaging_ft.errors import PrecisionError
from imaging_ft.export.biases import correct_biases
from imaging_ft.export.cells import Cells, run_levels
from imaging_ft.export.lowering import Layer, Lower, layers, lowering
from imaging_ft.training.run import ModelInfo
from imaging_ft.types import Floats, Precision, Task, Track, silent

MAX_DROP = 0.005
LEVEL = 0.05
"""Of the test in a single cell."""
_ROUNDING = 1e-9
_RANKED = 4
"""Layers are ranked on every fourth calibration image."""


@dataclass(frozen=True)
class Lowered:
    """A network in lower precision that passed the gate."""

    network: onnx.ModelProto
    float_layers: tuple[str, ...]
    """Modules that were left in float32."""
    loss: PrecisionLoss


def lower(
    network: onnx.ModelProto,
    info: ModelInfo,
    cells: Cells,
    precision: Precision,
    *,
    max_drop: float = MAX_DROP,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> Lowered:
    """Return a float32 network in a lower precision, with as many layers left in float32 as the gate demands.

    Raises PrecisionError naming the cell where it doesn't hold even with half of the layers in float32.
    """
    every = layers(network)
    before = cells.said(network.SerializeToString(), own=False, track=track)
    with lowering(network, precision, cells.calibration()) as make:
        order: list[Layer] = []
        refusal = ""
        for kept in _attempts(len(every)):
            if kept and not order:
                order = _by_loss(network, every, make, cells.calibration()[::_RANKED], track)
            left = order[:kept]
            candidate = make([layer.node for layer in every if layer not in left])
            if precision is Precision.INT8:
                candidate = correct_biases(candidate, network, every, cells.calibration())
            after = cells.said(candidate.SerializeToString(), own=True, track=track)
            loss, refused = compare(before, after, cells, info, max_drop=max_drop)
            if refused is None:
                return Lowered(candidate, tuple(layer.module for layer in left), loss)
            refusal = f"with {kept} of {len(every)} layers in float32: {describe(refused)}"
            say(f"{precision} {refusal}")
    raise PrecisionError(
        f"{precision} {refusal}, beyond --max-drop {max_drop:g}; nothing was written: export in fp32, or allow a larger"
        " --max-drop"
    )


def hold(cells: Cells, network: onnx.ModelProto, info: ModelInfo, *, max_drop: float, track: Track) -> PrecisionLoss:
    """Return what it costs that a file prepares its images by another graph than training did.

    Raises PrecisionError naming the cell where it's too much.
    """
    data = network.SerializeToString()
    before, after = (cells.said(data, own=own, track=track) for own in (False, True))
    loss, refused = compare(before, after, cells, info, max_drop=max_drop)
    if refused is not None:
        raise PrecisionError(
            f"the target's own resize: {describe(refused)}, beyond --max-drop {max_drop:g}; nothing was written:"
            " allow a larger --max-drop, or export for another target"
        )
    return loss


def compare(
    before: Floats, after: Floats, cells: Cells, info: ModelInfo, *, max_drop: float
) -> tuple[PrecisionLoss, CellLoss | None]:
    """Return what was lost between two measurements [cells, images, classes], and what is too much of it, if any is."""
    thresholds = [info.thresholds[label] for label in info.labels]
    said = [[decide(cell, task=info.task, thresholds=thresholds) for cell in each] for each in (before, after)]
    each = [
        list(_losses(one, other, cells.truth, info, setting.conditions))
        for setting, one, other in zip(cells.settings, *said, strict=True)
    ]
    means = [_mean(of_metric) for of_metric in zip(*each, strict=True)]
    single = [loss for losses in each for loss in losses]
    mean, worst = (max(losses, key=lambda loss: loss.drop) for losses in (means, single))
    same = [(one == other).all(axis=1).mean() for one, other in zip(*said, strict=True)]
    loss = PrecisionLoss(
        suite=cells.suite,
        images=len(cells.truth),
        cells=len(cells.settings),
        top1_agreement=float(np.mean(same)),
        max_probability_difference=float(np.abs(before[0] - after[0]).max()),
        max_drop=max_drop,
        mean=mean,
        worst=worst,
    )
    if mean.drop > max_drop + _ROUNDING:
        return loss, mean
    beyond = [one for one in single if one.drop > max_drop + _ROUNDING and chance(one, max_drop) < LEVEL]
    return loss, max(beyond, key=lambda one: one.drop, default=None)


def chance(loss: CellLoss, max_drop: float) -> float:
    """Return how likely so many images are lost, of those that changed sides, if the true drop is `max_drop`.

    The exact one-sided binomial test on the discordant pairs: McNemar's, with its null moved to `max_drop`.
    """
    changed = loss.lost + loss.won
    if not changed:
        return 1.0
    share = min(1.0, 0.5 + max_drop * loss.n / (2 * changed))
    return float(stats.binom.sf(loss.lost - 1, changed, share))


def describe(loss: CellLoss) -> str:
    """Return where how much was lost, for a person."""
    if loss.conditions is None:
        where = "on average over all conditions"
    elif not loss.conditions:
        where = "on the images as they are"
    else:
        where = "under " + " and ".join(f"{name}@{severity}" for name, severity in loss.conditions.items())
    change = f"falls from {loss.before:.3f} to" if loss.drop > 0 else f"was {loss.before:.3f} and is"
    return f"{loss.metric} {change} {loss.after:.3f} {where} ({loss.lost} lost and {loss.won} won of {loss.n} images)"


def _losses(
    before: Said, after: Said, truth: Said, info: ModelInfo, conditions: dict[str, int | str]
) -> Iterator[CellLoss]:
    """Yield the loss by balanced accuracy and by each class's sensitivity; classes without images are left out."""
    where = {name: int(severity) for name, severity in conditions.items()}
    (first, first_balanced), (second, second_balanced) = (_rates(said, truth, info.task) for said in (before, after))
    right = [said == truth if info.task is Task.MULTILABEL else (said & truth).any(axis=1) for said in (before, after)]
    yield CellLoss(
        conditions=where,
        metric="balanced_accuracy",
        before=first_balanced,
        after=second_balanced,
        n=right[0].size,
        lost=int((right[0] & ~right[1]).sum()),
        won=int((~right[0] & right[1]).sum()),
    )
    for index, label in enumerate(info.labels):
        shown = truth[:, index]
        if shown.any():
            yield CellLoss(
                conditions=where,
                metric=f"sensitivity[{label}]",
                before=float(first[index]),
                after=float(second[index]),
                n=int(shown.sum()),
                lost=int((before & ~after)[shown, index].sum()),
                won=int((after & ~before)[shown, index].sum()),
            )


def _mean(losses: Sequence[CellLoss]) -> CellLoss:
    """Return the mean of one metric's losses over the cells."""
    return CellLoss(
        conditions=None,
        metric=losses[0].metric,
        before=float(np.mean([loss.before for loss in losses])),
        after=float(np.mean([loss.after for loss in losses])),
        n=sum(loss.n for loss in losses),
        lost=sum(loss.lost for loss in losses),
        won=sum(loss.won for loss in losses),
    )


def _rates(said: Said, truth: Said, task: Task) -> tuple[npt.NDArray[np.float64], float]:
    """Return each class's sensitivity (NaN without images) and the balanced accuracy."""
    with np.errstate(invalid="ignore"):
        sensitivity = (said & truth).sum(axis=0) / truth.sum(axis=0)
        specificity = (~said & ~truth).sum(axis=0) / (~truth).sum(axis=0)
    known = (sensitivity + specificity) / 2 if task is Task.MULTILABEL else sensitivity
    return sensitivity, float(np.nanmean(known))


def _attempts(count: int) -> Iterator[int]:
    """Yield how many layers to leave in float32: none, 2, 8, 32 …, and at last half of them."""
    yield 0
    kept = 2
    while kept < count // 2:
        yield kept
        kept *= 4
    if count > 1:
        yield count // 2


def _by_loss(
    network: onnx.ModelProto, every: Sequence[Layer], make: Lower, levels: npt.NDArray[np.uint8], track: Track
) -> list[Layer]:
    """Return the layers by how far the probabilities move where each alone is lowered, the furthest first."""
    exact = run_levels(network.SerializeToString(), levels)
    moved = {
        layer: float(np.abs(run_levels(make([layer.node]).SerializeToString(), levels) - exact).mean())
        for layer in track(every, "layers", len(every))
    }
    return sorted(every, key=lambda layer: moved[layer], reverse=True)
