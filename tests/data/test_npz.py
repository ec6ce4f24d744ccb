"""npz files in MedMNIST's layout are read as they are, and give the same samples everywhere."""

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging_ft.data import load, prepare
from imaging_ft.data.images import targets
from imaging_ft.data.npz import unpack_npz
from imaging_ft.data.png import encode_png, png_size
from imaging_ft.errors import DataError
from imaging_ft.image import read_image
from imaging_ft.types import Split, Task

COUNTS = {"train": 12, "val": 4, "test": 5}


def arrays_of(*, classes: int = 2, columns: int = 1, shape: tuple[int, ...] = (9, 7), seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        one = (np.arange(count) % classes).astype(np.uint8)[:, None]
        several = np.stack([(np.arange(count) >> bit) & 1 for bit in range(columns)], axis=1).astype(np.uint8)
        arrays[f"{split}_labels"] = one if columns == 1 else several
    return arrays


def write_npz(path: Path, arrays: dict[str, Any], *, compressed: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def write_card(path: Path, lines: str) -> str:
    path.write_text(f"name: pets\nlayout: npz\nnpz: pets.npz\n{lines}\n")
    return str(path)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3), (9, 7, 1)])
def test_every_pixel_and_label_is_as_in_the_arrays(
    home: Path, tmp_path: Path, shape: tuple[int, ...], compressed: bool
) -> None:
    arrays = arrays_of(shape=shape)
    data = prepare(str(write_npz(tmp_path / "pets.npz", arrays, compressed=compressed)))
    for split in Split:
        samples = data.of(split)
        assert [sample.label for sample in samples] == [str(label[0]) for label in arrays[f"{split}_labels"]]
        for sample, image in zip(samples, arrays[f"{split}_images"], strict=True):
            assert np.array_equal(read_image(sample.path), image.reshape(9, 7, -1))
    assert data.samples[0].id == "train/000000.png"
    assert data.declared
    assert any("no group" in warning for warning in data.warnings)


def test_a_card_names_the_classes_in_the_labels_order(home: Path, tmp_path: Path) -> None:
    arrays = arrays_of(classes=3)
    write_npz(tmp_path / "pets.npz", arrays)
    card = write_card(tmp_path / "pets.yaml", "labels: [zebra, ape, dog]")
    data = prepare(card)
    assert data.labels == ("zebra", "ape", "dog")
    assert [sample.label for sample in data.of(Split.VAL)] == ["zebra", "ape", "dog", "zebra"]


def test_several_label_columns_are_a_multi_label_task(home: Path, tmp_path: Path) -> None:
    arrays = arrays_of(columns=2)
    write_npz(tmp_path / "pets.npz", arrays)
    card = write_card(tmp_path / "pets.yaml", "task: multilabel\nlabels: [wet, old]")
    data = prepare(card)
    train = data.of(Split.TRAIN)
    assert [sample.labels for sample in train[:4]] == [(), ("wet",), ("old",), ("old", "wet")]
    assert np.array_equal(targets(train, data.labels, data.card.task), arrays["train_labels"])
    assert load(str(tmp_path / "pets.npz")).card.task is Task.MULTILABEL
    assert load(str(tmp_path / "pets.npz")).labels == ("0", "1")


def test_it_is_unpacked_once_and_again_where_the_content_changed(home: Path, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "pets.npz", arrays_of())
    folder = unpack_npz(path)
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.png")}
    assert unpack_npz(path.rename(tmp_path / "moved.npz")) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*.png")} == before
    assert unpack_npz(write_npz(tmp_path / "pets.npz", arrays_of(seed=1))) != folder


def test_nothing_is_written_beside_the_file(home: Path, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "there" / "pets.npz", arrays_of())
    load(str(path))
    assert [file.name for file in path.parent.iterdir()] == ["pets.npz"]


