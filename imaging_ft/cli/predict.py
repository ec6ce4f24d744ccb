"""`imaging-ft predict`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, progress, say, show_json
from imaging_ft.inference import Device

DeviceOption = Annotated[
    Device, typer.Option(help="Where the model runs; a device that can't run is an error, never a silent CPU.")
]
Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An exported model.", show_default=False)]
PublicKey = Annotated[
    Path | None,
    typer.Option(metavar="KEY.pem", help="Refuse a model that this key's holder didn't sign.", show_default=False),
]
_TOLD = 5


class Engine(StrEnum):
    """Where the images are predicted."""

    LOCAL = "local"
    RAY = "ray"


def predict(
    model: Model,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Image files and folders.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table: .csv, .jsonl or .parquet.", show_default=False)],
    device: DeviceOption = Device.AUTO,
    public_key: PublicKey = None,
    engine: Annotated[Engine, typer.Option(help="This machine, or a Ray cluster (needs the scale extra).")] = (
        Engine.LOCAL
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Runners of a Ray cluster.", show_default="one for each core, or each GPU"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Predict files and folders into a table.

    An image that can't be read is a row with its error, one that the model shouldn't judge a row with the reason; the
    others go on. A run that is broken off goes on where it stopped.

    \b
    Example:
      imaging-ft predict model.onnx images/ scan.dcm -o predictions.csv
      imaging-ft predict model.onnx /archive -o found.parquet --engine ray
    """
    from imaging_ft.inference.listing import list_images
    from imaging_ft.inference.predictions import predict_files
    from imaging_ft.inference.runner import Runner
    from imaging_ft.inference.table import check_table, open_table

    check_table(out)
    files = list_images(paths)
    runner = Runner.open(model, device=device, public_key=public_key, spinning=False)  # others decode meanwhile
    about = {"model_sha256": runner.sha256, "paths": [str(path.absolute()) for path in paths]}
    told = 0
    with open_table(out, about) as table:
        left = table.left(files)
        if table.stored:
            say(f"going on after {table.stored} images that were predicted before")
        if engine is Engine.RAY:
            from imaging_ft.inference.cluster import predict_on_ray

            rows = predict_on_ray(model, left, device=device, public_key=public_key, workers=workers)
            rows = progress()(rows, "predicting", None)
        else:
            rows = (
                one.row(runner.bundle.names, runner.sha256) for one in predict_files(runner, left, track=progress())
            )
        try:
            for row in rows:
                table.add(row)
                if row["status"] == "error":
                    told += 1
                    if told <= _TOLD:
                        say(f"warning: {row['reason']}")
        except BaseException:
            table.keep()
            raise
        counts = table.finish()
    if told > _TOLD:
        say(f"warning: … and {told - _TOLD} more; the table has each reason")
    if as_json:
        show_json(
            {
                "out": str(out),
                "images": sum(counts.values()),
                "rejected": counts["rejected"],
                "errors": counts["error"],
                "device": runner.device.value,
                "engine": engine.value,
            }
        )
        return
    parts = [f"{counts['ok']} images predicted on {runner.device}"]
    parts += [f"{counts['rejected']} rejected"] if counts["rejected"] else []
    parts += [f"{counts['error']} could not be read"]
    print(f"{', '.join(parts)}: {out}")
