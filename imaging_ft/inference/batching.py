"""Micro-batching: what many threads ask for at once runs together, and each gets its own answer.

One thread runs the batches. A batch is closed when it is full, when its oldest image has waited long enough, or at once
where nothing else could come: a lone request never waits for others that aren't there.
"""

import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from imaging_ft.config import reason
from imaging_ft.errors import DrainingError, ExpiredError, ImagingFtError, InputError, QueueFullError
from imaging_ft.inference.network import Batch, Outputs

Run = Callable[[Batch], Outputs]
"""Outputs [n, …] by name for levels [n, channels, height, width]."""

_LOG = logging.getLogger("imaging_ft")
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


@dataclass(eq=False, slots=True)
class _Waiting:
    levels: Batch
    alike: tuple[object, ...]
    """Shape and type: what differs in them can't be stacked."""
    request: int
    """What was submitted together."""
    deadline: float
    """In seconds of `time.monotonic`; infinite without one."""
    since: float
    future: "Future[Answer]" = field(default_factory=lambda: Future())

    def runs(self, now: float) -> bool:
        """Return whether it is still wanted."""
        return self.deadline >= now and not self.future.cancelled()


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
        self.max_batch = max_batch
        """Images in a batch at most."""
        self._max_delay = max_delay
        self._max_queue = max_queue
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._running = 0
        self._draining = False
        self._closed = False
        self._seconds = 0.0  # that an image takes, by the batches so far
        self._last = 0  # requests in the batch before
        self._requests = itertools.count()
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
        now, request = time.monotonic(), next(self._requests)
        until = math.inf if deadline is None else deadline
        items = [_Waiting(one, (one.shape, one.dtype), request, until, now) for one in levels]
        with self._changed:
            if self._draining or self._closed:
                raise DrainingError("the model is being unloaded; try again")
            if len(self._queue) + len(items) > self._max_queue:
                raise self._full(len(items))
            first = not self._queue
            self._queue.extend(items)
            if first or len(self._queue) >= self.max_batch:  # in between, the thread waits for more
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
            _drop(item, DrainingError("the model was unloaded before this image ran; try again"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _full(self, asked: int) -> QueueFullError:
        ahead = max(min(len(self._queue), self.max_batch), len(self._queue) + asked - self._max_queue)
        wait = max(_LEAST_RETRY, self._seconds * ahead)
        if asked > self._max_queue:
            return QueueFullError(
                f"{asked} images at once, but at most {self._max_queue} can wait; send fewer", retry_after=wait
            )
        return QueueFullError(
            f"{len(self._queue)} images wait already, of at most {self._max_queue}; try again", retry_after=wait
        )

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Wait for a batch and answer it; return False at the end. While the next is awaited, nothing of it is held."""
        items = self._next()
        if items is None:
            return False
        self._answer(items)
        with self._changed:
            self._running = 0
            self._changed.notify_all()
        return True

    def _next(self) -> list[_Waiting] | None:
        """Wait for images, and for others to join them; return them, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if self._closed:
                return None
            # Under load others are under way: after the images of one request alone, nobody is likely to come.
            if self._last > 1 and not self._draining:
                ready = self._queue[0].since + self._max_delay
                while len(self._queue) < self.max_batch and not (self._closed or self._draining):
                    left = ready - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        break
            items: list[_Waiting] = []
            places, now = self.max_batch, time.monotonic()
            while self._queue and places:
                items.append(self._queue.popleft())
                places -= items[-1].runs(now)  # what isn't wanted any more takes nobody's place
            self._running = len(items)
            self._last = len({item.request for item in items})
            return items

    def _answer(self, items: list[_Waiting]) -> None:
        start = time.monotonic()
        alike: dict[tuple[object, ...], list[_Waiting]] = {}
        count = 0
        for item in items:
            if item.deadline < start:
                _drop(item, ExpiredError(f"its deadline passed while it waited, {start - item.since:.3f} s"))
            elif item.future.set_running_or_notify_cancel():
                alike.setdefault(item.alike, []).append(item)
                count += 1
        for together in alike.values():
            self._bisect(together, start)
        if count:
            each = (time.monotonic() - start) / count
            self._seconds += _SMOOTHING * (each - self._seconds) if self._seconds else each

    def _bisect(self, items: list[_Waiting], start: float) -> None:
        """Run images together; where that fails, each half alone, so that one bad image never fails the others."""
        try:
            answers = self._answers(items, start)
        except BaseException as error:  # noqa: BLE001 - whatever a provider raises, this thread goes on
            _LOG.debug("a batch of %d failed: %s", len(items), reason(error))
            failure = _bare(error)
        else:
            for item, answer in zip(items, answers, strict=True):
                _settle(item, answer)
            return
        if len(items) == 1:
            _settle(items[0], failure)
            return
        half = len(items) // 2
        self._bisect(items[:half], start)
        self._bisect(items[half:], start)

    def _answers(self, items: list[_Waiting], start: float) -> list[Answer]:
        began = time.monotonic()
        found = self._run(np.stack([item.levels for item in items]))
        if any(len(values) != len(items) for values in found.values()):
            raise InputError(f"the network gave another number of answers than the {len(items)} images it was given")
        seconds = time.monotonic() - began
        return [
            Answer({name: values[place] for name, values in found.items()}, start - item.since, seconds, len(items))
            for place, item in enumerate(items)
        ]


def _bare(error: BaseException) -> ImagingFtError:
    """Return a failure for a client, without its tracebacks: they hold the batch, and would as long as the future."""
    if not isinstance(error, ImagingFtError):
        return InputError(f"this image can't be run: {reason(error)}")
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _drop(item: _Waiting, error: ImagingFtError) -> None:
    if item.future.set_running_or_notify_cancel():
        _settle(item, error)


def _settle(item: _Waiting, outcome: Answer | ImagingFtError) -> None:
    try:
        if isinstance(outcome, Answer):
            item.future.set_result(outcome)
        else:
            item.future.set_exception(outcome)
    except BaseException as error:  # noqa: BLE001 - a callback's: the answer stands, and the others get theirs
        _LOG.warning("who was given an answer failed on it: %s", reason(error))
