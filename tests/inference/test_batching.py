"""Micro-batching: each gets its own answer, a bad image fails alone, a full queue says so, nothing accepted is lost."""

import random
import threading
import time
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import numpy as np
import pytest

from imaging_ft.errors import DrainingError, ExpiredError, InputError, QueueFullError
from imaging_ft.inference.batching import Answer, Batcher

BAD = 255


class Machine:
    """Runs batches of levels: it adds one, refuses the value 255, and can be held up."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Event()
        self.batches: list[int] = []

    def __call__(self, levels: Any) -> dict[str, Any]:
        self.begun.set()
        assert self.open.wait(20)
        self.batches.append(len(levels))
        if (levels == BAD).any():
            raise RuntimeError("255")
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
    machine.open.set()
    assert [future.result(20).outputs["sum"] for future in futures] == [4 * value + 1 for value in range(20)]
    assert first.result().batch == 1
    assert machine.batches == [1, 8, 8, 4]
    assert futures[0].result().batch == 8
    assert futures[19].result().queued >= futures[19].result().computed * 0
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


def test_a_full_queue_takes_all_of_a_request_or_nothing(machine: Machine) -> None:
    batcher = Batcher(machine, max_batch=2, max_queue=4)
    held(machine, batcher)
    kept = batcher.submit_all([image(1)] * 3)
    with pytest.raises(QueueFullError, match="3 images wait already, of at most 4; try again") as caught:
        batcher.submit_all([image(2)] * 2)
    assert caught.value.retry_after > 0
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
