"""Temperature scaling: one number that makes probabilities mean what they say (Guo et al. 2017)."""

from dataclasses import dataclass
from typing import Any

from scipy.optimize import minimize_scalar

from imaging_ft.training.metrics import negative_log_likelihood
from imaging_ft.types import Floats, Ints

BOUNDS = (0.2, 10.0)


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the validation loss (nats) before and after it."""

    temperature: float
    loss_before: float
    loss_after: float
    note: str | None = None
    """Why the temperature says little, where it does."""


def fit_temperature(logits: Floats, labels: Ints) -> Calibration:
    """Return the temperature that minimises the validation loss of logits / temperature.

    Where validation holds no error the loss falls without end as the temperature falls: it then stays 1.
    """
    before = negative_log_likelihood(logits, labels)
    if (logits.argmax(axis=1) == labels).all():
        return Calibration(1.0, before, before, "validation holds no error, so the temperature stays 1")
    found: Any = minimize_scalar(
        lambda temperature: negative_log_likelihood(logits / temperature, labels), bounds=BOUNDS, method="bounded"
    )
    temperature = float(found.x)
    at_bound = min(abs(temperature - bound) for bound in BOUNDS) < 1e-2
    note = f"the temperature stopped at its bound, {temperature:.2f}" if at_bound else None
    return Calibration(temperature, before, float(found.fun), note)
