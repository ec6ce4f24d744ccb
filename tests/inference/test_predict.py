"""The runner, its devices and its tables: a device is never silently another, an image never stops the others."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper

from imaging_ft.bundle import Bundle
from imaging_ft.errors import BundleError, DeviceError, InputError
from imaging_ft.inference.doctor import examine
from imaging_ft.inference.listing import find_images
from imaging_ft.inference.predictions import Prediction, predict_files
from imaging_ft.inference.providers import Device
from imaging_ft.inference.runner import Runner
from imaging_ft.inference.table import check_table, write_predictions
from tests.conftest import LABELS, Exported

COLUMNS = ["image", "status", "label", "probability", *(f"p_{label}" for label in LABELS), "reason", "model_sha256"]
GPU = not str(dict(examine().facts)["device cuda"]).startswith("no")


@pytest.fixture(scope="module")
def runner(exported: Exported) -> Runner:
    return Runner.open(exported.model)


@pytest.fixture
def folder(tmp_path: Path, exported: Exported) -> Path:
    """Images of many kinds, and three that can't be read."""
    image: Any = cv2.imread(str(exported.image), cv2.IMREAD_GRAYSCALE)
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    shutil.copy(exported.image, folder / "a.png")
    cv2.imwrite(str(folder / "b.tif"), image.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "c.jpg"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, 100])
    cv2.imwrite(str(folder / "inner" / 'ü, "ring".png'), cv2.resize(image, (300, 50)))
    (folder / "broken.png").write_bytes(exported.image.read_bytes()[:200])
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not an image")
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.png").touch()
    return folder


def table(runner: Runner, paths: list[Path]) -> list[dict[str, Any]]:
    return [found.row(runner.bundle.names, runner.sha256) for found in predict_files(runner, find_images(paths))]


def test_unreadable_images_are_rows_with_their_error_and_the_others_go_on(runner: Runner, folder: Path) -> None:
    rows = {Path(row["image"]).name: row for row in table(runner, [folder])}
    assert set(rows) == {"a.png", "b.tif", "c.jpg", 'ü, "ring".png', "broken.png", "empty.png", "text.png"}
    for name in ("broken.png", "empty.png", "text.png"):
        assert (rows[name]["status"], rows[name]["label"], rows[name]["p_ring"]) == ("error", None, None)
        assert name in rows[name]["reason"]
        assert "\n" not in rows[name]["reason"]
    for name in ("a.png", "b.tif", "c.jpg"):
        assert rows[name]["status"] == "ok"
        assert rows[name]["p_ring"] == pytest.approx(rows["a.png"]["p_ring"], abs=0.05)
    assert rows["b.tif"]["p_ring"] == pytest.approx(rows["a.png"]["p_ring"], abs=1e-5)


def test_probabilities_sum_to_one_and_the_label_is_the_largest(runner: Runner, exported: Exported) -> None:
    for row in table(runner, [exported.dataset.parent / "images"]):
        assert list(row) == COLUMNS
        probabilities = {label: row[f"p_{label}"] for label in LABELS}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["label"] == max(probabilities, key=probabilities.__getitem__)
        assert row["probability"] == probabilities[row["label"]]
        assert row["model_sha256"] == exported.model.with_name("model.onnx.sha256").read_text().split()[0]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".ndjson", ".parquet"])
