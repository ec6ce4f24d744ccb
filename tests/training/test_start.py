"""Where fine-tuning starts: a probe that knows something already, and statistics that are kept or move as set."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from imaging_ft.models.earlier import load_run
from imaging_ft.models.factory import create
from imaging_ft.training.checkpoint import read_checkpoint
from imaging_ft.training.run import save_weights
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.setup import open_job
from imaging_ft.training.train import train
from imaging_ft.types import Json, silent
from tests.conftest import LABELS, write_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_dataset(tmp_path_factory.mktemp("data"), groups=16, per_group=2))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Local weights of a small net: those it starts with, but taken for pretrained."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_weights(path, create("test_resnet", classes=2, weights="none").backbone.state_dict())
    return str(path)


def settings(**values: Any) -> TrainSettings:
    base: Json = {"size": 32, "precision": "fp32", "augmentation": "none", "batch_size": 16}
    return TrainSettings.checked(base | values, where="test")


def statistics(state: dict[str, Tensor], prefix: str = "") -> Tensor:
    """Return the running means and variances of a state dict in one row."""
    names = [name for name in state if name.startswith(f"{prefix}backbone") and "running_" in name]
    return torch.cat([state[name] for name in sorted(names)])


def test_fine_tuning_starts_from_a_probe_that_is_better_than_a_random_head(dataset: str, tmp_path: Path) -> None:
    probed = train(dataset, tmp_path / "probed", settings(size=64, epochs=0))
    random = train(dataset, tmp_path / "random", settings(size=64, epochs=0, weights="none"))
    assert (probed["probe"]["head"], random["probe"]["head"]) == ("probe", "random")
    assert probed["validation"]["balanced_accuracy"] > 0.6
    assert probed["validation"]["balanced_accuracy"] > random["validation"]["balanced_accuracy"] + 0.2
    assert probed["validation"]["loss"] < random["validation"]["loss"]


@pytest.mark.parametrize("kind", ["frozen", "reestimated", "trained"])
def test_statistics_are_kept_or_move_as_set(kind: str, dataset: str, weights: str, tmp_path: Path) -> None:
    summary = train(
        dataset,
        tmp_path / "run",
        settings(model="test_resnet", weights=weights, epochs=1, batch_norm=kind, adapt=False),
    )
    start, last = (load_file(tmp_path / "run" / "checkpoints" / f"{name}.safetensors") for name in ("start", "last"))
    pretrained = statistics({f"backbone.{name}": value for name, value in load_file(weights).items()})
    assert statistics(start).equal(pretrained) is (kind == "frozen")
    assert statistics(last, "raw/").equal(statistics(start)) is (kind != "trained")
    assert summary["batch_norm"]["statistics"] == kind
    assert (summary["batch_norm"]["why"], summary["batch_norm"]["trials"]) == ("as set", {})


@pytest.mark.parametrize("metric", ["balanced_accuracy", "loss"])
def test_the_statistics_are_those_that_validate_best(metric: str, dataset: str, weights: str, tmp_path: Path) -> None:
    said: list[str] = []
    chosen = settings(model="test_resnet", weights=weights, epochs=3, metric=metric, adapt=False, learning_rate=3e-3)
    summary = train(dataset, tmp_path / "run", chosen, say=said.append)
    found = summary["batch_norm"]
    progress = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").progress
    worth = {name: judged["clean"][metric] for name, judged in progress["treatment"]["trials"].items()}
    assert set(worth) == set(found["trials"]) == {"frozen", "trained"}
    best = (min if metric == "loss" else max)(worth, key=lambda name: worth[name])
    assert worth["frozen"] != worth["trained"]
    assert found["statistics"] == ("trained" if best == "trained" else found["start"])
    assert found["why"].startswith("validated best after")
    assert any(line.startswith(f"batch norm statistics: {best} (validated best after") for line in said)


def test_going_on_with_other_labels_keeps_what_both_know(dataset: str, tmp_path: Path) -> None:
    """Two of three classes are known from before: their rows of the head start as they were."""
    manifest = Path(dataset)
    lines = manifest.read_text().splitlines()
    fewer = manifest.with_name("fewer.csv")
    fewer.write_text("\n".join(line for line in lines if ",bar," not in line) + "\n")
    base: Json = {"model": "test_resnet", "epochs": 8, "learning_rate": 3e-3}
    train(str(fewer), tmp_path / "earlier", settings(**base, weights="none"))
    going_on = settings(from_run=str(tmp_path / "earlier"), epochs=0)
    job = open_job(dataset, tmp_path / "job", going_on, dry=True, track=silent, say=lambda _: None).job
    earlier = load_run(tmp_path / "earlier")
    assert (earlier.labels, job.data.labels) == (("disc", "ring"), LABELS)
    assert job.model.head.weight[1:].equal(earlier.weight)
    assert job.model.name == "timm/test_resnet", "the earlier run's, without being asked for"
    assert not job.earlier_head
    summary = train(dataset, tmp_path / "run", going_on)
    assert summary["probe"]["head"] == "probe", "a head that lacks a class does not compete"
    run = load_file(tmp_path / "run" / "model.safetensors")
    assert all(run[f"backbone.{name}"].equal(value) for name, value in earlier.backbone.items() if value.ndim > 1)
