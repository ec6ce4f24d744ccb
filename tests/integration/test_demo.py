"""The whole chain, as a newcomer runs it: one command, real training, real files."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's run folder, after a short real run, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "run"
    command = [sys.executable, "-m", "imaging_ft", "demo", "--out", str(out), "--epochs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_demo_leaves_every_file_that_the_plan_names(demo: tuple[Path, str]) -> None:
    out, _ = demo
    for name in (
        "config.yaml",
        "dataset.json",
        "history.csv",
        "history.png",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "model.safetensors",
        "model.json",
        "summary.json",
        "model.onnx",
        "predictions.csv",
        "report/index.html",
        "report/report.json",
        "report/cells.csv",
        "report/summary.md",
        "report/predictions.parquet",
    ):
        assert (out / name).stat().st_size > 0, name


def test_the_demo_says_where_each_result_lies(demo: tuple[Path, str]) -> None:
    out, printed = demo
    for name in ("model.onnx", "predictions.csv", "report/index.html"):
        assert str(out / name) in printed


def test_the_predictions_and_the_report_are_of_the_same_images(demo: tuple[Path, str]) -> None:
    out, _ = demo
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    report = json.loads((out / "report" / "report.json").read_text())
    assert len(rows) == report["overall"]["n"]
    with (ROOT / "sample_data/baggage/manifest.csv").open(newline="") as file:
        truth = {Path(row["image"]).name: row["label"] for row in csv.DictReader(file)}
    right = sum(row["label"] == truth[Path(row["image"]).name] for row in rows)
    assert right / len(rows) == pytest.approx(report["overall"]["metrics"]["accuracy"]["value"])


def test_the_report_slices_by_every_recorded_column(demo: tuple[Path, str]) -> None:
    out, _ = demo
    report = json.loads((out / "report" / "report.json").read_text())
    recorded = {name for cell in report["cells"] if cell["source"] == "recorded" for name in cell["conditions"]}
    assert recorded == {"yaw", "pitch", "roll", "exposure", "scanner"}
