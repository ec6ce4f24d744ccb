"""The training benchmark: `python -m benchmarks.training --datasets xray_objects brain_mri --seeds 0 1 2`.

Trains ours and its peers on the same images and measures every model under the same conditions. Every training is a
process of its own with a fixed number of threads; what is done is skipped when the command is given again. The
tables and plots are made after every training, so that they can be read at any moment.
"""
# ruff: noqa: T201 - a command prints

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

from benchmarks.training.estimate import estimate, spoken
from benchmarks.training.plan import METHODS, OURS, PEERS, Options, Work, order
from benchmarks.training.results import read_results
from imaging_ft.errors import ImagingFtError
from imaging_ft.training.run import write_text
from imaging_ft.types import Json

ROOT = Path(__file__).resolve().parents[2]
_WRITING = Lock()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0 where every training has a result, else 1."""
    parser = _parser()
    given = parser.parse_args(arguments)
    out: Path = given.out
    options = Options(
        size=given.size,
        epochs=given.epochs,
        peer_epochs=given.peer_epochs,
        peer_max_epochs=given.peer_max_epochs,
        limit_test=given.limit_test,
        precision=given.precision,
        threads=given.threads,
        device=given.device,
        jobs=given.jobs,
    )
    if any(METHODS[name].kind == "fastai" for name in given.methods) and find_spec("fastai") is None:
        parser.error("fastai isn't installed: pip install -r benchmarks/training/requirements.txt")
    if any(not 0 < share <= 1 for share in given.fractions):
        parser.error("--fractions: each share must be above 0 and at most 1")
    if given.jobs < 1:
        parser.error("--jobs: at least one")
    known = out / "options.json"
    if known.is_file() and replace(Options(**json.loads(known.read_text("utf-8"))), jobs=options.jobs) != options:
        parser.error(f"{out}: holds results with other options ({known.name}); choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_text(known, json.dumps(options.to_json(), indent=1) + "\n")

    works = list(
        order(given.datasets, given.methods, given.seeds, given.fractions, fraction_methods=given.fraction_methods)
    )
    for work in works:
        if work.method in given.redo:
            (out / f"{work.name}.json").unlink(missing_ok=True)
    left = [work for work in works if not (out / f"{work.name}.json").is_file()]
    print(f"{len(works)} trainings, {len(works) - len(left)} of them done already", flush=True)
    if left:
        try:
            seconds = estimate(left, options, read_results(out))
        except ImagingFtError as error:
            parser.error(str(error))
        for work in left:
            print(f"  {work.name:<48} about {spoken(seconds[work])}")
        print(f"about {spoken(sum(seconds.values()) / given.jobs)} in all, for what is left", flush=True)
    if given.estimate:
        return 0
    try:
        with ThreadPoolExecutor(given.jobs) as pool:
            failed = [
                work for work, done in zip(left, pool.map(partial(_run, options, out), left), strict=True) if not done
            ]
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", flush=True)
        return 130
    if len(failed) < len(works):
        _tables(out, given.docs)
    return 1 if failed else 0


def _run(options: Options, out: Path, work: Work) -> bool:
    """Run one training in its own process and return whether it gave a result; its output goes to a log."""
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    fixed = {
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "HF_HUB_OFFLINE": "1",
        "IMAGING_FT_CACHE": str((out / "cache").resolve()),
        "PYTHONWARNINGS": "ignore",
    }
    program = [sys.executable, "-m", "benchmarks.training.one"]
    texts = [json.dumps(vars(work)), json.dumps(options.to_json()), str(out.resolve())]
    log = out / f"{work.name}.log"
    start = time.perf_counter()
    print(f"{work.name} ...", flush=True)
    with log.open("w") as file:
        done = subprocess.run(
            [*program, *texts], cwd=ROOT, env={**os.environ, **threads, **fixed}, stdout=file, stderr=file, check=False
        )
    taken = spoken(time.perf_counter() - start)
    result = out / f"{work.name}.json"
    if done.returncode or not result.is_file():
        print(f"{work.name}: failed after {taken} (exit code {done.returncode}): {log}", flush=True)
        return False
    print(f"{work.name}, {taken}: {_line(json.loads(result.read_text(encoding='utf-8')))}", flush=True)
    with _WRITING:
        _tables(out, None)
    return True


def _line(result: Json) -> str:
    cells = [cell["balanced_accuracy"] for cell in result["measured"]["cells"]]
    return (
        f"balanced accuracy clean {result['measured']['clean']['balanced_accuracy']:.3f},"
        f" mean {sum(cells) / len(cells):.3f}, worst {min(cells):.3f}; trained {result['trained']['seconds']:.0f} s"
    )


def _tables(out: Path, docs: Path | None) -> None:
    """Write the tables and plots, in a process of its own: it needs matplotlib, and this one stays small."""
    target = docs if docs is not None else out / "docs"
    program = [sys.executable, "-m", "benchmarks.training.table", str(out.resolve()), "--docs", str(target.resolve())]
    subprocess.run(program, cwd=ROOT, check=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--datasets", nargs="+", default=["xray_objects", "brain_mri"], help="DATASET arguments")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="METHOD", help=", ".join(METHODS)
    )
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.1, 0.25, 0.5, 1.0], help="of training images")
    parser.add_argument(
        "--fraction-methods",
        nargs="+",
        choices=list(METHODS),
        default=[OURS],
        metavar="METHOD",
        help=f"trained on the smaller shares too; a peer ({', '.join(PEERS)}) can be added",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), help="results; done ones are skipped")
    parser.add_argument("--docs", type=Path, help="where the tables go at the end; default: OUT/docs")
    parser.add_argument("--size", type=int, default=160, help="pixels that every network sees (default 160)")
    parser.add_argument("--epochs", type=int, help="of ours; default: the preset's own")
    parser.add_argument("--peer-epochs", type=int, default=8, help="of a peer's first schedule (default 8)")
    parser.add_argument("--peer-max-epochs", type=int, default=16, help="of its longest (default 16)")
    parser.add_argument("--limit-test", type=int, help="measure on so many test images; default: all")
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of every process (default: all)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="to train on (default cpu)")
    parser.add_argument(
        "--jobs", type=int, default=1, help="trainings side by side (default 1); with more, their seconds tell nothing"
    )
    parser.add_argument("--redo", nargs="+", choices=list(METHODS), default=[], metavar="METHOD", help="train again")
    parser.add_argument("--estimate", action="store_true", help="say what would be run and how long, and stop")
    return parser


if __name__ == "__main__":
    sys.exit(main())