def test_every_kind_of_table_holds_the_same_rows(suffix: str, runner: Runner, folder: Path, tmp_path: Path) -> None:
    rows = table(runner, [folder])
    path = tmp_path / "new" / f"p{suffix}"
    write_predictions(rows, path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    if suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            found: list[dict[str, Any]] = list(csv.DictReader(file))
        assert [row["image"] for row in found] == [row["image"] for row in rows]
        assert [float(row["probability"]) for row in found if row["status"] == "ok"] == [
            row["probability"] for row in rows if row["status"] == "ok"
        ]
    elif suffix == ".parquet":
        found = pl.read_parquet(path).to_dicts()
        assert found == rows
    else:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert found == rows
    assert all(list(row) == COLUMNS for row in found)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_table_of_errors_alone_keeps_its_columns_and_types(
    suffix: str, runner: Runner, folder: Path, tmp_path: Path
) -> None:
    rows = table(runner, [folder / "broken.png", folder / "empty.png"])
    write_predictions(rows, tmp_path / f"p{suffix}")
    assert [row["status"] for row in rows] == ["error", "error"]
    if suffix == ".parquet":
        assert pl.read_parquet(tmp_path / "p.parquet").schema["probability"] == pl.Float64


def test_odd_labels_survive_the_csv(tmp_path: Path) -> None:
    labels = ["image", "p_image", 'a, "b"', "zwei\nZeilen", "結節"]
    rows = [Prediction("x.png", "ok", labels[3], 0.2, (0.2,) * 5).row(labels, "0" * 64)]
    assert len(rows[0]) == 6 + len(labels)
    write_predictions(rows, tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["image"] == "x.png"
    assert row["label"] == labels[3]
    assert [row[f"p_{label}"] for label in labels] == ["0.2"] * 5


@pytest.mark.parametrize("name", ["p.xlsx", "p", "p.csv.gz"])
def test_a_table_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown kind .* end it in .csv, .jsonl, .ndjson, .parquet"):
        check_table(tmp_path / name)


def test_a_path_that_is_not_there_and_a_folder_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_images([tmp_path / "none"])
    with pytest.raises(InputError, match="no images in this folder"):
        find_images([tmp_path])


def test_a_file_named_twice_is_predicted_once(exported: Exported) -> None:
    assert find_images([exported.image, exported.image]) == [exported.image]


def test_reading_stays_near_the_predictions(runner: Runner, exported: Exported) -> None:
    """A folder may hold more images than fit in memory."""
    asked: list[int] = []

    class Watched(list[Path]):
        def __iter__(self) -> Any:
            for index, path in enumerate([exported.image] * 500):
                asked.append(index)
                yield path

    from imaging_ft.image import read_image
    from imaging_ft.inference.ahead import ahead

    ready = ahead(read_image, Watched(), workers=2, most=32)
    for _ in range(5):
        next(ready)
    assert len(asked) < 60


@pytest.mark.skipif(GPU, reason="CUDA runs on this machine")
@pytest.mark.parametrize("device", [Device.CUDA, Device.TENSORRT])
def test_a_gpu_that_cannot_run_is_an_error_and_never_a_cpu_answer(
    device: Device, exported: Exported, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError, match=rf"--device {device}: can't run here: .+; see imaging-ft doctor") as caught:
        Runner.open(exported.model, device=device)
    assert len(str(caught.value)) < 240
    assert caught.value.exit_code == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(GPU, reason="CUDA runs on this machine")
def test_auto_is_quietly_the_cpu(exported: Exported, capfd: pytest.CaptureFixture[str]) -> None:
    assert Runner.open(exported.model).device is Device.CPU
    assert capfd.readouterr() == ("", "")


def test_a_bundle_whose_weights_were_altered_fails_its_self_test(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.model)
    bias = next(tensor for tensor in model.graph.initializer if list(tensor.dims) == [len(LABELS)])
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.array([1, 0, 0], np.float32), bias.name))
    onnx.save(model, tmp_path / "altered.onnx")
    with pytest.raises(BundleError, match=r"altered.onnx: its self-test failed on cpu: a logit is off by 1\b"):
        Runner.open(tmp_path / "altered.onnx")


def test_a_bundle_with_another_number_of_outputs_fails_its_self_test(exported: Exported, tmp_path: Path) -> None:
    model = onnx.load(exported.model)
    metadata = {item.key: item.value for item in model.metadata_props}
    labels = [*json.loads(metadata["imaging_ft.labels"]), {"id": 3, "name": "more"}]
    golden = json.loads(metadata["imaging_ft.golden"])
    golden["logits"] = [[*golden["logits"][0], 0.0]]
    thresholds = json.loads(metadata["imaging_ft.thresholds"]) | {"more": 0.5}
    values = {"labels": labels, "golden": golden, "thresholds": thresholds}
    changed = {f"imaging_ft.{key}": json.dumps(value) for key, value in values.items()}
    Bundle.from_metadata(metadata | changed, where="m")
    for item in model.metadata_props:
        item.value = changed.get(item.key, item.value)
    onnx.save(model, tmp_path / "more.onnx")
    with pytest.raises(BundleError, match="its self-test failed"):
        Runner.open(tmp_path / "more.onnx")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such model file"),
        ("empty", r"the file is empty \(0 bytes\)"),
        ("text", "can't be read as an ONNX model"),
        ("truncated", "can't be read as an ONNX model"),
        ("plain", r"an ONNX model, but not a bundle .* imaging-ft export"),
    ],
)
def test_a_file_that_is_no_bundle_is_one_line(kind: str, message: str, exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    data = exported.model.read_bytes()
    if kind == "plain":
        model = onnx.load(exported.model)
        del model.metadata_props[:]
        onnx.save(model, path)
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": data[: len(data) // 2]}[kind])
    with pytest.raises(BundleError, match=f"m.onnx: {message}") as caught:
        Runner.open(path)
    assert "\n" not in str(caught.value)


def test_images_of_mixed_sizes_are_answered_in_their_order(runner: Runner) -> None:
    rng = np.random.default_rng(0)
    shapes = [(40, 50), (72, 80), (40, 50), (9, 9), (72, 80)]
    images = [rng.integers(0, 256, (*shape, 1), dtype=np.uint8) for shape in shapes]
    together = runner.predict(images)
    alone = np.concatenate([runner.predict([image]) for image in images])
    assert together == pytest.approx(alone, abs=1e-4)
    assert runner.predict([]).shape == (0, len(LABELS))


@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 1), np.float32), np.zeros((8, 8, 4), np.uint8)]
)
def test_pixels_of_another_kind_are_refused(image: Any, runner: Runner) -> None:
    with pytest.raises(InputError, match=r"\[height, width, 1 or 3\] of uint8 or uint16 is wanted"):
        runner.predict([image])
