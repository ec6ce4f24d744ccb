"""What a model says: from logits to probabilities, and from probabilities to classes."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat

from imaging_ft.catalog import suggest
from imaging_ft.config import Frozen
from imaging_ft.types import Floats, Task

SEPARATOR = "|"
"""Between the classes of one image, where a multi-label task's answer is one text; the data's `LABEL_SEPARATOR`."""

Said = npt.NDArray[np.bool_]
"""[n, classes], true where a class is said to be there: one in each row, or in a multi-label task any number."""

Threshold = Annotated[float, Field(ge=0, le=1)]
DEFAULT_THRESHOLD = 0.5
"""Of a class for which no operating point was chosen."""


class VectorScaling(Frozen):
    """Each class's logit times its scale plus its bias, in place of the temperature (Guo et al. 2017)."""

    scale: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    """By class, in the order of the outputs."""
    bias: tuple[FiniteFloat, ...]
    """By class, in the order of the outputs."""


def probabilities(
    logits: Floats, *, task: Task, temperature: float, vector_scaling: VectorScaling | None = None
) -> Floats:
    """Return the probabilities [n, classes] of logits [n, classes]: softmax, or sigmoid for a multi-label task.

    This is what an exported graph computes. The logits are divided by the temperature before, or scaled and shifted
    class by class where there is a vector scaling.
    """
    scaled = np.asarray(logits, np.float64)
    if vector_scaling is None:
        scaled = scaled / temperature
    else:
        scaled = scaled * np.array(vector_scaling.scale) + np.array(vector_scaling.bias)
    if task is Task.MULTILABEL:
        return np.exp(-np.logaddexp(0, -scaled))
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def decide(found: Floats, *, task: Task, thresholds: Sequence[float]) -> Said:
    """Return what a model says [n, classes] where it gives probabilities [n, classes].

    It says the class with the largest probability (the first of equals); in a multi-label task, each class whose
    probability reaches its threshold, which may be several or none. `thresholds` are in the order of the labels.
    """
    if task is Task.MULTILABEL:
        return np.greater_equal(found, np.array(thresholds, np.float64))
    said = np.zeros_like(found, np.bool_)
    np.put_along_axis(said, found.argmax(axis=1, keepdims=True), values=1, axis=1)
    return said


def check_decision(
    labels: Sequence[str],
    *,
    task: Task,
    thresholds: Mapping[str, float],
    temperature: float,
    vector_scaling: VectorScaling | None,
) -> None:
    """Raise ValueError where thresholds, scaling and labels don't belong together."""
    for name in labels:
        if name not in thresholds:
            raise ValueError(f"thresholds: the label {name!r} has none; give one for each label")
        if task is Task.MULTILABEL and SEPARATOR in name:
            raise ValueError(f"labels: {name!r}: {SEPARATOR!r} separates the labels of a multi-label task; rename it")
    for name in thresholds:
        if name not in labels:
            raise ValueError(f"thresholds: no label named {name!r}; {suggest(name, list(labels))}")
    if vector_scaling is None:
        return
    for what, values in (("scale", vector_scaling.scale), ("bias", vector_scaling.bias)):
        if len(values) != len(labels):
            raise ValueError(f"vector_scaling.{what}: {len(values)} values for {len(labels)} labels; give one for each")
    if temperature != 1:
        raise ValueError(f"temperature: {temperature:g} beside a vector scaling, which takes its place; write 1")
