"""`imaging-ft report`."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from imaging_ft.cli.console import AsJson, Dataset, SkipBad, progress, say, show_files
from imaging_ft.cli.predict import DeviceOption, Model
from imaging_ft.inference import Device
from imaging_ft.types import Split, Task

if TYPE_CHECKING:
    from imaging_ft.report.result import Estimate, Report


def report(
    model: Model,
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", show_default=False)],
    suite: Annotated[
        str | None,
        typer.Option(
            "--conditions",
            metavar="SUITE",
            help="Condition suite, by name or YAML file; default: the card's.",
            show_default=False,
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="EXPR",
            help="A gate, such as 'worst.accuracy >= 0.8'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="The split to measure; default: test.", show_default=False)
    ] = None,
    device: DeviceOption = Device.AUTO,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    r"""Measure an exported model, condition by condition.

    Clean, under every condition of a suite, in pairs of lighting and angle, and by every recorded column.
    Gates compare interval bounds: exit code 1 where one fails, 3 where the evidence is too little.

    \b
    Example:
      imaging-ft report model.onnx xray_objects --out report \
        --require "worst.accuracy >= 0.8"
    """
    from imaging_ft.inference.runner import Runner
    from imaging_ft.report.gates import exit_code, name_of
    from imaging_ft.report.measure import measure
    from imaging_ft.report.write import prepare_folder, write_report

    runner = Runner.open(model, device=device)
    prepare_folder(out)
    result = measure(
        runner, dataset, suite=suite, require=require or (), split=split, skip_bad=skip_bad, track=progress()
    )
    files = write_report(result, out)
    for warning in result.warnings:
        say(fill(f"warning: {warning}", 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    if as_json:
        print(result.model_dump_json(indent=2))
    else:
        print(f"{'':12}{'accuracy':>9}  {'95% interval':<16}{'n':>6}")
        if result.model.task == Task.MULTILABEL:
            print("(accuracy counts an image only where every label is right)")
        _line("clean", result.overall.n, result.overall.metrics.get("accuracy"))
        if result.mean:
            print(f"{'mean':<12}{result.mean['accuracy']:>9.3f}  over {_synthetic(result)} synthetic conditions")
        if result.worst:
            _line("worst", result.worst.n, result.worst.metrics.get("accuracy"), f"  {name_of(result.worst)}")
        for gate in result.gates:
            print(f"gate {gate.outcome}: {gate.expr}")
            print(fill(gate.detail, 80, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))
        show_files(zip(("page", "data", "table"), files, strict=True))
    raise typer.Exit(exit_code(result.gates))


def _line(what: str, n: int, estimate: "Estimate | None", note: str = "") -> None:
    if estimate is None:
        print(f"{what:<12}{'undefined':>9}  too few images    {n:>6}{note}")
        return
    print(f"{what:<12}{estimate.value:>9.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]  {n:>6}{note}")


def _synthetic(result: "Report") -> int:
    return sum(1 for cell in result.cells if cell.source == "synthetic")
