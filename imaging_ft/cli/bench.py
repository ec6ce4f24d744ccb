"""`imaging-ft bench`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, progress, show_files, show_json
from imaging_ft.cli.predict import DeviceOption, Model
from imaging_ft.errors import ConfigError, InputError
from imaging_ft.inference import Device


def bench(
    model: Model,
    device: DeviceOption = Device.AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of a batch.", show_default="one for each core")
    ] = None,
    batches: Annotated[str, typer.Option(metavar="N,N", help="Images in a call.")] = "1,8,32",
    clients: Annotated[str, typer.Option(metavar="N,N", help="Callers at the same time.")] = "1,8,32",
    size: Annotated[
        str | None,
        typer.Option(metavar="HEIGHTxWIDTH", help="Of the stored images.", show_default="twice the network's"),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, max=600, help="For each row.")] = 2.0,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Also draw it.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    r"""Measure how fast a model runs here.

    The runner, and its batching under concurrent clients, beside plain onnxruntime on the same file in the same run:
    the last column is images a second against it.

    \b
    Example:
      imaging-ft bench model.onnx
      imaging-ft bench model.onnx --device cuda --clients 1,64 --plot bench.png
    """
    from imaging_ft.inference.bench import bench as run
    from imaging_ft.inference.bench import draw, label_of

    found = run(
        model,
        device=device,
        threads=threads,
        batches=_numbers(batches, "--batches"),
        clients=_numbers(clients, "--clients"),
        size=_size(size),
        seconds=seconds,
        track=progress(),
    )
    if plot is not None:
        try:
            draw(found, plot)
        except (OSError, ValueError) as error:
            raise InputError(f"{plot}: can't be drawn there: {error}") from error
    if as_json:
        show_json(found.as_json())
        return
    height, width = found.size
    print(f"{found.model} on {found.device}, stored images of {height} × {width}")
    print(f"{'':<22}{'p50 ms':>9}{'p99 ms':>9}{'images/s':>10}{'of plain':>10}")
    for one in found.timings:
        against = "" if one.against_plain is None else f"{one.against_plain:.2f}"
        print(f"{label_of(one):<22}{1000 * one.p50:>9.2f}{1000 * one.p99:>9.2f}{one.images:>10.1f}{against:>10}")
    if plot is not None:
        show_files([("plot", plot)])


def _numbers(text: str, option: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{option} {text!r}: write whole numbers between commas, such as 1,8,32") from error
    if not found or min(found) < 1 or max(found) > 1024:
        raise ConfigError(f"{option} {text!r}: numbers from 1 to 1024 are wanted")
    return list(dict.fromkeys(found))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) < 1 << 14 and 0 < int(width) < 1 << 14):
        raise ConfigError(f"--size {text!r}: write height and width, such as 512x640")
    return int(height), int(width)
