"""What fp16 and int8 cost in accuracy on the test split: `python -m benchmarks.export.accuracy RUN DATASET`.

The gate of `imaging-ft export` holds the loss on validation images; here the files that passed it are measured on
images that neither training nor the gate has seen, clean and in every synthetic cell of the suite.
"""
# ruff: noqa: T201 - a command prints

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.training.score import measured
from imaging_ft.errors import PrecisionError
from imaging_ft.export.onnx import export_run
from imaging_ft.types import Precision


def main() -> None:
    """Export in each precision, measure, print Markdown, and write `accuracy.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("dataset", help="what `imaging-ft report` would be given")
    parser.add_argument("--out", type=Path, default=Path("runs/export"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for precision in Precision:
        path = given.out / f"{given.run.name}-{precision}.onnx"
        try:
            export_run(given.run, path, precision=precision)
        except PrecisionError as error:
            print(f"{precision}: {error}")
            continue
        found[precision] = {**measured(path, given.dataset, threads=given.threads), "bytes": path.stat().st_size}
    (given.out / "accuracy.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(found))


def table(found: dict[str, Any]) -> str:
    """Return balanced accuracy by precision as Markdown, and what is lost in float32's worst cell and at most."""
    base = {_name(cell): cell["balanced_accuracy"] for cell in found[Precision.FP32]["cells"]}
    hardest = min(base, key=base.__getitem__)
    rows = [
        f"| balanced accuracy, % | clean | mean of {len(base)} cells | worst cell | {hardest} | lost at most | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for precision, one in found.items():
        cells = {_name(cell): cell["balanced_accuracy"] for cell in one["cells"]}
        lost = {name: base[name] - value for name, value in cells.items()}
        most = max(lost, key=lost.__getitem__)
        rows.append(
            f"| {precision} | {100 * one['clean']['balanced_accuracy']:.1f}"
            f" | {100 * sum(cells.values()) / len(cells):.1f} | {100 * min(cells.values()):.1f}"
            f" | {100 * cells[hardest]:.1f} | {100 * lost[most]:.1f} ({most}) | {one['bytes'] / 1e6:.1f} |"
        )
    return "\n".join(rows)


def _name(cell: dict[str, Any]) -> str:
    return " + ".join(f"{name}@{severity}" for name, severity in cell["conditions"].items())


if __name__ == "__main__":
    main()
