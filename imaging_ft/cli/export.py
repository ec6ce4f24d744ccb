"""`imaging-ft export`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, progress, say, show_files, show_json
from imaging_ft.types import Precision

EXTRA = "Further files"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.", show_default=False)],
    target: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="What the file is for: a built-in target, or your own YAML.")
    ] = "server-cpu",
    precision: Annotated[
        Precision | None, typer.Option(help="The numbers that the network computes in.", show_default="the target's")
    ] = None,
    max_drop: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="How far balanced accuracy or any class's sensitivity may fall in any cell of the suite."
        ),
    ] = 0.005,
    data: Annotated[
        str | None, typer.Option(metavar="DATASET", help="The run's data set, where it has moved.", show_default=False)
    ] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Also give the features before the head.")] = False,
    saliency: Annotated[
        bool | None,
        typer.Option(
            "--saliency/--no-saliency", help="Also give the class activation map.", show_default="the target's"
        ),
    ] = None,
    digests: Annotated[
        bool, typer.Option("--digests/--no-digests", help="List the images it has seen, which reports leave out.")
    ] = True,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write a Triton model repository.", show_default=False, rich_help_panel=EXTRA
        ),
    ] = None,
    monai_bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write a MONAI bundle.", show_default=False, rich_help_panel=EXTRA),
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Write a run's model as one self-describing ONNX file.

    The preprocessing is in the graph. Nothing is written unless onnxruntime and torch agree on every validation image,
    and unless a lower precision costs no more than --max-drop anywhere in the condition suite (exit code 1).

    \b
    Example:
      imaging-ft export runs/xray -o model.onnx
      imaging-ft export runs/xray -o model.onnx --precision int8
      imaging-ft export runs/xray -o model.onnx --target browser --embedding
      imaging-ft export runs/xray -o model.onnx --triton models/
    """
    from imaging_ft.export.onnx import export_run
    from imaging_ft.export.precision import describe

    exported = export_run(
        run,
        out,
        data=data,
        target=target,
        precision=precision,
        max_drop=max_drop,
        embedding=embedding,
        saliency=saliency,
        digests=digests,
        triton=triton,
        monai_bundle=monai_bundle,
        track=progress(),
        say=say,
    )
    bundle = exported.bundle
    if as_json:
        show_json(bundle.brief().model_dump(mode="json", by_alias=True))
        return
    parity = bundle.parity
    print(
        f"parity: {_agreeing(parity.images, parity.top1_agreement)};"
        f" probabilities at most {parity.max_probability_difference:.1e} apart"
    )
    loss = bundle.precision_loss
    if loss is not None:
        print(
            f"{bundle.graph.precision}: {loss.images} images in {loss.cells} cells of {loss.suite}:"
            f" {loss.top1_agreement:.2%} say the same"
        )
        print(f"  most on average: {describe(loss.mean)}")
        print(f"  most in a cell:  {describe(loss.worst)}")
        layers = bundle.graph.float_layers
        if layers:
            print(f"  left in float32: {', '.join(layers)}")
    show_files([("model", out), ("sha256", out.with_name(f"{out.name}.sha256")), *exported.further])
    print(f"{out.stat().st_size / 1e6:.1f} MB; next: imaging-ft report {out} DATASET --out {run / 'report'}")


def _agreeing(images: int, share: float) -> str:
    """Return how many images agree; of a multi-label task, a few may lie on a threshold's two sides by rounding."""
    if share >= 1:
        return f"{images} validation images agree"
    return f"{share:.1%} of {images} validation images agree, the others lie at a threshold"
