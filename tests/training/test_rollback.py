"""A loss that is no number takes the run back to its last checkpoint, at half the rate; it is never trained on."""

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from imaging_ft.errors import RunError
from imaging_ft.models.factory import create
from imaging_ft.training.rehearse import dry_run
from imaging_ft.training.run import save_weights
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.training.trainer import Trainer
from tests.conftest import write_dataset

STEPS = 3
"""In each epoch."""
SETTINGS = TrainSettings(
    model="test_resnet",
    weights="none",
    size=32,
    epochs=3,
    batch_size=6,
    deterministic=True,
    augmentation="none",
    batch_norm="trained",
    adapt=False,
    layer_decay=1.0,
)
"""Without trials, so that every step is one of the run's own."""

Change = Callable[[Trainer, int, Any], None]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), per_group=1))


@pytest.fixture(scope="module")
def whole(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which nothing happens."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(dataset, run, SETTINGS)
    return run


@pytest.fixture
def before_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Lets something happen before each step: to the trainer, at a step from the start (from 0), to the targets."""
    real = Trainer.step

    def install(change: Change) -> None:
        def step(self: Trainer, batch: Any, number: int, images: int) -> float:
            change(self, number, batch[1])
            return real(self, batch, number, images)

        monkeypatch.setattr(Trainer, "step", step)

    return install


def poison(step: int, *, above: float) -> Change:
    """Make a step's targets, and so its loss, no numbers as long as the factor on the rates is above a bound."""

    def change(trainer: Trainer, number: int, targets: torch.Tensor) -> None:
        if number == step and trainer.factor > above:
            targets[0, 0] = math.nan

    return change


def model(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def rates(run: Path) -> list[float]:
    with (run / "history.csv").open(newline="") as file:
        return [float(row["learning_rate"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("minutes", [10, 1e-6], ids=["to the epoch's start", "to the step before"])
def test_a_loss_that_is_no_number_once_halves_the_rate_and_the_run_finishes(
    minutes: float, dataset: str, whole: Path, tmp_path: Path, before_step: Callable[[Change], None]
) -> None:
    said: list[str] = []
    settings = SETTINGS.model_copy(update={"checkpoint_minutes": minutes})
    before_step(poison(STEPS + 2, above=0.5))
    summary = train(dataset, tmp_path / "run", settings, say=said.append)
    assert [line for line in said if line.startswith("warning: the loss")] == [
        "warning: the loss is no longer a number; back to epoch 1 with the rate ×0.5 (1 of 3)"
    ]
    assert (summary["cost"]["rollbacks"], summary["epochs"]) == (1, 3)
    assert summary["cost"]["images_trained"] == 3 * 18, "those of the steps that count"
    assert rates(tmp_path / "run") == pytest.approx(
        [rates(whole)[0], rates(whole)[1], *(r / 2 for r in rates(whole)[2:])]
    )

    begun = STEPS if minutes == 10 else STEPS + 2

    def halve(trainer: Trainer, number: int, targets: torch.Tensor) -> None:
        trainer.factor = 0.5 if number >= begun else 1.0

    before_step(halve)
    train(dataset, tmp_path / "halved", SETTINGS)
    assert model(tmp_path / "run") == model(tmp_path / "halved"), "nothing of the steps that were taken back is left"


def test_a_gradient_that_is_no_number_rolls_back_too(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = Trainer._gradients

    def gradients(self: Trainer, batch: Any, step: int, images: int) -> float:
        loss = real(self, batch, step, images)
        if step == 3 * STEPS - 1 and self.factor == 1:  # the last: no loss comes after it to show what it broke
            self.model.head.weight.grad[0, 0] = math.inf  # type: ignore[index]
        return loss

    monkeypatch.setattr(Trainer, "_gradients", gradients)
    summary = train(dataset, tmp_path / "run", SETTINGS)
    assert (summary["cost"]["rollbacks"], summary["epochs"]) == (1, 3)
    assert all(math.isfinite(value) for value in summary["judged"]["conditions"].values())


def test_a_loss_that_stays_no_number_ends_after_three_halvings_and_the_run_can_be_resumed(
    dataset: str, whole: Path, tmp_path: Path, before_step: Callable[[Change], None]
) -> None:
    said: list[str] = []
    before_step(poison(STEPS + 2, above=0))
    run = tmp_path / "run"
    with pytest.raises(RunError, match=r"the training loss is no longer a number; .*halved 3 times; .* can be resumed"):
        train(dataset, run, SETTINGS, say=said.append)
    warnings = [line for line in said if line.startswith("warning: the loss")]
    assert [line.partition("the rate ")[2] for line in warnings] == [
        "×0.5 (1 of 3)",
        "×0.25 (2 of 3)",
        "×0.125 (3 of 3)",
    ]
    assert not (run / "model.safetensors").exists()
    before_step(lambda *_: None)
    said.clear()
    train(dataset, run, resume=True, say=said.append)
    assert "going on after epoch 1 of 3, step 0" in said
    assert model(run) == model(whole)


def test_a_rate_that_breaks_the_model_while_a_budget_is_measured_ends_in_the_same_line(
    dataset: str, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30, "warmup": 0.0, "time_budget": "1h"})
    with pytest.raises(RunError, match="the training loss is no longer a number"):
        train(dataset, tmp_path / "run", settings)


def test_a_dry_run_of_a_broken_model_says_so(dataset: str, tmp_path: Path) -> None:
    state = create("test_resnet", classes=2, weights="none").backbone.state_dict()
    save_weights(tmp_path / "broken.safetensors", {name: value * math.nan for name, value in state.items()})
    settings = SETTINGS.model_copy(update={"weights": str(tmp_path / "broken.safetensors")})
    with pytest.raises(RunError, match="the loss of the first batch is no number"):
        dry_run(dataset, tmp_path / "run", settings)
