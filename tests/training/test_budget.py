"""A time budget cuts epochs to what fits, ends the training where it must, and keeps the best so far."""

import csv
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file

from imaging_ft.training import loop
from imaging_ft.training import train as planning
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.training.trainer import Trainer
from tests.conftest import write_dataset

HOUR = 3600.0
SETTINGS = TrainSettings(
    model="test_resnet",
    weights="none",
    size=32,
    epochs=4,
    batch_size=6,
    learning_rate=0.003,
    deterministic=True,
    augmentation="none",
    batch_norm="trained",
    adapt=False,
    layer_decay=1.0,
)
"""Three steps an epoch, and no trials."""

Spend = Callable[[dict[int, float]], list[float]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), per_group=1))


@pytest.fixture
def spend(monkeypatch: pytest.MonkeyPatch) -> Spend:
    """Lets steps (from 0, from the start) take some seconds by the loop's clock, and gives the losses of all steps."""
    real: Any = Trainer.step
    begin: Any = loop.Loop.begin

    def install(seconds: dict[int, float]) -> list[float]:
        spent = [0.0]
        losses: list[float] = []

        def begun(self: loop.Loop) -> None:
            spent[0] = 0.0  # what steps took while the budget was planned
            losses.clear()
            begin(self)

        def step(self: Trainer, batch: Any, number: int, images: int) -> float:
            spent[0] += seconds.get(number, 0.0)
            losses.append(real(self, batch, number, images))
            return losses[-1]

        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + spent[0]))
        monkeypatch.setattr(Trainer, "step", step)
        monkeypatch.setattr(loop.Loop, "begin", begun)
        return losses

    return install


def budgeted(budget: str) -> TrainSettings:
    return TrainSettings.checked(SETTINGS.model_dump() | {"time_budget": budget}, where="test")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_the_best_is_kept(run: Path, summary: dict[str, Any]) -> None:
    found = rows(run)
    best = max(found, key=lambda row: (float(row["judged_balanced_accuracy"]), -float(row["judged_loss"])))
    assert summary["best_epoch"] == int(best["epoch"])
    kept, checkpoint = (load_file(run / name) for name in ("model.safetensors", "checkpoints/best.safetensors"))
    assert all((checkpoint[name] == value).all() for name, value in kept.items())


def test_a_budget_that_is_too_small_for_the_epochs_cuts_them_and_says_so(dataset: str, tmp_path: Path) -> None:
    said: list[str] = []
    summary = train(dataset, tmp_path / "run", budgeted("0.001s"), say=said.append)
    assert "time budget 0.001s: 1 of 4 epochs" in said
    assert (summary["epochs"], summary["ended"], summary["interrupted"]) == (1, "the time budget", False)
    assert summary["cost"]["images_trained"] == 6, "a single step"
    assert len(rows(tmp_path / "run")) == 2
    assert_the_best_is_kept(tmp_path / "run", summary)


def test_epochs_are_cut_to_what_fits_and_annealed_as_so_many(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which a step and a validation take an hour each: 10 h are two epochs of 4 h, and one to finish."""
    hours = count()
    monkeypatch.setattr(planning, "time", SimpleNamespace(monotonic=lambda: next(hours) * HOUR))
    said: list[str] = []
    summary = train(dataset, tmp_path / "run", budgeted("10h"), say=said.append)
    assert "time budget 10h: 2 of 4 epochs" in said
    assert (summary["epochs"], summary["ended"]) == (2, None)
    train(dataset, tmp_path / "two", SETTINGS.model_copy(update={"epochs": 2}))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "two" / "model.safetensors"
    ).read_bytes()


def test_a_budget_that_is_large_enough_changes_nothing(dataset: str, tmp_path: Path) -> None:
    said: list[str] = []
    summary = train(dataset, tmp_path / "run", budgeted("1h"), say=said.append)
    assert not [line for line in said if line.startswith("time budget")]
    assert (summary["epochs"], summary["ended"]) == (4, None)
    train(dataset, tmp_path / "free", SETTINGS)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "free" / "model.safetensors"
    ).read_bytes()


def test_a_budget_that_ends_in_an_epoch_validates_it_and_keeps_the_best(
    dataset: str, tmp_path: Path, spend: Spend
) -> None:
    run = tmp_path / "run"
    losses = spend({4: HOUR})
    summary = train(dataset, run, budgeted("1h"))
    assert (summary["epochs"], summary["ended"], summary["interrupted"]) == (2, "the time budget", False)
    assert summary["cost"]["images_trained"] == 18 + 12
    assert [row["epoch"] for row in rows(run)] == ["0", "1", "2"]
    assert float(rows(run)[2]["train_loss"]) == pytest.approx(mean(losses[3:5]), abs=1e-5), "of the steps made"
    assert_the_best_is_kept(run, summary)


def test_no_epoch_begins_that_the_budget_has_no_room_for(dataset: str, tmp_path: Path, spend: Spend) -> None:
    run = tmp_path / "run"
    spend({1: 0.6 * HOUR})
    summary = train(dataset, run, budgeted("1h"))
    assert (summary["epochs"], summary["ended"]) == (1, "the time budget")
    assert summary["cost"]["images_trained"] == 18, "a whole epoch"
    assert_the_best_is_kept(run, summary)


def test_a_run_that_its_budget_ended_is_only_finished_when_it_is_taken_up(
    dataset: str, tmp_path: Path, spend: Spend
) -> None:
    run = tmp_path / "run"
    spend({4: HOUR})
    train(dataset, run, budgeted("1h"))
    model = (run / "model.safetensors").read_bytes()
    for name in ("summary.json", "model.json", "model.safetensors"):
        (run / name).unlink()  # as if it had been killed before they were written
    spend({})
    summary = train(dataset, run, resume=True)
    assert (summary["epochs"], summary["ended"]) == (2, "the time budget")
    assert (run / "model.safetensors").read_bytes() == model
