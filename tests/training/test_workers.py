"""Worker processes that are started anew (macOS, Windows, Python 3.14) make the batches that one process makes."""

import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from imaging_ft.augment.recipe import Augment, Recipe, load_recipe
from imaging_ft.data import Images, input_spec, load_images, prepare
from imaging_ft.errors import ConfigError, ImagingFtError
from imaging_ft.training.images import Batch, TrainingBatches
from imaging_ft.types import Levels, Split
from tests.conftest import write_dataset

WRONG = Recipe(name="mine", transforms=({"Normalize": {}},))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workers")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> str:
    return str(write_dataset(folder / "data", groups=8, per_group=2))


def mapped(dataset: str, folder: Path) -> Images:
    """Return a data set's training images in a memory-mapped file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGING_FT_CACHE", str(folder / "cache"))
        data = prepare(dataset)
        found = load_images(data, data.of(Split.TRAIN), input_spec(data, height=48, width=48))
    assert isinstance(found.levels, np.memmap)
    return found


@pytest.fixture(scope="module")
def written(dataset: str, folder: Path) -> Images:
    """The images as the process that wrote their file has them."""
    return mapped(dataset, folder)


@pytest.fixture(scope="module")
def images(written: Images, dataset: str, folder: Path) -> Images:
    """The images as the next process has them."""
    found = mapped(dataset, folder)
    assert len(found) == len(written)
    return found


@pytest.fixture
def spawned() -> Iterator[None]:
    """Have worker processes start as they do where there is no fork."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def epoch(images: Images, augment: Augment, *, workers: int, **options: Any) -> list[Batch]:
    return list(TrainingBatches(images, augment, batch_size=16, seed=3, workers=workers, **options).epoch(2))


def pool() -> Levels:
    return np.random.default_rng(1).integers(0, 256, (5, 48, 48, 1), dtype=np.uint8)


@pytest.mark.usefixtures("spawned")
def test_spawned_workers_make_the_same_batches(images: Images) -> None:
    augment = load_recipe("baggage_xray").build(pool(), odds={"clutter": 3.0, "low_dose": 0.5})
    replay = Images(pool(), np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1]])
    options: Any = {"mixup": 0.4, "augmix": True, "replay": replay, "replay_share": 0.1}
    alone = epoch(images, augment, workers=0, **options)
    together = epoch(images, augment, workers=2, **options)
    assert len(alone) == len(together) > 2
    for (levels, targets), (others, also) in zip(alone, together, strict=True):
        assert torch.equal(levels, others)
        assert torch.equal(targets, also)


@pytest.mark.parametrize("name", ["baggage_xray", "camera", "radiograph"])
def test_an_augmentation_that_was_sent_draws_as_it_did(name: str) -> None:
    recipe = load_recipe(name)
    augment = recipe.build(pool(), odds=dict.fromkeys(recipe.families(channels=1), 2.0))
    sent = pickle.loads(pickle.dumps(augment))
    for seed, levels in enumerate(pool()):
        assert np.array_equal(augment(levels, seed), sent(levels, seed))


def loader_of(images: Images, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the loader that an epoch of batches makes."""
    made: list[Any] = []

    def make(*arguments: Any, **values: Any) -> Any:
        made.append(DataLoader(*arguments, **values))
        return made[0]

    monkeypatch.setattr("imaging_ft.training.images.DataLoader", make)
    epoch(images, load_recipe("camera").build(), workers=0)
    return made[0]


@pytest.mark.parametrize("which", ["written", "images"])
def test_images_in_a_file_are_opened_by_a_worker_and_not_sent(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    images: Images = request.getfixturevalue(which)
    loader = loader_of(images, monkeypatch)
    sent = pickle.dumps(loader.dataset)
    assert images.levels.nbytes > 50_000 > len(sent)
    again = pickle.loads(sent)
    for key in ((1, 0), (1, len(images) - 1)):
        assert torch.equal(loader.dataset[key][0], again[key][0])


def test_images_whose_file_is_gone_are_sent(images: Images, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = loader_of(images, monkeypatch)
    (file,) = (folder / "cache").glob("*.npy")
    aside = file.rename(file.with_suffix(".aside"))
    try:
        sent = pickle.dumps(loader.dataset)
    finally:
        aside.rename(file)
    assert len(sent) > images.levels.nbytes
    assert torch.equal(loader.dataset[1, 4][0], pickle.loads(sent)[1, 4][0])


@pytest.mark.usefixtures("spawned")
@pytest.mark.parametrize("workers", [0, 2])
def test_what_fails_in_a_worker_is_one_line(workers: int, images: Images) -> None:
    with pytest.raises(
        ConfigError, match=r"recipe mine: makes float32 .* leave out what changes size or type"
    ) as caught:
        epoch(images, WRONG.build(), workers=workers)
    assert isinstance(caught.value, ImagingFtError)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("spawned")
def test_a_ctrl_c_that_reaches_a_worker_does_not_end_it(images: Images) -> None:
    others = {child.pid for child in multiprocessing.active_children()}
    batches = TrainingBatches(images, load_recipe("none").build(), batch_size=4, seed=3, workers=1).epoch(1)
    seen = [next(batches)]
    (worker,) = [child.pid for child in multiprocessing.active_children() if child.pid not in others]
    assert worker is not None
    os.kill(worker, signal.SIGINT)
    seen += list(batches)
    assert sum(len(levels) for levels, _ in seen) == len(images)
