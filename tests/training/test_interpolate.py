"""Weights between start and end: the share is chosen on validation, and fine-tuned weights stay where they are best."""

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from imaging_ft.training.checkpoint import START, write_checkpoint
from imaging_ft.training.interpolate import ALPHAS, Mixed, mix
from imaging_ft.training.job import Job
from imaging_ft.training.loop import Outcome
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import open_job
from imaging_ft.training.train import train
from imaging_ft.types import Json, silent
from tests.conftest import write_dataset

SETTINGS: Json = {
    "model": "test_resnet",
    "weights": "none",
    "size": 32,
    "precision": "fp32",
    "augmentation": "none",
    "batch_size": 16,
    "learning_rate": 3e-3,
    "preset": "robust",
    "epochs": 15,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), groups=16, per_group=3))


@pytest.fixture(scope="module")
def run(dataset: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, train(dataset, folder, TrainSettings.checked(SETTINGS, where="test"))


def job_of(dataset: str, out: Path, **values: Any) -> Job:
    settings = TrainSettings.checked(SETTINGS | values, where="test")
    return open_job(dataset, out, settings, dry=True, track=silent, say=lambda _: None).job


def mixed(job: Job, start: dict[str, Tensor], end: dict[str, Tensor]) -> Mixed:
    """Return what is kept between two sets of weights."""
    job.run.checkpoints.mkdir(parents=True)
    write_checkpoint(job.run.checkpoints, START, start, {}, row={"epoch": 0})
    model = copy.deepcopy(job.model)
    model.load_state_dict(end)
    return mix(job, Outcome(model, job.judge(job.engine, model), 1, cast("Any", None), 1.0))


def shifted(state: dict[str, Tensor], by: float) -> dict[str, Tensor]:
    """Return weights that are moved far from where they are good, each in a direction of its own."""
    found = dict(state)
    for number, (name, value) in enumerate(state.items()):
        if value.ndim > 1:
            found[name] = value + by * torch.randn(value.shape, generator=torch.Generator().manual_seed(number))
    return found


def test_fine_tuned_weights_are_kept_where_they_validate_best(run: tuple[Path, Json]) -> None:
    folder, summary = run
    found = summary["interpolation"]
    assert set(found["tried"]) == {f"{alpha:g}" for alpha in ALPHAS}
    assert found["tried"]["1"] > found["tried"]["0"]
    assert found["alpha"] == 1
    assert found["tried"]["1"] == max(found["tried"].values()) == summary["judged"]["balanced_accuracy"]
    best, kept = (load_file(folder / name) for name in ("checkpoints/best.safetensors", "model.safetensors"))
    assert all(best[name].equal(value) for name, value in kept.items())


@pytest.mark.parametrize(("start", "end", "alpha"), [(0.0, 2.0, 0.0), (2.0, 0.0, 1.0), (-2.0, 2.0, 0.5)])
def test_the_share_is_where_validation_is_best(
    start: float, end: float, alpha: float, run: tuple[Path, Json], dataset: str, tmp_path: Path
) -> None:
    good = load_file(run[0] / "model.safetensors")
    job = job_of(dataset, tmp_path / "run")
    found = mixed(job, shifted(good, start), shifted(good, end))
    assert found.alpha == alpha
    assert found.tried[f"{alpha:g}"] == max(found.tried.values())
    assert all(torch.allclose(found.model.state_dict()[name], value, atol=1e-4) for name, value in good.items())
    assert found.judged.value("balanced_accuracy") == found.tried[f"{alpha:g}"]


def test_another_share_that_is_as_good_is_not_taken(run: tuple[Path, Json], dataset: str, tmp_path: Path) -> None:
    good = load_file(run[0] / "model.safetensors")
    found = mixed(job_of(dataset, tmp_path / "run"), good, good)
    assert len(set(found.tried.values())) == 1
    assert found.alpha == 1


def test_without_interpolation_nothing_is_tried(run: tuple[Path, Json], dataset: str, tmp_path: Path) -> None:
    good = load_file(run[0] / "model.safetensors")
    found = mixed(job_of(dataset, tmp_path / "run", interpolate=False), good, shifted(good, 2.0))
    assert (found.alpha, found.tried) == (1.0, {})