def test_an_unpacking_that_stopped_is_taken_up(home: Path, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "pets.npz", arrays_of())
    wanted = {file.name: file.read_bytes() for file in (unpack_npz(path) / "train").iterdir()}
    folder = unpack_npz(path)
    part = folder.with_name(f".{folder.name}.part")
    folder.rename(part)
    (part / "complete.json").unlink()
    (part / "train" / "000003.png").write_bytes(b"cut")
    (part / "train" / "000004.png").unlink()
    kept = (part / "train" / "000000.png").stat().st_mtime_ns
    assert unpack_npz(path) == folder
    assert {file.name: file.read_bytes() for file in (folder / "train").iterdir()} == wanted
    assert (folder / "train" / "000000.png").stat().st_mtime_ns == kept


def test_the_fingerprint_does_not_depend_on_where_it_is_unpacked(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "pets.npz", arrays_of())
    first = prepare(str(path)).fingerprint
    monkeypatch.setenv("IMAGING_FT_DATA", str(tmp_path / "another"))
    assert prepare(str(path)).fingerprint == first


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]), st.integers(0, 9))
def test_the_png_writer_loses_nothing_and_knows_its_size(height: int, width: int, channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    encoded = encode_png(pixels)
    assert len(encoded) == png_size(height, width, channels)
    decoded = np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED))
    decoded = decoded.reshape(height, width, -1)
    assert np.array_equal(decoded[..., ::-1] if channels == 3 else decoded, pixels)


def evil() -> Any:
    """Return an array that NumPy would read with pickle."""
    return np.array([{"a": 1}] * 12, dtype=object)


BAD = [
    ({"train_images": np.zeros((12, 9, 7), np.float32)}, "train_images is float32"),
    ({"train_images": np.zeros((12, 9), np.uint8)}, r"train_images is uint8 \[12, 9\]"),
    ({"train_images": np.zeros((12, 9, 7, 4), np.uint8)}, r"\[12, 9, 7, 4\]"),
    ({"train_labels": np.zeros((11, 1), np.uint8)}, "train_labels is uint8"),
    ({"train_labels": np.zeros((12, 1), np.float32)}, "expected whole numbers"),
    ({"train_labels": np.full((12, 1), 7, np.uint8)}, r"train_labels\[0\] holds 7; expected 0 to 1"),
    ({"train_labels": np.full((12, 1), -1, np.int64)}, r"train_labels\[0\] holds -1"),
    ({"train_labels": np.zeros((12, 3), np.uint8)}, "has 3 columns, but the card's task is multiclass with 2 labels"),
    ({"train_labels": evil()}, "can't be read as npz: Object arrays cannot be loaded when allow_pickle=False"),
    ({"train_images": evil()}, "train_images is object"),
]


@pytest.mark.parametrize(("change", "what"), BAD)
def test_arrays_that_are_not_as_expected_are_one_line(home: Path, tmp_path: Path, change: Any, what: str) -> None:
    write_npz(tmp_path / "pets.npz", arrays_of() | change)
    with pytest.raises(DataError, match=what) as caught:
        load(write_card(tmp_path / "pets.yaml", "labels: [cat, dog]"))
    assert str(tmp_path / "pets.npz") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other", "missing", "crc"])
def test_a_damaged_file_is_one_line_and_never_half_a_data_set(home: Path, tmp_path: Path, damage: str) -> None:
    path = write_npz(tmp_path / "pets.npz", arrays_of(), compressed=damage != "crc")
    raw = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "other":
        np.savez(path, x=np.zeros(3))
    elif damage == "crc":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            start = archive.getinfo("train_images.npy").header_offset
        raw[start + 400] ^= 255
        path.write_bytes(raw)
    else:
        path.write_bytes({"cut": bytes(raw[: len(raw) // 2]), "noise": b"x" * 999, "empty": b""}[damage])
    with pytest.raises(DataError) as caught:
        load(str(path))
    assert "\n" not in str(caught.value)
    assert not list((home / ".unpacked").glob("*/complete.json"))


def test_two_processes_unpack_it_once(home: Path, tmp_path: Path) -> None:
    path = write_npz(tmp_path / "pets.npz", arrays_of())
    command = [sys.executable, "-c", f"from imaging_ft.data import load; print(len(load({str(path)!r}).samples))"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) for _ in range(2)]
    assert [run.communicate(timeout=60)[0].strip() for run in runs] == ["21", "21"]
    assert len(list((home / ".unpacked").glob("*/complete.json"))) == 1
