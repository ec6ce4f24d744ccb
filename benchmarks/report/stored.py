"""A report from millions of stored predictions: `python -m benchmarks.report.stored --rows 10000000`.

Writes made-up predictions (4 classes, patients of 10 images, recorded columns, clean and two conditions) to a Parquet
file, and runs `imaging-ft report --predictions` on it as a process of its own: seconds and peak memory.
"""
# ruff: noqa: T201 - a command prints

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

LABELS = ("handgun", "razor_blade", "shuriken", "no_threat")
SETTINGS = ("clean", "low_dose@3", "low_dose@5", "roll@5")


def write_table(path: Path, rows: int, *, clean_only: bool, seed: int = 0) -> None:
    """Write made-up predictions, right in about nine of ten; all rows clean, or a quarter in each setting."""
    rng = np.random.default_rng(seed)
    settings = ("clean",) if clean_only else SETTINGS
    images = rows // len(settings)
    numbers = np.arange(images)
    truth = rng.integers(0, len(LABELS), images)
    parts: list[pl.DataFrame] = []
    for number, setting in enumerate(settings):
        logits = rng.normal(0, 1, (images, len(LABELS))).astype(np.float32)
        logits[numbers, truth] += 2.5 - 0.4 * number
        powers = np.exp(logits)
        shares = powers / powers.sum(axis=1, keepdims=True)
        parts.append(
            pl.DataFrame(
                {
                    "image": pl.Series(numbers).cast(pl.String) + ".png",
                    "group": pl.Series(numbers // 10).cast(pl.String),
                    "setting": pl.Series([setting]).sample(images, with_replacement=True),
                    "truth": pl.Series(LABELS).gather(truth),
                    **{f"p_{label}": shares[:, column] for column, label in enumerate(LABELS)},
                    "site": pl.Series(["A", "B", "C"]).gather(numbers // 10 % 3),
                    "sex": pl.Series(["F", "M"]).gather(numbers // 10 % 2),
                    "kvp": rng.normal(100, 10, images).round(1),
                }
            )
        )
    pl.concat(parts).write_parquet(path)


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report.stored", description=__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[100_000, 1_000_000, 10_000_000])
    given = parser.parse_args()
    print(f"{'rows':>12}  {'settings':>8}  {'seconds':>8}  {'peak GB':>8}")
    for rows in given.rows:
        for clean_only in (True, False):
            with TemporaryDirectory() as name:
                path = Path(name) / "predictions.parquet"
                # In a process of its own, so that its memory isn't counted.
                write = f"write_table(Path({str(path)!r}), {rows}, clean_only={clean_only})"
                code = f"from benchmarks.report.stored import *; {write}"
                subprocess.run([sys.executable, "-c", code], check=True)
                command = [sys.executable, "-m", "imaging_ft", "report", "--predictions", str(path)]
                start = time.perf_counter()
                process = subprocess.Popen([*command, "--out", f"{name}/report"], stdout=subprocess.DEVNULL)
                _, status, used = _wait(process)
                if status:
                    print(f"failed with {status}")
                    return 1
                seconds = time.perf_counter() - start
            count = 1 if clean_only else len(SETTINGS)
            print(f"{rows:>12,}  {count:>8}  {seconds:>8.1f}  {used / 1e6:>8.2f}", flush=True)
    return 0


def _wait(process: "subprocess.Popen[bytes]") -> tuple[int, int, float]:
    """Return a process's number, exit status and peak memory in kB once it has ended."""
    import os

    number, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return number, process.returncode, _kilobytes(usage)


def _kilobytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)


if __name__ == "__main__":
    sys.exit(main())
