"""`imaging-ft demo`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import progress, say, show_files
from imaging_ft.cli.memory import keep_freed_memory

EPOCHS = 30
SIZE = 128


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")] = Path("runs/demo"),
    epochs: Annotated[int, typer.Option(min=0, help="Epochs after the linear probe.")] = EPOCHS,
) -> None:
    r"""Run the whole chain on the sample data: train, export, predict, report.

    The images are synthetic radiographs of baggage, so the figures say nothing about a real scanner. A
    demo that already stands in the folder is replaced.

    \b
    Example:
      imaging-ft demo
    """
    keep_freed_memory()
    from imaging_ft.data import load
    from imaging_ft.export.onnx import export_run
    from imaging_ft.inference.predictions import predict_files
    from imaging_ft.inference.runner import Runner
    from imaging_ft.inference.table import write_predictions
    from imaging_ft.report.measure import measure
    from imaging_ft.report.write import prepare_folder, write_report
    from imaging_ft.training.settings import TrainSettings
    from imaging_ft.training.train import train

    track = progress()
    say("1/4 train: a pretrained network learns four classes from synthetic radiographs of baggage")
    dataset = sample_dataset(out)
    settings = TrainSettings(epochs=epochs, size=SIZE)
    summary = train(dataset, out, settings, overwrite=True, track=track, say=say)
    model = out / "model.onnx"
    say("2/4 export: one ONNX file, proven equal to the trained model")
    export_run(out, model, track=track)
    say("3/4 predict: the test images")
    runner = Runner.open(model)
    files = [sample.path for sample in load(dataset).samples if sample.split == "test"]
    rows = [found.row(runner.bundle.names, runner.sha256) for found in predict_files(runner, files, track=track)]
    predictions = out / "predictions.csv"
    write_predictions(rows, predictions)
    say("4/4 report: accuracy under each condition")
    folder = out / "report"
    prepare_folder(folder)
    # One thread each: the images are what runs side by side.
    measured = measure(Runner.open(model, threads=1), dataset, out=folder, track=track)
    result = measured.report
    page = write_report(result, folder, pictures=measured.pictures)[0]
    clean = result.overall.metrics["accuracy"]
    print(f"clean accuracy {clean.value:.3f} [{clean.low:.3f}, {clean.high:.3f}], n = {result.overall.n}", end="")
    if result.worst:
        worst = result.worst.metrics["accuracy"]
        print(f"; worst condition {worst.value:.3f} [{worst.low:.3f}, {worst.high:.3f}]", end="")
    print(f"; trained in {summary['cost']['seconds']:.0f} s")
    show_files([("run", out), ("model", model), ("predictions", predictions), ("report", page)])


def sample_dataset(out: Path) -> str:
    """Return the sample data of a checkout; where there is none (a wheel), it's written beside the run."""
    from imaging_ft.data import load
    from imaging_ft.data.sample import write_samples
    from imaging_ft.errors import DataError

    try:
        load("baggage")
    except DataError:
        directory = out.parent / f"{out.name}_sample_data"
        say(f"writing the sample data to {directory}")
        write_samples(directory)
        card = directory / "baggage.yaml"
        card.write_text(_card_with_root("baggage"), encoding="utf-8")
        return str(card)
    return "baggage"


def _card_with_root(name: str) -> str:
    """Return the built-in card of the sample data with its images' folder beside it."""
    from imaging_ft import catalog
    from imaging_ft.config import to_yaml
    from imaging_ft.data import Card

    card = Card.from_yaml(catalog.find(name, on="datasets"))
    return to_yaml(card.model_copy(update={"root": name}))
