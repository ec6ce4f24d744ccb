"""A batch passes the network in parts where memory is short, and the step is the one that the whole batch makes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.errors import RunError
from imaging_ft.models.factory import Classifier, create
from imaging_ft.training import setup
from imaging_ft.training.engine import make_engine
from imaging_ft.training.images import TrainingBatches, clean_batches
from imaging_ft.training.objective import Objective
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.training.trainer import Trainer
from imaging_ft.types import Task
from tests.conftest import write_dataset

BATCH = 8
Full = Callable[[], BaseException]

CPU_FULL = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
FULL: dict[str, Full] = {
    "torch's own": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "Python's": MemoryError,
    "the processor's": lambda: RuntimeError(CPU_FULL),
    "cuDNN's": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
}


class Room:
    """Lets a model train on so many images at once and no more, as a small memory does."""

    def __init__(self, images: int, error: Full = FULL["torch's own"]) -> None:
        self.images = images
        self.error = error
        self.refused = 0

    def __call__(self, module: Any, inputs: tuple[Any, ...]) -> None:
        if module.training and len(inputs[0]) > self.images:
            self.refused += 1
            raise self.error()


class SecondPart:
    """Lets memory run out once, in the second part of a batch: the first one has left its gradients by then."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, module: Any, inputs: tuple[Any, ...]) -> None:
        self.calls += module.training
        if self.calls == 2:
            raise torch.OutOfMemoryError


def images(count: int = 20) -> Images:
    """Return noise around a level that depends on the class; the last of three batches is smaller."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    levels = np.clip(rng.normal(60 + 50 * labels[:, None, None, None], 20, (count, 32, 32, 1)), 0, 255)
    return Images(levels.astype(np.uint8), np.eye(2, dtype=np.float32)[labels])


def weights_after(frozen: bool, room: Callable[..., None] | None = None, **values: Any) -> tuple[Trainer, torch.Tensor]:
    """Return the trainer and all weights and statistics after an epoch."""
    torch.manual_seed(0)
    model = create("test_resnet", classes=2, weights="none")
    if room is not None:
        model.register_forward_pre_hook(room)
    settings = TrainSettings.checked({"epochs": 1, "batch_size": BATCH, "size": 32} | values, where="test")
    levels, _ = next(clean_batches(images(), 4))
    engine = make_engine(model, levels, device="cpu", precision="fp32", classes=2)
    batches = TrainingBatches(images(), load_recipe("none").build(), batch_size=BATCH, seed=0, workers=0)
    trainer = Trainer(engine, model, batches, settings, Objective(Task.MULTICLASS), frozen=frozen)
    assert [step for step, _ in trainer.epoch(1)] == [0, 1, 2]
    return trainer, everything(model)


def everything(model: Classifier) -> torch.Tensor:
    return torch.cat([value.reshape(-1).double() for value in model.state_dict().values()])


@pytest.mark.parametrize(("room", "parts"), [(1, 8), (3, 4), (4, 2), (8, 1)])
def test_where_memory_runs_out_the_step_is_made_in_more_parts_and_is_the_same(room: int, parts: int) -> None:
    _, whole = weights_after(frozen=True)
    limit = Room(room)
    trainer, found = weights_after(frozen=True, room=limit)
    assert trainer.parts == parts
    assert limit.refused == parts.bit_length() - 1, "once for each doubling; the parts stay for the steps that follow"
    assert torch.allclose(found, whole, atol=2e-5, rtol=1e-4)


def test_what_a_part_left_before_memory_ran_out_does_not_count() -> None:
    _, whole = weights_after(frozen=False, accumulate=4)
    trainer, found = weights_after(frozen=False, room=SecondPart(), accumulate=2)
    assert trainer.parts == 4
    assert torch.equal(found, whole), "neither in the gradients nor in the statistics"


@pytest.mark.parametrize("error", FULL.values(), ids=FULL)
def test_every_way_to_say_that_memory_ran_out_is_understood(error: Full) -> None:
    trainer, _ = weights_after(frozen=True, room=Room(4, error))
    assert trainer.parts == 2


def test_another_error_is_no_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        weights_after(frozen=True, room=Room(4, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


@pytest.mark.parametrize(("frozen", "room"), [(True, 0), (False, 1)], ids=["one image", "two, for statistics"])
def test_where_the_smallest_part_does_not_fit_one_line_says_what_to_do(frozen: bool, room: int) -> None:
    with pytest.raises(RunError, match="memory runs out even with one image at a time; take a smaller --size"):
        weights_after(frozen=frozen, room=Room(room))


@pytest.mark.parametrize("parts", [2, 4, 5])
def test_accumulated_parts_make_the_step_of_the_whole_batch(parts: int) -> None:
    _, whole = weights_after(frozen=True)
    trainer, found = weights_after(frozen=True, room=Room(-(-BATCH // parts)), accumulate=parts)
    assert trainer.parts == parts, "no part is larger than its share"
    assert torch.allclose(found, whole, atol=2e-5, rtol=1e-4)


def test_parts_of_a_batch_whose_statistics_are_trained_hold_two_images_or_more() -> None:
    seen: list[int] = []
    weights_after(frozen=False, room=lambda _, inputs: seen.append(len(inputs[0])), accumulate=BATCH)
    assert seen == [2] * 10


def test_a_run_says_when_memory_ran_out_and_finishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(*args: Any, **values: Any) -> Classifier:
        model = create(*args, **values)
        model.register_forward_pre_hook(Room(3))
        return model

    monkeypatch.setattr(setup, "create", small)
    settings = TrainSettings(
        model="test_resnet", weights="none", size=32, epochs=1, batch_size=6, augmentation="none", precision="fp32"
    )
    said: list[str] = []
    summary = train(str(write_dataset(tmp_path / "data", per_group=1)), tmp_path / "run", settings, say=said.append)
    assert said.count("memory ran out: batches now pass in 2 parts") == 1
    assert summary["cost"]["batch_parts"] == 2
    assert summary["epochs"] == 1


@pytest.mark.parametrize("room", [8, 3, 0])
def test_a_mode_that_is_measured_takes_what_memory_holds(room: int) -> None:
    torch.manual_seed(0)
    model = create("test_resnet", classes=2, weights="none")
    before = everything(model)
    limit = Room(room)
    model.register_forward_pre_hook(limit)
    levels, _ = next(clean_batches(images(), 8))
    engine = make_engine(model, levels, device="cpu", precision="auto", classes=2)
    assert len(engine.speeds) == 3
    assert all((speed > 0) == (room > 1) for speed in engine.speeds.values())
    assert (limit.refused > 0) == (room < 8)
    assert torch.equal(everything(model), before), "nothing is left of it, whichever pass ran out"


def test_a_mode_that_is_far_slower_than_another_is_not_measured_to_the_end() -> None:
    model = create("test_resnet", classes=2, weights="none")
    passes = {True: 0, False: 0}

    def slow_in_bf16(*_: Any) -> None:
        bf16 = torch.is_autocast_enabled("cpu")
        passes[bf16] += 1
        time.sleep(0.5 * bf16)

    model.register_forward_pre_hook(slow_in_bf16)
    levels, _ = next(clean_batches(images(), 8))
    engine = make_engine(model, levels, device="cpu", precision="auto", classes=2)
    assert not engine.mode.startswith("bf16")
    assert 0 < engine.speeds["bf16, channels_last"] < min(engine.speeds["fp32"], engine.speeds["fp32, channels_last"])
    assert passes[True] == 4
    assert passes[False] >= 12, "fp32 eight times; in channels_last so too, unless the machine was busy"
