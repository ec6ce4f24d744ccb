"""Predictions of a model that says several classes, or none."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
from onnx import numpy_helper

from imaging_ft.bundle import probabilities
from imaging_ft.errors import BundleError
from imaging_ft.inference import Device
from imaging_ft.inference.listing import find_images
from imaging_ft.inference.predictions import predict_files
from imaging_ft.inference.runner import Runner
from imaging_ft.inference.table import write_predictions
from tests.conftest import LABELS
from tests.export.multilabel import SCALING, THRESHOLDS, Multilabel, exported

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Multilabel:
    return exported(tmp_path_factory)


@pytest.fixture(scope="module")
def runner(made: Multilabel) -> Runner:
    return Runner.open(made.model, device=Device.CPU)


@pytest.fixture(scope="module")
def rows(runner: Runner, made: Multilabel) -> Rows:
    files = find_images([made.dataset.parent / "images"])
    return [found.row(runner.bundle.names, runner.sha256) for found in predict_files(runner, files)]


def test_the_label_is_every_class_that_reaches_its_threshold_in_the_models_order(rows: Rows) -> None:
    for row in rows:
        present = [label for label in LABELS if row[f"p_{label}"] >= THRESHOLDS[label]]
        assert (row["status"], row["label"], row["reason"]) == ("ok", "|".join(present), None)
    assert {row["label"] for row in rows} >= {"", "bar", "ring", "bar|disc", "bar|ring", "disc|ring", "bar|disc|ring"}


def test_the_probability_is_the_largest_of_those_said_to_be_there_or_of_all(rows: Rows) -> None:
    for row in rows:
        named = row["label"].split("|") if row["label"] else LABELS
        assert row["probability"] == max(row[f"p_{label}"] for label in named)


def test_a_likelier_class_that_misses_its_threshold_does_not_lend_its_probability(made: Multilabel, rows: Rows) -> None:
    runner = Runner.open(made.model, device=Device.CPU)
    thresholds = {"bar": 0.01, "disc": 0.999, "ring": 0.999}
    runner.bundle = runner.bundle.model_copy(update={"thresholds": thresholds})
    (path,) = [Path(row["image"]) for row in rows if row["image"].endswith("04-6.png")]  # a disc and a ring
    (found,) = predict_files(runner, [path])
    assert found.label == "bar"
    assert found.probabilities is not None
    assert found.probability == found.probabilities[0] < max(found.probabilities)


def test_no_class_is_an_empty_text_and_an_error_is_null(
    rows: Rows, runner: Runner, made: Multilabel, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    broken = [
        found.row(runner.bundle.names, runner.sha256) for found in predict_files(runner, [tmp_path / "broken.png"])
    ]
    table = [next(row for row in rows if row["label"] == ""), *broken]
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_predictions(table, tmp_path / f"p{suffix}")
    labels = ["", None]
    assert pl.read_parquet(tmp_path / "p.parquet")["label"].to_list() == labels
    assert [json.loads(line)["label"] for line in (tmp_path / "p.jsonl").read_text().splitlines()] == labels
    with (tmp_path / "p.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [(row["status"], row["label"]) for row in found] == [("ok", ""), ("error", "")]


def test_the_command_writes_the_same_table(rows: Rows, made: Multilabel, tmp_path: Path) -> None:
    command = ["predict", str(made.model), str(made.dataset.parent / "images"), "-o", "p.csv", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "imaging_ft", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(rows)} images predicted on cpu, 0 could not be read: p.csv\n"
    with (tmp_path / "p.csv").open(newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == [row["label"] for row in rows]


def test_a_host_with_onnxruntime_alone_says_the_same(rows: Rows, made: Multilabel, tmp_path: Path) -> None:
    """The lines of docs/bundle.md."""
    text = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```python\n")[1:]]
    (first,) = [block for block in blocks if "InferenceSession" in block]
    (several,) = [block for block in blocks if "thresholds" in block]
    image = made.dataset.parent / "images" / "00-7.png"
    code = first.replace("model.onnx", str(made.model)).replace("bag.jpg", str(image)) + several
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (row,) = [row for row in rows if row["image"] == str(image)]
    assert done.stdout.splitlines()[-1] == str(row["label"].split("|"))


def test_a_probability_that_is_no_number_is_never_read_as_no_class(made: Multilabel, tmp_path: Path) -> None:
    model = onnx.load(made.model)
    bias = np.array(SCALING.bias, np.float32)
    (held,) = [
        tensor for tensor in model.graph.initializer if np.array_equal(numpy_helper.to_array(tensor).ravel(), bias)
    ]
    held.CopyFrom(numpy_helper.from_array(np.full(numpy_helper.to_array(held).shape, np.nan, np.float32), held.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(BundleError, match=r"nan.onnx: gives probabilities that are no numbers on cpu"):
        Runner.open(tmp_path / "nan.onnx", device=Device.CPU)


def test_the_runner_gives_the_bundles_probabilities(runner: Runner) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (4, 50, 60, 1), dtype=np.uint8))
    session: Any = ort.InferenceSession(runner.path, providers=["CPUExecutionProvider"])
    logits = session.run(["logits"], {"image": np.stack(images)})[0]
    wanted = probabilities(
        logits, task=runner.bundle.task, temperature=1.0, vector_scaling=runner.bundle.vector_scaling
    )
    assert runner.predict(images) == pytest.approx(wanted, abs=1e-5)
