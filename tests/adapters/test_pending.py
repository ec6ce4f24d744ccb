"""Answers that a loop waits for: it is woken once, hears of the first failure, and leaves nothing behind."""

import asyncio
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

import pytest

from imaging_ft.adapters.pending import Pending
from imaging_ft.errors import InputError, QueueFullError
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Served

MODEL = cast("Served", "the model that answers")


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as found:
        yield found


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(in_time())


def answer(number: int) -> Answer:
    return Answer({}, 0.0, 0.0, number)


def test_answers_come_in_order_however_they_end(pool: ThreadPoolExecutor) -> None:
    futures: list[Future[Answer]] = [Future(), Future(), Future()]

    async def test() -> None:
        pending = Pending(lambda: (MODEL, futures), pool)
        waiting = asyncio.create_task(pending.wait())
        for place in (2, 0):
            futures[place].set_result(answer(place))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        futures[1].set_result(answer(1))
        assert await waiting == (MODEL, [answer(0), answer(1), answer(2)])
        assert await Pending(lambda: (MODEL, []), pool).wait() == (MODEL, [])

    run(test)


def test_what_fails_is_raised_at_once(pool: ThreadPoolExecutor) -> None:
    futures: list[Future[Answer]] = [Future(), Future()]

    def full() -> Any:
        raise QueueFullError("no room", retry_after=1)

    async def test() -> None:
        with pytest.raises(QueueFullError, match="no room"):
            await Pending(full, pool).wait()
        waiting = asyncio.create_task(Pending(lambda: (MODEL, futures), pool).wait())
        futures[1].set_exception(InputError("a bad image"))
        with pytest.raises(InputError, match="a bad image"):
            await waiting
        assert futures[0].cancelled()  # nobody waits for it any more

    run(test)


def test_who_leaves_before_it_begins_takes_it_along(pool: ThreadPoolExecutor) -> None:
    go, begun = threading.Event(), threading.Event()
    futures: list[Future[Answer]] = [Future()]
    later: list[str] = []

    def held() -> Any:
        begun.set()
        assert go.wait(30)
        return MODEL, futures

    def never() -> Any:
        later.append("it ran")
        return MODEL, []

    async def test() -> None:
        first = asyncio.create_task(Pending(held, pool).wait())
        await asyncio.to_thread(begun.wait, 30)
        second = asyncio.create_task(Pending(never, pool).wait())
        await asyncio.sleep(0)
        for task in (first, second):
            task.cancel()
        assert [type(one) for one in await asyncio.gather(first, second, return_exceptions=True)] == (
            [asyncio.CancelledError] * 2
        )
        go.set()
        await asyncio.to_thread(pool.shutdown)
        assert futures[0].cancelled()  # queued after its waiter had gone
        assert later == []

    run(test)


def test_an_answer_after_the_loop_s_end_harms_nobody(pool: ThreadPoolExecutor) -> None:
    futures: list[Future[Answer]] = [Future()]
    made: list[Pending] = []

    async def test() -> None:
        made.append(Pending(lambda: (MODEL, futures), pool))
        await asyncio.to_thread(lambda: pool.submit(lambda: None).result(30))  # it has been submitted by then

    run(test)
    futures[0].set_result(answer(0))
    assert futures[0].done()


def test_who_waits_hears_that_the_pool_was_shut_down() -> None:
    go = threading.Event()
    pool = ThreadPoolExecutor(1)

    async def test() -> None:
        pool.submit(go.wait, 30)
        waiting = asyncio.create_task(Pending(lambda: (MODEL, []), pool).wait())
        await asyncio.sleep(0)
        pool.shutdown(wait=False, cancel_futures=True)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go.set()

    run(test)


class Upload:
    """What an image's closures hold."""


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("end", ["answered", "refused", "failed", "late"])
def test_nothing_of_an_image_outlives_its_answer(end: str, pool: ThreadPoolExecutor) -> None:
    kept: list[weakref.ref[Upload]] = []

    async def one() -> None:
        upload = Upload()
        kept.append(weakref.ref(upload))
        future: Future[Answer] = Future()

        def submit(upload: Upload = upload) -> Any:
            if end == "refused":
                raise InputError("no image")
            return MODEL, [future] if upload else []

        pending = Pending(submit, pool)
        del upload, submit
        if end == "answered":
            future.set_result(answer(0))
        elif end == "failed":
            future.set_exception(InputError("a bad image"))
        try:
            async with asyncio.timeout(0.05 if end == "late" else 30):
                await pending.wait()
        except (InputError, TimeoutError):
            assert end != "answered"

    async def test() -> None:
        for _ in range(3):
            await one()
        await asyncio.to_thread(lambda: pool.submit(lambda: None).result(30))  # its thread holds its last work

    run(test)
    assert [found for found in kept if found() is not None] == []
