"""A peer's budget: complete schedules, each twice as long as the last, while clean validation accuracy rises."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from imaging_ft.models.factory import Classifier
from imaging_ft.training.metrics import Score
from imaging_ft.types import Json


class Stopwatch:
    """Seconds of training; what is only diagnosed stands outside of them."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._out = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start, less what was paused."""
        return time.perf_counter() - self._start - self._out

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count nothing within."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._out += time.perf_counter() - start


@dataclass(frozen=True)
class Trained:
    """What one complete schedule gave."""

    model: Classifier
    """Of the best epoch by clean validation accuracy; of equal ones the later."""
    validation: Score
    epochs: int
    seconds: float
    """To the schedule's end, with the validation after each epoch."""
    curve: list[Json]
    """A row an epoch: epoch, seconds, validation and (outside the seconds, for no choice) test scores."""


@dataclass(frozen=True)
class Budget:
    """The schedule that was kept, and what every schedule reached."""

    best: Trained
    schedules: list[Json] = field(default_factory=list[Json])


def fair(train: Callable[[int], Trained], *, first: int, most: int) -> Budget:
    """Train with `first` epochs, then from the start again with twice as many, and so on up to `most`.

    It ends where a longer schedule brings no higher clean validation accuracy, or where that is perfect. A schedule
    that is broken off before its rate has fallen is worth little, so patience counts schedules and not epochs. Only
    the seconds of the schedule that is kept count, which favours the peer.
    """
    best: Trained | None = None
    schedules: list[Json] = []
    epochs = first
    while True:
        found = train(epochs)
        schedules.append({"epochs": epochs, "seconds": found.seconds, "validation_accuracy": found.validation.accuracy})
        rose = best is None or found.validation.accuracy > best.validation.accuracy
        if best is None or rose:
            best = found
        epochs *= 2
        if not rose or best.validation.accuracy >= 1 or epochs > most:
            return Budget(best, schedules)
