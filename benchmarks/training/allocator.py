"""What it costs a training step that glibc gives freed memory back: `python -m benchmarks.training.allocator`.

Steps of the default network on a processor, as `imaging-ft train` runs them (`imaging_ft.cli.memory`) and as any other
program does, in processes that take turns. Run it on a machine that does nothing else.
"""
# ruff: noqa: T201 - a command prints

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import torch

from imaging_ft.cli.memory import keep_freed_memory
from imaging_ft.models.factory import create

CLASSES = 4


def steps(*, keep: bool, count: int, batch: int, size: int) -> dict[str, float]:
    """Return the seconds of a step (the median), its page faults, and the peak memory of the process in GB."""
    if keep and not keep_freed_memory():
        raise SystemExit("memory isn't kept here: not glibc, or MALLOC_… or GLIBC_TUNABLES say how")
    torch.manual_seed(0)
    model = create("tf_efficientnet_lite0", classes=CLASSES, weights="none").to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4)
    images = torch.randint(0, 256, (batch, 3, size, size)).float().contiguous(memory_format=torch.channels_last)
    target = torch.arange(batch) % CLASSES
    taken: list[float] = []
    faults = 0
    for step in range(2 + count):  # two to warm up
        if step == 2:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), target).backward()
        optimiser.step()
        taken.append(time.perf_counter() - start)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": statistics.median(taken[2:]),
        "faults": (used.ru_minflt - faults) / count,
        "gigabytes": used.ru_maxrss / 1e6,
    }


def main() -> int:
    """Print both ways and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.allocator", description="Cost of page faults.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--child", choices=["kept", "given back"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        found = steps(keep=given.child == "kept", count=given.steps, batch=given.batch, size=given.size)
        print(json.dumps(found))
        return 0
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    all_found: dict[str, list[dict[str, float]]] = {"given back": [], "kept": []}
    for _ in range(given.rounds):
        for way, found in all_found.items():
            program = [sys.executable, "-m", "benchmarks.training.allocator", "--child", way]
            numbers = [f"--{name}={getattr(given, name)}" for name in ("steps", "batch", "size")]
            done = subprocess.run([*program, *numbers], env=clean, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout))
    middle = {way: statistics.median(row["seconds"] for row in rows) for way, rows in all_found.items()}
    for way, rows in all_found.items():
        faults = statistics.median(row["faults"] for row in rows)
        peak = max(row["gigabytes"] for row in rows)
        print(f"memory {way:<10}  {middle[way]:6.3f} s a step  {faults:9.0f} page faults a step  peak {peak:.2f} GB")
    print(f"ratio {middle['kept'] / middle['given back']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
