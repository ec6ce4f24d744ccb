"""`imaging-ft predict`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, progress, say, show_json
from imaging_ft.inference import Device

DeviceOption = Annotated[
    Device, typer.Option(help="Where the model runs; a device that can't run is an error, never a silent CPU.")
]
Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An exported model.", show_default=False)]


def predict(
    model: Model,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Image files and folders.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table: .csv, .jsonl or .parquet.", show_default=False)],
    device: DeviceOption = Device.AUTO,
    as_json: AsJson = False,
) -> None:
    r"""Predict files and folders into a table.

    An image that can't be read is a row with its error; the others go on.

    \b
    Example:
      imaging-ft predict model.onnx images/ scan.dcm -o predictions.csv
    """
    from imaging_ft.inference.predictions import check_table, find_images, predict_files, write_predictions
    from imaging_ft.inference.runner import Runner

    check_table(out)
    files = find_images(paths)
    runner = Runner.open(model, device=device)
    found = list(predict_files(runner, files, track=progress()))
    rows = [prediction.row(runner.bundle.names, runner.sha256) for prediction in found]
    write_predictions(rows, out)
    errors = [prediction for prediction in found if prediction.status == "error"]
    for prediction in errors[:5]:
        say(f"warning: {prediction.reason}")
    if len(errors) > 5:
        say(f"warning: … and {len(errors) - 5} more; the table has each reason")
    if as_json:
        show_json({"out": str(out), "images": len(found), "errors": len(errors), "device": runner.device.value})
        return
    print(f"{len(found) - len(errors)} images predicted on {runner.device}, {len(errors)} could not be read: {out}")
