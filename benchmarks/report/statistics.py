"""The statistics' benchmark: `python -m benchmarks.report.statistics` times one `evidence` call on made-up predictions.

Every size runs in a process of its own, on one core; `beyond the inputs` is the most memory that the call held at a
time, less what it was given.
"""
# ruff: noqa: T201 - a command prints

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np

from imaging_ft.report.metrics import Scored, evidence
from imaging_ft.report.ranks import EXACT_UP_TO, Ranking
from imaging_ft.report.scored import Units
from imaging_ft.types import Json, Task

LABELS = ["a", "b", "c", "d"]
SHARES = [0.55, 0.25, 0.15, 0.05]
A_GROUP = 10
"""Images of one group, where there are groups."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a Markdown table, a row for each number of images, independent and grouped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--one", choices=["independent", "grouped"], help="measure one size here and print JSON")
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.rows[0], grouped=given.one == "grouped")))
        return
    print("| images | groups | seconds | MB beyond the inputs | AUROC off by at most |")
    print("|---|---|---|---|---|")
    for rows in given.rows:
        for kind in ("independent", "grouped"):
            command = [sys.executable, "-m", "benchmarks.report.statistics", "--rows", str(rows), "--one", kind]
            found: Json = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            bound = "0" if found["bound"] is None else f"{found['bound']:.1e}"
            print(f"| {rows:,} | {found['groups']:,} | {found['seconds']:.2f} | {found['megabytes']:.0f} | {bound} |")


def measure(count: int, *, grouped: bool) -> Json:
    """Return the seconds, the memory beyond the inputs and the AUROC's error bound of one `evidence` call."""
    rows = made_up(count, grouped=grouped, seed=0)
    start = time.perf_counter()
    found = evidence(rows, LABELS, task=Task.MULTICLASS)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    evidence(made_anew(rows), LABELS, task=Task.MULTICLASS)
    beyond = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    units = Units(None, count)
    bounds = [
        Ranking.of(rows.probabilities[:, index], rows.truth[:, index], units).error for index in range(len(LABELS))
    ]
    return {
        "seconds": seconds,
        "megabytes": beyond,
        "groups": found.groups,
        "bound": max(bounds) if count > EXACT_UP_TO else None,
    }


def made_up(count: int, *, grouped: bool, seed: int) -> Scored:
    """Return images of four classes, the rarest on 5% of them, from a model that is right on about four of five."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(len(LABELS), count, p=SHARES).astype(np.int8)
    truth = classes[:, None] == np.arange(len(LABELS), dtype=np.int8)
    logits = rng.standard_normal((count, len(LABELS)), dtype=np.float32)
    logits *= 1.5
    logits += np.float32(2.5) * truth
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    said = logits.argmax(axis=1).astype(np.int8)[:, None] == np.arange(len(LABELS), dtype=np.int8)
    groups = rng.permutation(count) // A_GROUP if grouped else np.arange(count)
    return Scored(truth, logits, said, groups)


def made_anew(rows: Scored) -> Scored:
    """Return the same rows, of which nothing has been worked out yet."""
    return Scored(rows.truth, rows.probabilities, rows.said, rows.groups)


if __name__ == "__main__":
    main()
