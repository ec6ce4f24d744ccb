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
    """Images on their way through a pool's threads and a model's queue; made on the loop that waits."""

    def __init__(self, submit: Submit, pool: Executor) -> None:
        """Let one of the pool's threads submit."""
        self._loop = asyncio.get_running_loop()
        self._answered: asyncio.Future[tuple[Served, list[Answer]]] = self._loop.create_future()
        self._submit = submit
        self._futures: Sequence[Future[Answer]] = ()
        self._left = 0
        self._counting = threading.Lock()
        self._gone = False
        self._work = pool.submit(self._begin)

    async def wait(self) -> tuple[Served, list[Answer]]:
        """Return the model and its answers, in order; raises what submitting them, or the first to fail, raised.

        Where the wait is broken off, what has not begun by then never does.
        """
        try:
            return await self._answered
        finally:
            self._gone = True
            self._work.cancel()
            self._cancel()

    def _begin(self) -> None:
        try:
            served, futures = self._submit()
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._tell(lambda found=error: self._fail(found))
            return
        self._futures, self._left = futures, len(futures)
        if self._gone:
            self._cancel()
            return
        if not futures:
            self._tell(lambda: self._finish(served))
        for future in futures:
            future.add_done_callback(lambda done: self._count(served, done))

    def _count(self, served: Served, done: "Future[Answer]") -> None:
        with self._counting:
            self._left -= 1
            last = not self._left
        if done.cancelled():
            return  # by whoever waited
        error = done.exception()
        if error is not None:
            self._tell(lambda: self._fail(error))
        elif last:
            self._tell(lambda: self._finish(served))

    def _tell(self, what: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            self._loop.call_soon_threadsafe(what)

    def _fail(self, error: BaseException) -> None:
        if not self._answered.done():
            self._answered.set_exception(error)

    def _finish(self, served: Served) -> None:
        if not self._answered.done():
            self._answered.set_result((served, [future.result() for future in self._futures]))

    def _cancel(self) -> None:
        for future in self._futures:
            future.cancel()
