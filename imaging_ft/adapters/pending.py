"""Answers that a loop waits for while a thread prepares what they are for: it is woken once, when all are there."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress

from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Served

Submit = Callable[[], "tuple[Served, list[Future[Answer]]]"]
"""Prepares and queues images; returns the model that answers, and its answers to come."""


class Pending:
    """Images on their way through a pool's threads and a model's queue; made on the loop that waits.

    Futures keep their callbacks, and errors their frames: once the wait is over it lets go of both, or each request
    would stay in memory, its image with it, until the collector comes by.
    """

    def __init__(self, submit: Submit, pool: Executor) -> None:
        """Let one of the pool's threads submit."""
        self._loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[tuple[Served, list[Answer]]] | None = self._loop.create_future()
        self._submit: Submit | None = submit
        self._futures: Sequence[Future[Answer]] = ()
        self._left = 0
        self._counting = threading.Lock()
        self._work: Future[None] | None = pool.submit(self._begin)
        self._work.add_done_callback(self._dropped)

    async def wait(self) -> tuple[Served, list[Answer]]:
        """Return the model and its answers, in order; raises what submitting them, or the first to fail, raised.

        Raises CancelledError where the pool is shut down before they are submitted. Where the wait is broken off, what
        has not begun never does, and what is being prepared is given up once it is queued.
        """
        answered, work = self._answered, self._work
        if answered is None or work is None:
            raise RuntimeError("it was waited for already")
        try:
            return await answered
        finally:
            self._answered = self._submit = self._work = None
            work.cancel()
            for future in self._futures:
                future.cancel()
            self._futures = ()
            del answered, work

    def _begin(self) -> None:
        submit = self._submit
        if submit is None:
            return
        try:
            served, futures = submit()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._tell(lambda found=error: self._fail(found))
            return
        finally:
            del submit
        self._futures, self._left = futures, len(futures)
        if self._answered is None:  # whoever waited has gone, before or after these were to be seen
            self._futures = ()
            for future in futures:
                future.cancel()
            return
        if not futures:
            self._tell(lambda: self._finish(served))
        for future in futures:
            future.add_done_callback(lambda done: self._count(served, done))

    def _count(self, served: Served, done: "Future[Answer]") -> None:
        with self._counting:  # also told in order: nothing is finished before the failure of another is heard
            self._left -= 1
            if done.cancelled():
                return  # by whoever waited
            error = done.exception()
            if error is not None:
                self._tell(lambda: self._fail(error))
            elif not self._left:
                self._tell(lambda: self._finish(served))

    def _dropped(self, work: "Future[None]") -> None:
        """Tell that the pool was shut down before the work began."""
        if work.cancelled():
            self._tell(lambda: self._answered is not None and self._answered.cancel())

    def _tell(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(what)

    def _fail(self, error: BaseException) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    def _finish(self, served: Served) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result((served, [future.result() for future in self._futures]))
