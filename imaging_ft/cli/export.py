"""`imaging-ft export`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, progress, show_files, show_json


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.", show_default=False)],
    data: Annotated[
        str | None, typer.Option(metavar="DATASET", help="The run's data set, where it has moved.", show_default=False)
    ] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Also give the features before the head.")] = False,
    as_json: AsJson = False,
) -> None:
    r"""Write a run's model as one self-describing ONNX file.

    The preprocessing is in the graph. Nothing is written unless onnxruntime and torch agree on every
    validation image (exit code 1 where they don't).

    \b
    Example:
      imaging-ft export runs/xray -o model.onnx
    """
    from imaging_ft.export.onnx import export_run

    bundle = export_run(run, out, data=data, embedding=embedding, track=progress())
    if as_json:
        show_json(bundle.model_dump(mode="json", by_alias=True))
        return
    parity = bundle.parity
    print(
        f"parity: {_agreeing(parity.images, parity.top1_agreement)};"
        f" probabilities at most {parity.max_probability_difference:.1e} apart"
    )
    show_files([("model", out), ("sha256", out.with_name(f"{out.name}.sha256"))])
    print(f"{out.stat().st_size / 1e6:.1f} MB; next: imaging-ft report {out} DATASET --out report/")


def _agreeing(images: int, share: float) -> str:
    """Return how many images agree; of a multi-label task, a few may lie on a threshold's two sides by rounding."""
    if share >= 1:
        return f"{images} validation images agree"
    return f"{share:.1%} of {images} validation images agree, the others lie at a threshold"
