"""Micro-batching: each gets its own answer, a bad image fails alone, a full queue says so, nothing accepted is lost."""

import random
import threading
import time
import weakref
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import numpy as np
import pytest

from imaging_ft.errors import DrainingError, ExpiredError, InputError, QueueFullError
from imaging_ft.inference.batching import Answer, Batcher

BAD = 255
FOR_EVER = 600.0
"""Seconds: longer than any test waits for an answer."""


class Panic(BaseException):
    """What a library written in another language raises: no Exception."""


class Machine:
    """Runs batches of levels: it adds one, refuses the value 255, and can be held up."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.batches: list[int] = []
        self.kind: type[BaseException] = RuntimeError
        self.seconds = 0.0

    def __call__(self, levels: Any) -> dict[str, Any]:
        self.begun.set()
        assert self.open.wait(20)
        self.batches.append(len(levels))
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            pass
        if (levels == BAD).any():
            raise self.kind("255")
        return {"sum": levels.astype(np.int64).sum(axis=(1, 2, 3)) + 1}

    def hold(self) -> None:
        self.open.clear()
        self.begun.clear()


def image(value: int, side: int = 2) -> Any:
    return np.full((1, side, side), value, np.uint8)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def held(machine: Machine, batcher: Batcher) -> "Future[Answer]":
    """Hold the machine up with one image, so that what comes next waits."""
    machine.hold()
    first = batcher.submit(image(0))
    assert machine.begun.wait(20)
    return first


def test_what_waits_together_runs_together_and_each_gets_its_own(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=8, max_queue=100)
    first = held(machine, batcher)
    futures = [batcher.submit(image(value)) for value in range(20)]
    assert batcher.waiting == 20
    submitted = time.monotonic()
    waited = time.monotonic() - submitted
    machine.open.set()
    assert [future.result(20).outputs["sum"] for future in futures] == [4 * value + 1 for value in range(20)]
    assert first.result().batch == 1
    assert machine.batches == [1, 8, 8, 4]
    assert futures[0].result().batch == 8
    assert all(future.result().queued >= waited for future in futures)
    assert first.result().computed >= waited
    batcher.close()


def test_a_lone_request_waits_for_nobody_however_many_images_it_has(machine: Machine) -> None:
    batcher = Batcher(machine, max_delay=FOR_EVER)
    for count in (1, 3, 3, 1):
        assert [future.result(20).batch for future in batcher.submit_all([image(1)] * count)] == [count] * count
    batcher.close()


def after_a_batch_of_two_requests(machine: Machine, **limits: Any) -> Batcher:
    """Return a batcher that has seen requests come together, and so waits for more."""
    batcher = Batcher(machine, **limits)
    held(machine, batcher)
    both = [batcher.submit(image(1)) for _ in range(2)]
    machine.open.set()
    assert [future.result(20).batch for future in both] == [2, 2]
    return batcher


def test_under_load_a_batch_closes_at_its_size(machine: Machine) -> None:
    batcher = after_a_batch_of_two_requests(machine, max_batch=4, max_delay=FOR_EVER)
    futures = [batcher.submit(image(value)) for value in range(3)]
    assert not wait(futures, timeout=0.05).done  # they wait for a fourth
    futures.append(batcher.submit(image(3)))
    assert [future.result(20).batch for future in futures] == [4] * 4
    batcher.close()


def test_under_load_a_batch_closes_once_its_oldest_image_has_waited(machine: Machine) -> None:
    batcher = after_a_batch_of_two_requests(machine, max_delay=0.05)
    answer = batcher.submit(image(1)).result(20)
    assert answer.batch == 1
    assert answer.queued > 0.049
    batcher.close()


def test_what_waits_for_others_is_not_kept_waiting_at_the_end(machine: Machine) -> None:
    batcher = after_a_batch_of_two_requests(machine, max_delay=FOR_EVER)
    future = batcher.submit(image(1))
    assert batcher.drain(20)
    assert future.result(20).batch == 1
    batcher.close()


def test_a_bad_image_fails_alone_in_few_runs(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=32, max_queue=100)
    held(machine, batcher)
    futures = [batcher.submit(image(BAD if value == 21 else value)) for value in range(32)]
    machine.open.set()
    with pytest.raises(InputError, match="this image can't be run: 255"):
        futures.pop(21).result(20)
    assert [future.result(20).outputs["sum"] for future in futures] == [
        4 * value + 1 for value in range(32) if value != 21
    ]
    assert len(machine.batches) == 1 + 1 + 2 * 5  # the one that held up, the whole, and the halves of 32
    assert batcher.submit(image(1)).result(20).outputs["sum"] == 5  # and it goes on
    batcher.close()


@pytest.mark.parametrize("kind", [Panic, SystemExit, MemoryError, KeyboardInterrupt])
def test_whatever_a_run_raises_the_others_are_answered(machine: Machine, kind: type[BaseException]) -> None:
    machine.kind = kind
    batcher = Batcher(machine)
    good, bad = batcher.submit_all([image(1), image(BAD)])
    with pytest.raises(InputError, match="this image can't be run: 255"):
        bad.result(20)
    assert good.result(20).outputs["sum"] == 5
    assert batcher.submit(image(2)).result(20).outputs["sum"] == 9
    batcher.close()


@pytest.mark.parametrize("found", [None, {"sum": 3}, {"sum": {1}}], ids=str)
def test_answers_of_no_known_form_are_an_error(found: Any) -> None:
    batcher = Batcher(lambda levels: found)
    for _ in range(2):
        with pytest.raises(InputError, match="this image can't be run"):
            batcher.submit(image(1)).result(20)
    batcher.close()


def test_who_fails_on_an_answer_fails_alone(machine: Machine) -> None:
    def fail(_: object) -> None:
        raise Panic("his own")

    batcher = Batcher(machine)
    held(machine, batcher)
    one, other, late = batcher.submit(image(1)), batcher.submit(image(2)), batcher.submit(image(3), deadline=0)
    one.add_done_callback(fail)
    late.add_done_callback(fail)
    machine.open.set()
    assert [one.result(20).outputs["sum"], other.result(20).outputs["sum"]] == [5, 9]
    assert isinstance(late.exception(20), ExpiredError)
    assert batcher.submit(image(3)).result(20).outputs["sum"] == 13
    batcher.close()


@pytest.mark.usefixtures("no_collector")
def test_a_failed_batch_is_out_of_memory_at_once() -> None:
    def run(levels: Any) -> dict[str, Any]:
        try:
            if (levels == BAD).any():
                raise RuntimeError("255")
        except RuntimeError as error:
            raise InputError("no numbers") from error
        return {"sum": levels.sum(axis=(1, 2, 3))}

    batcher = Batcher(run)
    images = [image(value) for value in (1, BAD, 2, 3)]
    gone = [weakref.ref(one) for one in images]
    futures = batcher.submit_all(images)
    assert [type(future.exception(20)) for future in futures] == [type(None), InputError, type(None), type(None)]
    assert batcher.drain(20)
    batcher.close()
    del images
    assert [one() for one in gone] == [None] * 4  # though the futures, and their failure, are still held


def test_a_full_queue_takes_all_of_a_request_or_nothing(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=2, max_queue=4)
    held(machine, batcher)
    kept = batcher.submit_all([image(1)] * 3)
    with pytest.raises(QueueFullError, match="3 images wait already, of at most 4; try again") as caught:
        batcher.submit_all([image(2)] * 2)
    assert caught.value.retry_after >= 0.05
    with pytest.raises(QueueFullError, match="5 images at once, but at most 4 can wait; send fewer"):
        batcher.submit_all([image(2)] * 5)
    kept.append(batcher.submit(image(1)))
    machine.open.set()
    assert [future.result(20).outputs["sum"] for future in kept] == [5] * 4
    assert sum(machine.batches) == 5
    batcher.close()


def test_what_has_expired_is_dropped_before_it_runs(machine: Machine) -> None:
    batcher = Batcher(machine)
    held(machine, batcher)
    late = batcher.submit(image(1), deadline=time.monotonic() - 1)
    in_time = batcher.submit(image(2), deadline=time.monotonic() + 60)
    machine.open.set()
    with pytest.raises(ExpiredError, match="its deadline passed while it waited"):
        late.result(20)
    assert in_time.result(20).batch == 1
    batcher.close()


def test_what_is_not_wanted_any_more_takes_no_place_in_a_batch(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=8, max_queue=100)
    held(machine, batcher)
    futures = [batcher.submit(image(1), deadline=None if place % 8 == 0 else 0.0) for place in range(32)]
    cancelled = batcher.submit_all([image(1)] * 32)
    assert all([future.cancel() for future in cancelled])  # noqa: C419 - each of them
    futures += batcher.submit_all([image(1)] * 4)
    machine.open.set()
    wait(futures, timeout=20)
    assert machine.batches == [1, 8]
    batcher.close()


def test_when_to_come_again_follows_what_was_answered_lately(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=4, max_queue=8)
    machine.seconds = 0.02
    image_takes = batcher.submit(image(1)).result(20).computed
    held(machine, batcher)
    kept = batcher.submit_all([image(1)] * 8)
    waits: list[float] = []
    for count in (1, 8):
        with pytest.raises(QueueFullError) as caught:
            batcher.submit_all([image(1)] * count)
        waits.append(caught.value.retry_after)
    assert waits[0] >= 4 * image_takes  # a batch makes room for four
    assert waits[1] == pytest.approx(2 * waits[0])
    machine.open.set()
    assert wait(kept, timeout=20).not_done == set()
    batcher.close()


def test_what_is_cancelled_is_not_run(machine: Machine) -> None:
    batcher = Batcher(machine)
    held(machine, batcher)
    one, other = batcher.submit(image(1)), batcher.submit(image(2))
    assert one.cancel()
    machine.open.set()
    assert other.result(20).batch == 1
    with pytest.raises(CancelledError):
        one.result()
    batcher.close()


def test_draining_answers_what_was_taken_and_takes_no_more(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=2)
    first = held(machine, batcher)
    rest = batcher.submit_all([image(value) for value in range(5)])
    assert not batcher.drain(0.01)
    with pytest.raises(DrainingError):
        batcher.submit(image(1))
    machine.open.set()
    assert batcher.drain(20)
    assert all(future.done() for future in [first, *rest])
    batcher.close()


def test_closing_fails_what_waits_and_answers_what_runs(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=1)
    first = held(machine, batcher)
    waiting = batcher.submit(image(1))
    closing = threading.Thread(target=batcher.close)
    closing.start()
    with pytest.raises(DrainingError, match="unloaded before this image ran"):
        waiting.result(20)
    machine.open.set()
    assert first.result(20).outputs["sum"] == 1
    closing.join(20)
    assert not closing.is_alive()


def test_images_that_cannot_be_stacked_run_apart(machine: Machine) -> None:
    batcher = Batcher(machine)
    held(machine, batcher)
    futures = [batcher.submit(image(1, side)) for side in (2, 3, 2)]
    machine.open.set()
    assert [future.result(20).outputs["sum"] for future in futures] == [5, 10, 5]
    assert sorted(machine.batches) == [1, 1, 2]
    batcher.close()


def test_too_few_answers_are_an_error_and_never_anothers_answer() -> None:
    batcher = Batcher(lambda levels: {"sum": np.zeros(len(levels) + 1)})
    with pytest.raises(InputError, match="another number of answers"):
        batcher.submit(image(1)).result(20)
    batcher.close()


@pytest.mark.parametrize("limits", [{"max_batch": 0}, {"max_batch": 8, "max_queue": 4}, {"max_delay": -1}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a batch has at least one image"):
        Batcher(Machine(), **limits)


def test_under_many_threads_every_future_is_resolved_once_with_its_own_answer() -> None:
    batcher = Batcher(Machine(), max_batch=16, max_queue=64, max_delay=0.0005)
    outcomes: list[tuple[int, Future[Answer]]] = []
    refused = [0]
    lock = threading.Lock()

    def ask(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            values = [rng.choice([*range(50), BAD]) for _ in range(rng.randint(1, 5))]
            deadline = time.monotonic() + rng.choice([-1, 60, 60, 60])
            try:
                found = batcher.submit_all([image(value) for value in values], deadline=deadline)
            except QueueFullError:
                with lock:
                    refused[0] += len(values)
                continue
            with lock:
                outcomes.extend(zip(values, found, strict=True))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    done, left = wait([future for _, future in outcomes], timeout=60)
    assert not left
    assert len(done) == len(outcomes)
    right = bad = expired = 0
    for value, future in outcomes:
        error = future.exception()
        if error is None:
            assert value != BAD
            assert future.result().outputs["sum"] == 4 * value + 1
            right += 1
        elif isinstance(error, ExpiredError):
            expired += 1
        else:
            assert value == BAD
            bad += 1
    assert min(right, bad, expired) > 0
    batcher.close()
