"""`imaging-ft train`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, Dataset, SkipBad, progress, say, show_files, show_json


def train(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            help="timm/NAME, monai/NAME or a timm name; default: the embedded EfficientNet-Lite0.", show_default=False
        ),
    ] = None,
    augmentation: Annotated[
        str | None, typer.Option(help="Recipe name or YAML file; default: the dataset card's.", show_default=False)
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs after the linear probe; default 8.", show_default=False)
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Height and width that the network sees; default 160.", show_default=False)
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Of augmentation and order; default 0.", show_default=False)] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings as YAML, such as another run's config.yaml.", show_default=False)
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting; may be repeated. The keys: docs/settings.md.",
            show_default=False,
        ),
    ] = None,
    skip_bad: SkipBad = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    r"""Fine-tune a model on a data set.

    Linear probe first, then fine-tuning from it; the best epoch by balanced accuracy on validation is kept.
    Ctrl-C ends it cleanly and keeps the best so far.

    \b
    Example:
      imaging-ft train xray_objects --out runs/xray --epochs 6
    """
    from imaging_ft.config import parse_assignments, read_yaml
    from imaging_ft.training.settings import TrainSettings

    named = {
        "model": model,
        "augmentation": augmentation,
        "epochs": epochs,
        "size": size,
        "device": device,
        "seed": seed,
    }
    values = read_yaml(config) if config else {}
    values |= {key: value for key, value in named.items() if value is not None}
    values |= parse_assignments(set_ or [])
    settings = TrainSettings.checked(values, where="settings")
    from imaging_ft.training.train import train as run_training

    summary = run_training(dataset, out, settings, skip_bad=skip_bad, overwrite=overwrite, track=progress(), say=say)
    if as_json:
        show_json(summary)
        return
    reached = summary["validation"]
    print(
        f"validation: balanced accuracy {reached['balanced_accuracy']:.3f}, accuracy {reached['accuracy']:.3f}"
        f" (n = {reached['n']}, epoch {summary['best_epoch']}); {summary['cost']['seconds']:.0f} s"
    )
    show_files([("run", out), ("summary", out / "summary.json"), ("history", out / "history.png")])
    print(f"next: imaging-ft export {out} -o model.onnx")
