"""`imaging-ft report`."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from imaging_ft.cli.console import AsJson, SkipBad, progress, say, show_files
from imaging_ft.cli.predict import DeviceOption, PublicKey
from imaging_ft.errors import ConfigError, InputError
from imaging_ft.inference import Device
from imaging_ft.types import Split, Task

if TYPE_CHECKING:
    from imaging_ft.report.measure import Measurement
    from imaging_ft.report.result import Estimate, Report

_WHAT = {
    "index.html": "page",
    "report.json": "data",
    "cells.csv": "table",
    "summary.md": "summary",
    "report.pdf": "print",
}


def report(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL.onnx", help="An exported model.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="A card's name, a card, a folder of class folders, or a manifest.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The folder to write (required).", show_default=False)
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.parquet",
            help="Report on stored predictions instead of MODEL and DATASET.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--conditions",
            metavar="SUITE",
            help="Condition suite, by name or YAML file; default: the card's.",
            show_default=False,
        ),
    ] = None,
    severities: Annotated[
        str | None,
        typer.Option(metavar="1,3,5", help="Default: the suite's.", show_default=False),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Severities 1, 3, 5, and no pairs.")] = False,
    cross: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,COLUMN",
            help="Two or three columns whose intersections are cells too; may be repeated.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        Split | None,
        typer.Option(help="The split to measure; default: test.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER",
            help="Another model (.onnx; with --predictions, its .parquet) on the same images.",
            show_default=False,
        ),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="EXPR",
            help="A gate, such as 'worst.accuracy >= 0.8', or a file of them; may be repeated.",
            show_default=False,
        ),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also print the page to report.pdf.")] = False,
    pictures: Annotated[bool, typer.Option(help="Show images of the worst failures in the page.")] = True,
    device: DeviceOption = Device.AUTO,
    public_key: PublicKey = None,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    r"""Measure an exported model, condition by condition.

    Clean, under every condition of a suite, in pairs of lighting and angle, and by every recorded and measured
    column. Gates compare interval bounds: exit code 1 where one fails, 3 where the evidence is too little. A
    report that was broken off goes on where it stopped.

    \b
    Example:
      imaging-ft report model.onnx xray_objects --out report \
        --require "worst.accuracy >= 0.8"
    """
    from imaging_ft.report.gates import exit_code
    from imaging_ft.report.measure import tables_of
    from imaging_ft.report.write import report_folder, write_report

    if out is None:
        raise InputError("report: --out is missing; name the folder to write")
    crossed = [[name.strip() for name in names.split(",")] for names in cross or []]
    with report_folder(out, stored=predictions):
        if predictions is not None:
            if model is not None or dataset is not None:
                raise InputError("report: give MODEL.onnx and DATASET, or --predictions, not both")
            found = _stored(predictions, against, crossed, require or [])
        else:
            if model is None or dataset is None:
                raise InputError("report: MODEL.onnx and DATASET are needed, or --predictions FILE.parquet")
            found = _measured(
                model,
                dataset,
                out=out,
                suite=suite,
                severities=_levels(severities),
                fast=fast,
                crossed=crossed,
                split=split,
                against=against,
                require=require or [],
                device=device,
                public_key=public_key,
                skip_bad=skip_bad,
                pictures=pictures,
            )
        files = write_report(found.report, out, pictures=found.pictures, pdf=pdf)
    for warning in found.report.warnings:
        say(fill(f"warning: {warning}", 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
    if as_json:
        print(found.report.model_dump_json(indent=2))
    else:
        _show(found.report)
        tables = [] if predictions is not None else [path for path in tables_of(out) if path.is_file()]
        show_files((_WHAT.get(file.name, file.stem), file) for file in [*files, *tables])
    raise typer.Exit(exit_code(found.report.gates))


def _stored(path: Path, against: Path | None, cross: Sequence[Sequence[str]], require: Sequence[str]) -> "Measurement":
    from imaging_ft.report.measure import Measurement, reassemble
    from imaging_ft.report.requirements import all_requirements

    expressions = all_requirements(require, beside=str(path), say=say)
    return Measurement(reassemble(path, against, cross=cross, require=expressions, track=progress()), [])


def _measured(
    model: Path,
    dataset: str,
    *,
    out: Path,
    suite: str | None,
    severities: list[int] | None,
    fast: bool,
    crossed: list[list[str]],
    split: Split | None,
    against: Path | None,
    require: list[str],
    device: Device,
    public_key: Path | None,
    skip_bad: bool,
    pictures: bool,
) -> "Measurement":
    from imaging_ft.inference.runner import Runner
    from imaging_ft.report.measure import measure
    from imaging_ft.report.requirements import all_requirements

    # One thread each: the images are what runs side by side.
    runner = Runner.open(model, device=device, threads=1, public_key=public_key)
    other = None
    if against is not None:
        other = Runner.open(against, device=device, threads=1, public_key=public_key)
    return measure(
        runner,
        dataset,
        out=out,
        suite=suite,
        severities=severities,
        fast=fast,
        require=all_requirements(require, beside=dataset, say=say),
        against=other,
        cross=crossed,
        split=split,
        skip_bad=skip_bad,
        show=pictures,
        track=progress(),
    )


def _levels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--severities {text!r}: write whole numbers from 1 to 5, such as 1,3,5") from error


def _show(result: "Report") -> None:
    from imaging_ft.report.wording import name_of

    print(f"{'':12}{'accuracy':>9}  {'95% interval':<16}{'n':>8}")
    if result.model.task == Task.MULTILABEL:
        print("(accuracy counts an image only where every label is right)")
    _line("clean", result.overall.n, result.overall.metrics.get("accuracy"))
    if result.mean:
        cells = sum(1 for cell in result.cells if cell.source == "synthetic")
        print(f"{'mean':<12}{result.mean['accuracy']:>9.3f}  over {cells} synthetic conditions")
    if result.worst:
        _line("worst", result.worst.n, result.worst.metrics.get("accuracy"), f"  {name_of(result.worst.conditions)}")
    if result.against is not None:
        pair = result.against.overall
        gap = pair.accuracy
        print(
            f"{'against':<12}{gap.value:>+9.3f}  [{gap.low:+.3f}, {gap.high:+.3f}]  p = {pair.p:.3g}"
            f"  ({result.against.file})"
        )
    for gate in result.gates:
        print(f"gate {gate.outcome}: {gate.expr}")
        print(fill(gate.detail, 80, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False))


def _line(what: str, n: int, estimate: "Estimate | None", note: str = "") -> None:
    if estimate is None:
        print(f"{what:<12}{'undefined':>9}  too few images    {n:>8}{note}")
        return
    print(f"{what:<12}{estimate.value:>9.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]  {n:>8}{note}")
