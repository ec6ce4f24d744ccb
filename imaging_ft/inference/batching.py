"""Micro-batching: what many threads ask for at once runs together, and each gets its own answer.

One thread runs the batches. A batch is closed when it is full, when its oldest image has waited long enough, or at once
where nothing else could come: a lone request never waits for others that aren't there.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from imaging_ft.errors import DrainingError, ExpiredError, ImagingFtError, InputError, QueueFullError
from imaging_ft.inference.network import Batch, Outputs

Run = Callable[[Batch], Outputs]
"""Outputs [n, …] by name for levels [n, channels, height, width]."""

_SMOOTHING = 0.2
"""Of the running mean of the seconds that an image takes."""
_LEAST_RETRY = 0.05


@dataclass(frozen=True)
class Answer:
    """What the network gave for one image."""

    outputs: Outputs
    """By name, without the batch dimension."""
    queued: float
    """Seconds from its submission to the start of its batch."""
    computed: float
    """Seconds that its batch ran."""
    batch: int
    """Images in that batch."""


@dataclass
class _Waiting:
    levels: Batch
    deadline: float
    """In seconds of `time.monotonic`; infinite without one."""
    since: float
    future: "Future[Answer]" = field(default_factory=lambda: Future())


class Batcher:
    """Puts images together into batches, and answers in futures, each for the very image that was given."""

    def __init__(self, run: Run, *, max_batch: int = 32, max_delay: float = 0.002, max_queue: int = 256) -> None:
        """Take what runs a batch; `max_delay` are seconds that an image waits for others, `max_queue` counts images."""
        if max_batch < 1 or max_queue < max_batch or max_delay < 0:
            raise InputError(
                f"batches of {max_batch}, a queue of {max_queue}, a delay of {max_delay:g} s: a batch has at least one"
                " image, a queue holds a batch, and a delay is not negative"
            )
        self._run = run
        self._max_batch = max_batch
        self._max_delay = max_delay
        self._max_queue = max_queue
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._running = 0
        self._draining = False
        self._closed = False
        self._seconds = 0.0  # that an image takes, by the batches so far
        self._last = 0  # images in the batch before, when it was closed
        self._thread = threading.Thread(target=self._work, name="batching", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many images wait for their batch."""
        return len(self._queue)

    def submit(self, levels: Batch, *, deadline: float | None = None) -> "Future[Answer]":
        """Queue one image's levels [channels, height, width], and return its answer to come.

        `deadline` is a time of `time.monotonic`, after which it is dropped. The future fails with ExpiredError, with
        InputError where this image makes a batch fail, or DrainingError where the batcher is closed. Raises
        QueueFullError and DrainingError.
        """
        return self.submit_all([levels], deadline=deadline)[0]

    def submit_all(self, levels: Sequence[Batch], *, deadline: float | None = None) -> "list[Future[Answer]]":
        """Queue several images, all or none of them; raises as `submit` does."""
        now = time.monotonic()
        items = [_Waiting(one, math.inf if deadline is None else deadline, now) for one in levels]
        with self._changed:
            if self._draining or self._closed:
                raise DrainingError("the model is being unloaded; try again")
            if len(self._queue) + len(items) > self._max_queue:
                raise self._full(len(items))
            self._queue.extend(items)
            self._changed.notify_all()
        return [item.future for item in items]

    def drain(self, timeout: float | None = None) -> bool:
        """Take no more, and return whether all that waits was answered within so many seconds."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._queue and not self._running, timeout)

    def close(self) -> None:
        """Take no more, and fail what still waits with DrainingError; the batch that runs is answered."""
        with self._changed:
            self._closed = True
            left = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for item in left:
            _fail(item, DrainingError("the model was unloaded before this image ran; try again"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _full(self, asked: int) -> QueueFullError:
        wait = max(_LEAST_RETRY, self._seconds * min(len(self._queue), self._max_batch))
        if asked > self._max_queue:
            return QueueFullError(
                f"{asked} images at once, but at most {self._max_queue} can wait; send fewer", retry_after=wait
            )
        return QueueFullError(
            f"{len(self._queue)} images wait already, of at most {self._max_queue}; try again", retry_after=wait
        )

    def _work(self) -> None:
        while True:
            items = self._next()
            if items is None:
                return
            try:
                self._answer(items)
            finally:
                with self._changed:
                    self._running = 0
                    self._changed.notify_all()

    def _next(self) -> list[_Waiting] | None:
        """Wait for images, and for others to join them; return them, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            # Under load others are under way: after a batch of one, nobody is likely to come.
            if self._last > 1 and not self._draining:
                ready = self._queue[0].since + self._max_delay
                while len(self._queue) < self._max_batch and not (self._closed or self._draining):
                    left = ready - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            items = [self._queue.popleft() for _ in range(min(self._max_batch, len(self._queue)))]
            self._running = self._last = len(items)
            return items

    def _answer(self, items: list[_Waiting]) -> None:
        start = time.monotonic()
        alive: list[_Waiting] = []
        for item in items:
            if item.deadline < start:
                _fail(item, ExpiredError(f"its deadline passed while it waited, {start - item.since:.3f} s"))
            elif item.future.set_running_or_notify_cancel():
                alive.append(item)
        for alike in _alike(alive):
            self._bisect(alike, start)
        if alive:
            each = (time.monotonic() - start) / len(alive)
            self._seconds += _SMOOTHING * (each - self._seconds) if self._seconds else each

    def _bisect(self, items: list[_Waiting], start: float) -> None:
        """Run images together; where that fails, each half alone, so that one bad image never fails the others."""
        began = time.monotonic()
        try:
            found = self._run(np.stack([item.levels for item in items]))
            if any(len(values) != len(items) for values in found.values()):
                raise InputError(
                    f"the network gave another number of answers than the {len(items)} images it was given"
                )
        except Exception as error:  # noqa: BLE001 - whatever a provider raises, this thread goes on
            if len(items) > 1:
                half = len(items) // 2
                self._bisect(items[:half], start)
                self._bisect(items[half:], start)
                return
            known = error if isinstance(error, ImagingFtError) else InputError(f"this image can't be run: {error}")
            items[0].future.set_exception(known)
            return
        seconds = time.monotonic() - began
        for place, item in enumerate(items):
            own = {name: values[place] for name, values in found.items()}
            item.future.set_result(Answer(own, start - item.since, seconds, len(items)))


def _alike(items: list[_Waiting]) -> list[list[_Waiting]]:
    """Return images grouped by shape and type: what can't be stacked runs in batches of its own."""
    groups: dict[tuple[object, ...], list[_Waiting]] = {}
    for item in items:
        groups.setdefault((item.levels.shape, item.levels.dtype), []).append(item)
    return list(groups.values())


def _fail(item: _Waiting, error: Exception) -> None:
    if item.future.set_running_or_notify_cancel():
        item.future.set_exception(error)
