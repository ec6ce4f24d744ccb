"""`imaging-ft train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imaging_ft.cli.console import AsJson, Dataset, SkipBad, progress, say, show_files, show_json
from imaging_ft.cli.memory import keep_freed_memory


def train(
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.", show_default=False)],
    preset: Annotated[
        str | None,
        typer.Option(help="fast, balanced or robust; default balanced.", show_default=False),
    ] = None,
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
        int | None, typer.Option(help="Epochs after the linear probe; default: the preset's.", show_default=False)
    ] = None,
    time_budget: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Longest training: 90s, 10m, 1.5h.", show_default=False),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Height and width that the network sees; default 160.", show_default=False)
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Of augmentation and order; default 0.", show_default=False)] = None,
    from_run: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", help="Go on from an earlier run's model.", show_default=False),
    ] = None,
    focus: Annotated[
        str | None,
        typer.Option(
            metavar="REPORT", help="report.json of an earlier round: practise what failed.", show_default=False
        ),
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Conditions not to practise: low_dose,roll.", show_default=False),
    ] = None,
    retain: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Earlier data not to forget; needs --from.", show_default=False),
    ] = None,
    max_forgetting: Annotated[
        float | None,
        typer.Option(help="Largest fall of balanced accuracy on it; default 0.02.", show_default=False),
    ] = None,
    operating_point: Annotated[
        str | None,
        typer.Option(metavar="POINT", help="Thresholds by validation: sensitivity=0.95.", show_default=False),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Cross-validate in so many grouped folds.", show_default=False)
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="No pretrained weights, for comparison.")
    ] = False,
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="One batch through everything, and a picture of samples.")
    ] = False,
    find_rate: Annotated[bool, typer.Option("--find-rate", help="Plot the loss by learning rate, and stop.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was broken off.")] = False,
    skip_bad: SkipBad = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    r"""Fine-tune a model on a data set.

    Linear probe first, then fine-tuning from it; the best epoch on validation, clean and under the domain's
    conditions, is kept. Ctrl-C ends it cleanly and keeps the best so far; after a kill, --resume goes on.

    \b
    Example:
      imaging-ft train xray_objects --out runs/xray --preset robust
      imaging-ft train xray_objects --out runs/xray --resume
    Several processes work as one:
      torchrun --nproc-per-node 2 -m imaging_ft train xray_objects --out runs/xray
    """
    keep_freed_memory()
    from imaging_ft.config import parse_assignments, read_yaml
    from imaging_ft.training.settings import TrainSettings, merged, resumed_settings

    named: dict[str, Any] = {
        "preset": preset,
        "model": model,
        "augmentation": augmentation,
        "epochs": epochs,
        "time_budget": time_budget,
        "size": size,
        "device": device,
        "seed": seed,
        "from_run": from_run,
        "focus": focus,
        "hold_out": [name.strip() for name in hold_out.split(",")] if hold_out else None,
        "retain": retain,
        "max_forgetting": max_forgetting,
        "operating_point": operating_point,
        "folds": folds,
        "weights": "none" if from_scratch else None,
    }
    options = {key: value for key, value in named.items() if value is not None} | parse_assignments(set_ or [])
    given = merged(read_yaml(config) if config else {}, options)
    if resume and (out / "config.yaml").is_file():
        settings = resumed_settings(out / "config.yaml", given)
    else:
        settings = TrainSettings.checked(given, where="settings")
    if dry_run or find_rate:
        _rehearse(dataset, out, settings, dry=dry_run, skip_bad=skip_bad, as_json=as_json)
        return
    from imaging_ft.training.team import is_lead
    from imaging_ft.training.train import train as run_training

    summary = run_training(
        dataset, out, settings, skip_bad=skip_bad, overwrite=overwrite, resume=resume, track=progress(), say=say
    )
    if not is_lead():
        return
    if as_json:
        show_json(summary)
    elif "folds" in summary:
        _show_folds(out, summary)
    else:
        _show(out, summary)


def _show(out: Path, summary: dict[str, Any]) -> None:
    reached, judged = summary["validation"], summary["judged"]
    print(
        f"validation: balanced accuracy {reached['balanced_accuracy']:.3f}, accuracy {reached['accuracy']:.3f}"
        f" (n = {reached['n']}, epoch {summary['best_epoch']}); {summary['cost']['seconds']:.0f} s"
    )
    worst = judged["worst"]
    print(
        f"under conditions: balanced accuracy {judged['balanced_accuracy']:.3f},"
        f" worst {worst['balanced_accuracy']:.3f} ({worst['condition']})"
    )
    retained = summary["retained"]
    if retained:
        for split, fall in retained["forgetting"].items():
            before, after = (retained[when][split]["balanced_accuracy"] for when in ("before", "after"))
            print(f"retained {retained['dataset']} ({split}): {before:.3f} before, {after:.3f} after: {-fall:+.3f}")
    show_files([("run", out), ("summary", out / "summary.json"), ("history", out / "history.png")])
    print(f"next: imaging-ft export {out} -o model.onnx")


def _show_folds(out: Path, found: dict[str, Any]) -> None:
    for name, values in found["validation"].items():
        spread = f" ± {values['sd']:.3f}" if values["sd"] is not None else ""
        print(f"{name.replace('_', ' '):<18} {values['mean']:.3f}{spread}  (over {found['folds']} folds)")
    show_files([("folds", out / "folds.json")])
    print(f"each fold is a run: imaging-ft export {out / 'fold_1'} -o model.onnx")


def _rehearse(dataset: str, out: Path, settings: Any, *, dry: bool, skip_bad: bool, as_json: bool) -> None:
    from imaging_ft.training.rehearse import dry_run, rate_search

    if dry:
        found = dry_run(dataset, out, settings, skip_bad=skip_bad, track=progress(), say=say)
        if as_json:
            show_json(found)
            return
        print(
            f"one batch went through: {found['model']}, {found['batch'][0]} images of"
            f" {found['batch'][2]}×{found['batch'][3]}, loss {found['loss']:.3f}, {found['mode']}"
        )
        print(f"an epoch has {found['steps_an_epoch']} steps; {found['epochs']} epochs would follow")
        print(f"validation: {found['images']['val']} images clean, {found['images']['judged']} with conditions")
        show_files([("samples", Path(found["picture"]))])
        return
    search, plot = rate_search(dataset, out, settings, skip_bad=skip_bad, track=progress(), say=say)
    if as_json:
        show_json({"suggestion": search.suggestion, "diverged": search.diverged, "plot": str(plot)})
        return
    if search.suggestion is None:
        print(
            "the loss falls at no rate by more than its noise: the start is as good as it gets, or the data say little"
        )
    else:
        print(
            f"the loss falls fastest at a rate of {search.suggestion:.1e}: --set learning_rate={search.suggestion:.1e}"
        )
    show_files([("plot", plot)])
