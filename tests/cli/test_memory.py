"""Commands that compute on a processor keep the memory that they free."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_dataset

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library isn't glibc")

FAULTS = """
import resource
import numpy as np
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8_000_000)
before = faults()
for _ in range(5):
    np.ones(8_000_000)
print("faults", faults() - before)
"""
"""What five blocks of 64 MB cost that are asked for and freed: a fault for 4 KiB, or with huge pages for 2 MiB."""
PAGES = 5 * 64_000_000 // 2**21


def faults(program: str, **environment: str) -> int:
    """Return how many faults a program and then the blocks cause."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", program + FAULTS],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return int(done.stdout.rpartition("faults")[2])


def test_freed_memory_is_kept_unless_the_environment_says_how() -> None:
    keep = "from imaging_ft.cli.memory import keep_freed_memory as keep\nprint(keep())"
    assert faults("") >= PAGES
    assert faults(keep) < PAGES / 4
    assert faults(keep, MALLOC_MMAP_THRESHOLD_="100000") >= PAGES
    assert faults(keep, GLIBC_TUNABLES="glibc.malloc.mmap_threshold=100000") >= PAGES


def test_training_keeps_it(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", per_group=1)
    command = ["train", str(dataset), "--out", str(tmp_path / "run"), "--dry-run", "--model", "test_resnet"]
    command += ["--from-scratch", "--size", "32"]
    assert faults(f"from imaging_ft.cli.app import app\napp({command!r}, standalone_mode=False)") < PAGES / 4
