"""Where fine-tuning starts: a probe that knows something already, and statistics that are kept or move as set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from imaging_ft.augment.recipe import load_recipe
from imaging_ft.data import Images
from imaging_ft.models.earlier import load_run
from imaging_ft.models.factory import create
from imaging_ft.training import start
from imaging_ft.training.checkpoint import read_checkpoint
from imaging_ft.training.images import augmented_copies, joined, with_copies
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


def many(counts: dict[int, int], *, classes: int) -> Images:
    """Return small random images, so many of each class; class -1 shows classes 0 and 1."""
    targets = np.zeros((sum(counts.values()), classes), np.float32)
    for row, label in enumerate(np.repeat(list(counts), list(counts.values())).tolist()):
        targets[row, [0, 1] if label < 0 else [label]] = 1
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (len(targets), 16, 16, 1), dtype=np.uint8)
    order = rng.permutation(len(targets))
    return Images(levels[order], targets[order])


def test_of_very_many_images_the_probe_sees_a_share_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    images = many({0: 600, 1: 300, 2: 100}, classes=3)
    assert start.probed(images, seed=0) is images, "so few are all seen"
    monkeypatch.setattr(start, "PROBE_POOL", 100)
    found = start.probed(images, seed=0)
    assert found.targets.sum(axis=0).tolist() == [60, 30, 10]
    assert np.array_equal(found.levels, start.probed(images, seed=0).levels)
    assert not np.array_equal(found.levels, start.probed(images, seed=1).levels)


def test_a_label_that_few_images_show_among_others_is_still_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    images = many({0: 499, -1: 1}, classes=2)
    monkeypatch.setattr(start, "PROBE_POOL", 10)
    assert start.probed(images, seed=0).targets.sum(axis=0).tolist() == [11, 1]


def test_the_probe_copies_no_more_images_than_its_pool(
    dataset: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, Any]] = []
    fit = start.fit_probe

    def fitted(features: Any, targets: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append((len(targets), features.dtype))
        return fit(features, targets, *arguments, **options)

    monkeypatch.setattr(start, "PROBE_POOL", 15)
    monkeypatch.setattr(start, "fit_probe", fitted)
    values: Json = {"model": "test_resnet", "weights": weights, "epochs": 0, "augmentation": "camera"}
    train(dataset, tmp_path / "run", settings(**values))
    assert sizes == [(15 * (1 + start.MAX_COPIES), np.float64)] * 2


def test_statistics_augment_only_the_images_they_are_taken_over() -> None:
    images = many({0: 20, 1: 20}, classes=2)
    augment, made = load_recipe("camera").build(), list[int]()

    def counted(levels: Any, seed: int) -> Any:
        made.append(seed)
        return augment(levels, seed)

    whole = joined([images, augmented_copies(images, augment, copies=1, seed=4)])
    positions = np.array([77, 3, 41, 40, 39])
    found = with_copies(images, counted, positions, seed=4)
    assert np.array_equal(found.levels, whole.take(positions).levels)
    assert np.array_equal(found.targets, whole.take(positions).targets)
    assert len(made) == 3
