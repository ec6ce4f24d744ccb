"""Images are decoded once: the cache gives the same levels, and is keyed by content and settings."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging_ft.data import Images, Prepared, load_images, prepare
from imaging_ft.errors import ConfigError
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import Split
from tests.conftest import write_dataset

SPEC = InputSpec.checked({"channels": 1, "dtype": "uint8", "height": 32, "width": 32}, where="test")


@pytest.fixture
def data(tmp_path: Path) -> Prepared:
    return prepare(str(write_dataset(tmp_path / "data", per_group=1)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMAGING_FT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(data: Prepared, spec: InputSpec = SPEC) -> Images:
    return load_images(data, data.of(Split.TRAIN), spec)


def files(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir())


def test_the_second_load_reads_no_image(data: Prepared, cache: Path) -> None:
    first = load(data)
    for sample in data.samples:
        sample.path.unlink()
    second = load(data)
    assert isinstance(second.levels, np.memmap)
    assert np.array_equal(first.levels, second.levels)
    assert np.array_equal(first.targets, second.targets)
    assert len(files(cache)) == 1


def test_another_size_is_another_key(data: Prepared, cache: Path) -> None:
    load(data)
    assert load(data, SPEC.model_copy(update={"height": 48, "width": 48})).levels.shape[1:3] == (48, 48)
    assert len(files(cache)) == 2


def test_a_changed_image_is_another_key(data: Prepared, cache: Path) -> None:
    before = load(data)
    path = data.of(Split.TRAIN)[0].path
    cv2.imwrite(str(path), np.zeros((72, 80), np.uint8))
    after = load(prepare(str(path.parents[1] / "manifest.csv")))
    assert before.levels[0].any()
    assert not after.levels[0].any()


def test_a_damaged_cache_file_is_made_again(data: Prepared, cache: Path) -> None:
    levels = np.array(load(data).levels)
    files(cache)[0].write_bytes(b"not an array")
    assert np.array_equal(load(data).levels, levels)


def test_what_was_not_used_for_longest_goes_when_the_cache_is_full(
    data: Prepared, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(data)
    oldest = files(cache)[0]
    os.utime(oldest, (0, 0))
    monkeypatch.setenv("IMAGING_FT_CACHE_GB", "0.00000001")
    load(data, SPEC.model_copy(update={"height": 48, "width": 48}))
    assert not oldest.exists()
    assert len(files(cache)) == 1


def test_files_that_eviction_cannot_read_or_delete_are_passed_over(
    data: Prepared, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to nothing has no size, as a file that another process evicted; a folder can't be deleted as a file."""
    load(data)
    oldest, gone, held = files(cache)[0], cache / "gone.npy", cache / "held.npy"
    gone.symlink_to(cache / "nowhere")
    held.mkdir()
    os.utime(held, (0, 0))
    os.utime(oldest, (1, 1))
    monkeypatch.setenv("IMAGING_FT_CACHE_GB", "0.00000001")
    made = load(data, SPEC.model_copy(update={"height": 48, "width": 48}))
    assert len(made) == len(data.of(Split.TRAIN))
    assert not oldest.exists()
    assert held.is_dir()
    assert len(files(cache)) == 3


def test_an_unreadable_size_is_refused(data: Prepared, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGING_FT_CACHE_GB", "lots")
    with pytest.raises(ConfigError, match="IMAGING_FT_CACHE_GB=lots"):
        load(data)


def test_without_a_cache_nothing_is_written(data: Prepared, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGING_FT_CACHE", "")
    assert not isinstance(load(data).levels, np.memmap)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(
    data: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IMAGING_FT_CACHE", str(tmp_path / "file" / "cache"))
    assert len(load(data)) == len(data.of(Split.TRAIN))
