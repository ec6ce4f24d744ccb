"""Keeping what was learned: an earlier site's accuracy is measured before and after, and held."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors.torch import load_file

from imaging_ft.errors import ConfigError, DataError
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.train import train
from imaging_ft.types import Json
from tests.conftest import LABELS, draw

SETTINGS: Json = {
    "model": "test_resnet",
    "size": 32,
    "precision": "fp32",
    "augmentation": "none",
    "batch_size": 16,
    "learning_rate": 3e-3,
}


def site(folder: Path, *, inverted: bool, labels: tuple[str, ...] = LABELS, count: int = 14) -> Path:
    """Write a data set in which `inverted` images show the next class's shape in negative: what is learned clashes."""
    rng = np.random.default_rng(3)
    for position, label in enumerate(labels):
        shape = LABELS[(position + 1) % len(LABELS)] if inverted else LABELS[position % len(LABELS)]
        for split, images in (("train", count), ("val", 8), ("test", 8)):
            for index in range(images):
                image = draw(shape, rng)
                path = folder / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), 255 - image if inverted else image)
    return folder


def settings(**values: Any) -> TrainSettings:
    return TrainSettings.checked(SETTINGS | values, where="test")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site(tmp_path_factory.mktemp("old"), inverted=False)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site(tmp_path_factory.mktemp("new"), inverted=True)


@pytest.fixture(scope="module")
def earlier(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("earlier") / "run"
    summary = train(str(old), run, settings(weights="none", epochs=25))
    assert summary["validation"]["balanced_accuracy"] > 0.8, "there must be something to forget"
    return run


def forgotten(summary: Json) -> Json:
    return summary["retained"]["forgetting"]


def test_accuracy_on_the_earlier_site_is_held_where_it_would_be_forgotten(
    old: Path, new: Path, earlier: Path, tmp_path: Path
) -> None:
    chosen = {"from_run": str(earlier), "retain": str(old), "epochs": 8}
    free = train(str(new), tmp_path / "free", settings(**chosen, max_forgetting=1.0, replay=0.0))
    held = train(str(new), tmp_path / "held", settings(**chosen, max_forgetting=0.1, replay=0.0))
    assert forgotten(free)["val"] > 0.3, "without the bound, this training forgets"
    assert forgotten(held)["val"] <= 0.1 + 1e-9
    assert held["interpolation"]["alpha"] < free["interpolation"]["alpha"]
    before, after = held["retained"]["before"], held["retained"]["after"]
    assert set(before) == set(after) == {"val", "test"}
    fall = before["val"]["balanced_accuracy"] - after["val"]["balanced_accuracy"]
    assert forgotten(held)["val"] == pytest.approx(fall, abs=1e-5)
    assert json.loads((tmp_path / "held" / "summary.json").read_text())["retained"] == held["retained"]


def test_replay_keeps_more_of_what_was_learned(old: Path, new: Path, earlier: Path, tmp_path: Path) -> None:
    chosen = {"from_run": str(earlier), "retain": str(old), "epochs": 8, "max_forgetting": 1.0}
    without = train(str(new), tmp_path / "without", settings(**chosen, replay=0.0))
    replayed = train(str(new), tmp_path / "replayed", settings(**chosen, replay=0.5))
    assert replayed["cost"]["images_trained"] == pytest.approx(2 * without["cost"]["images_trained"], rel=0.05)
    assert forgotten(replayed)["val"] < forgotten(without)["val"] - 0.1


def test_where_every_share_forgets_too_much_the_earlier_model_stays_as_it_is(
    old: Path, new: Path, earlier: Path, tmp_path: Path
) -> None:
    summary = train(
        str(new),
        tmp_path / "run",
        settings(from_run=str(earlier), retain=str(old), epochs=8, max_forgetting=0.0, replay=0.0),
    )
    assert (summary["best_epoch"] > 0, summary["interpolation"]["alpha"]) == (True, 0)
    first, last = (load_file(run / "model.safetensors") for run in (earlier, tmp_path / "run"))
    assert all(first[name].equal(value) for name, value in last.items())
    assert "kept as it is" in summary["interpolation"]["note"]
    assert forgotten(summary)["val"] == 0


def test_retaining_needs_an_earlier_run() -> None:
    with pytest.raises(ConfigError, match="retain needs from_run"):
        settings(retain="baggage")


def test_data_with_other_labels_cannot_be_retained(new: Path, earlier: Path, tmp_path: Path) -> None:
    other = site(tmp_path / "other", inverted=False, labels=("bar", "disc", "square"))
    with pytest.raises(DataError, match="label 'square' is not among those"):
        train(str(new), tmp_path / "run", settings(from_run=str(earlier), retain=str(other), epochs=1))


def test_an_earlier_model_that_lacks_a_class_cannot_be_kept_whole(old: Path, earlier: Path, tmp_path: Path) -> None:
    more = site(tmp_path / "more", inverted=True, labels=("bar", "disc", "ring", "star"))
    with pytest.raises(ConfigError, match="knows no class 'star'"):
        train(str(more), tmp_path / "run", settings(from_run=str(earlier), retain=str(old), epochs=1))


def test_going_on_from_a_run_starts_with_its_head_where_that_is_better(
    old: Path, earlier: Path, tmp_path: Path
) -> None:
    summary = train(str(old), tmp_path / "run", settings(from_run=str(earlier), epochs=0))
    assert any("earlier run" in name for name in summary["probe"]["compared"])
    assert summary["validation"]["balanced_accuracy"] > 0.8
    info = json.loads((tmp_path / "run" / "model.json").read_text())
    assert info["provenance"]["went_on_from"]["run"] == "run"


def test_an_earlier_head_competes_as_it_is_under_every_kind_of_statistics(
    old: Path, earlier: Path, tmp_path: Path
) -> None:
    from imaging_ft.models.earlier import load_run
    from imaging_ft.training import start
    from imaging_ft.training.setup import open_job
    from imaging_ft.types import silent

    chosen = settings(from_run=str(earlier), augmentation="mr")
    job = open_job(str(old), tmp_path / "run", chosen, dry=True, track=silent, say=lambda _: None).job
    weight = load_run(earlier).weight
    seen = [
        (found.statistics, job.model.head.weight.equal(weight))
        for found in start._candidates(job)  # pyright: ignore[reportPrivateUsage]
        if found.head == "earlier run"
    ]
    assert seen == [("frozen", True), ("reestimated", True)]
