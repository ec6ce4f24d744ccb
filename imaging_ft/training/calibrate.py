"""From logits to probabilities that mean what they say, and from probabilities to decisions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from imaging_ft.bundle import DEFAULT_THRESHOLD, VectorScaling, probabilities
from imaging_ft.training.metrics import negative_log_likelihood
from imaging_ft.training.settings import parse_operating_point
from imaging_ft.types import Floats, Json, Task

BOUNDS = (0.2, 10.0)
_VECTOR_BOUNDS = (0.1, 5.0)
_VECTOR_PULL = 1e-2
"""How strongly vector scaling is held to the temperature's solution: it has 2 numbers a class to fit."""


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities, and the validation loss (nats) before and after it."""

    temperature: float
    loss_before: float
    loss_after: float
    note: str | None = None
    """Why the numbers say little, where they do."""
    vector_scaling: VectorScaling | None = None

    def probabilities(self, logits: Floats, task: Task) -> Floats:
        """Return the probabilities [n, classes] of logits."""
        return probabilities(logits, task=task, temperature=self.temperature, vector_scaling=self.vector_scaling)

    def as_json(self) -> Json:
        """Return what `summary.json` holds."""
        vector = self.vector_scaling
        return {
            "method": "vector" if vector else "temperature",
            "temperature": self.temperature,
            "vector_scaling": vector.model_dump(mode="json") if vector else None,
            "loss_before": self.loss_before,
            "loss_after": self.loss_after,
            "note": self.note,
        }


def calibrate(logits: Floats, targets: Floats, *, method: str, task: Task) -> Calibration:
    """Return how logits [n, classes] become probabilities: by `temperature`, `vector`, or as they are (`none`)."""
    if method == "none":
        loss = negative_log_likelihood(logits, targets, task=task)
        return Calibration(1.0, loss, loss, "as set: not calibrated")
    found = fit_temperature(logits, targets, task=task)
    if method == "vector" and not _no_error(logits, targets, task):
        return fit_vector(logits, targets, found, task=task)
    return found


def fit_temperature(logits: Floats, targets: Floats, *, task: Task = Task.MULTICLASS) -> Calibration:
    """Return the temperature that minimises the validation loss of logits / temperature (Guo et al. 2017).

    Where validation holds no error the loss falls without end as the temperature falls: it then stays 1.
    """
    before = negative_log_likelihood(logits, targets, task=task)
    if _no_error(logits, targets, task):
        return Calibration(1.0, before, before, "validation holds no error, so the temperature stays 1")
    found: Any = minimize_scalar(
        lambda temperature: negative_log_likelihood(logits / temperature, targets, task=task),
        bounds=BOUNDS,
        method="bounded",
    )
    temperature = float(found.x)
    at_bound = min(abs(temperature - bound) for bound in BOUNDS) < 1e-2
    note = f"the temperature stopped at its bound, {temperature:.2f}" if at_bound else None
    return Calibration(temperature, before, float(found.fun), note)


def fit_vector(logits: Floats, targets: Floats, start: Calibration, *, task: Task) -> Calibration:
    """Return a scale and a shift for each class, from a temperature on (Guo et al. 2017, vector scaling).

    The scales are held within bounds and pulled softly towards that temperature, the shifts towards 0.
    """
    classes = logits.shape[1]
    first = np.concatenate([np.full(classes, 1 / start.temperature), np.zeros(classes)])

    def loss(values: Floats) -> float:
        scaled = logits * values[:classes] + values[classes:]
        return negative_log_likelihood(scaled, targets, task=task) + _VECTOR_PULL * float(
            np.square(values - first).mean()
        )

    bounds = [_VECTOR_BOUNDS] * classes + [(-5.0, 5.0)] * classes
    found: Any = minimize(loss, first, method="L-BFGS-B", bounds=bounds)
    scale, bias = found.x[:classes], found.x[classes:]
    after = negative_log_likelihood(logits * scale + bias, targets, task=task)
    vector = VectorScaling(scale=tuple(scale.tolist()), bias=tuple(bias.tolist()))
    return Calibration(1.0, start.loss_before, after, None, vector)


def operating_points(
    found: Floats, targets: Floats, labels: Sequence[str], point: str | None
) -> tuple[dict[str, float], Json]:
    """Return each class's threshold on its probability, and what it reaches on validation.

    `found` [n, classes] are probabilities. `sensitivity=0.95` takes the largest threshold that at least 95% of the
    class's images reach; `specificity=0.9` the smallest below which at least 90% of the others stay. Of all that decide
    alike, it is the one in the middle between two probabilities: on one of them, the exported graph's rounding would
    decide. A class without such images keeps 0.5, and so do all without a point. The figures are of the images that the
    thresholds were chosen on: on others they will be somewhat lower.
    """
    thresholds = dict.fromkeys(labels, DEFAULT_THRESHOLD)
    reached: Json = {}
    for index, label in enumerate(labels):
        present = targets[:, index] > 0.5
        inside, outside = found[present, index], found[~present, index]
        if point is not None:
            kind, wanted = parse_operating_point(point)
            if kind == "sensitivity" and len(inside):
                allowed = int(np.floor((1 - wanted) * len(inside) + 1e-9))  # images that may be missed
                reaching = np.sort(inside)[allowed]
                below = found[found[:, index] < reaching, index]
                thresholds[label] = float(reaching + below.max(initial=0.0)) / 2
            if kind == "specificity" and len(outside):
                stay = int(np.ceil(wanted * len(outside) - 1e-9))
                staying = np.sort(outside)[stay - 1]
                above = found[found[:, index] > staying, index]
                thresholds[label] = float(staying + above.min(initial=1.0)) / 2
        threshold = thresholds[label]
        reached[label] = {
            "threshold": threshold,
            "sensitivity": float((inside >= threshold).mean()) if len(inside) else None,
            "specificity": float((outside < threshold).mean()) if len(outside) else None,
            "positives": len(inside),
            "negatives": len(outside),
        }
    return thresholds, {"point": point, "measured_on": "validation, clean", "classes": reached}


def _no_error(logits: Floats, targets: Floats, task: Task) -> bool:
    truth = targets > 0.5
    if task is Task.MULTILABEL:
        return bool(((logits >= 0) == truth).all())
    return bool((logits.argmax(axis=1) == truth.argmax(axis=1)).all())
