"""Ctrl-C keeps the best so far; a kill never leaves half a file under a final name."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file

from imaging_ft.export.onnx import export_run
from tests.conftest import write_dataset

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT between processes")


@contextmanager
def training(dataset: Path, run: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    settings = ["epochs=200", "size=32", "precision=fp32", "batch_norm=trained", "augmentation=none", "batch_size=6"]
    settings += ["model=test_resnet", "weights=none", "adapt=false"]
    arguments = ["train", str(dataset), "--out", str(run), *[part for item in settings for part in ("--set", item)]]
    process = subprocess.Popen(
        [sys.executable, *options, "-m", "imaging_ft", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    pytest.fail(f"the training ended before {word!r}")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), per_group=1)


def test_ctrl_c_ends_cleanly_and_the_best_so_far_exports(dataset: Path, tmp_path: Path) -> None:
    with training(dataset, tmp_path / "run") as process:
        wait_for(process, "epoch   1")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "stopped; the best model so far" in err
    assert "next: imaging-ft export" in out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["interrupted"] is True
    assert 1 <= summary["epochs"] < 200
    assert export_run(tmp_path / "run", tmp_path / "m.onnx").bundle.parity.top1_agreement == 1


def test_ctrl_c_before_the_first_epoch_ends_without_a_traceback(dataset: Path, tmp_path: Path) -> None:
    with training(dataset, tmp_path / "run", "-X", "importtime") as process:
        wait_for(process, " timm.")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_kill_leaves_no_half_file_under_a_final_name(dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with training(dataset, run) as process:
        wait_for(process, "epoch   1")
        process.kill()
        process.communicate(timeout=60)
    assert not (run / "model.safetensors").exists()
    final = [path for path in run.rglob("*") if path.is_file() and not path.name.startswith(".")]
    assert {path.suffix for path in final} >= {".safetensors", ".json", ".yaml", ".csv"}
    for path in final:
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
