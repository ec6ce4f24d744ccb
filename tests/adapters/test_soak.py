"""A service under mutated files and many requests, as `benchmarks.serving.soak` measures it, in small."""

import subprocess
import sys
from pathlib import Path

from tests.inference.nets import LINEAR, make

ROOT = Path(__file__).parents[2]


def _soak(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    model = make(LINEAR["pool, flatten, gemm"], folder / "net.onnx").path
    command = [sys.executable, "-m", "benchmarks.serving.soak", str(model), "--growth", "8", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)


def test_mutated_files_harm_nothing_and_memory_stays(tmp_path: Path) -> None:
    done = _soak(tmp_path, "--files", "400", "--requests", "2000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("nothing wrong\n")
    assert "200: " in done.stdout
    assert "400: " in done.stdout


def test_a_planted_leak_is_found(tmp_path: Path) -> None:
    done = _soak(tmp_path, "--files", "0", "--requests", "2000", "--leak")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "memory grew by" in done.stdout
