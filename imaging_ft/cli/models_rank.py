"""`imaging-ft models rank`."""

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from imaging_ft.cli.console import AsJson, Dataset, SkipBad, progress, show_json
from imaging_ft.cli.memory import keep_freed_memory

if TYPE_CHECKING:
    from imaging_ft.models.rank import Ranked, Ranking

_NAME = 40
_NEAR = 0.05


def rank(
    dataset: Dataset,
    models: Annotated[
        str | None,
        typer.Option(
            help="Candidates, separated by commas: NAME, or NAME=WEIGHTS (a file, a run folder, none). "
            "Default: all whose weights are at hand.",
            show_default=False,
        ),
    ] = None,
    size: Annotated[int, typer.Option(min=32, help="Height and width that the networks see.")] = 160,
    images: Annotated[int, typer.Option(min=50, help="Look at no more images than this.")] = 3000,
    download: Annotated[bool, typer.Option("--download", help="Fetch weights that are not at hand.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    split_seed: Annotated[int, typer.Option(help="Of the splits that the data doesn't declare.")] = 0,
    skip_bad: SkipBad = False,
    as_json: AsJson = False,
) -> None:
    r"""Score pretrained backbones on your own training images, without training.

    By grouped cross-validation of a linear probe on frozen features; LogME and nearest neighbours stand beside
    it. Random weights are the floor. Test images are never looked at.

    \b
    Example:
      imaging-ft models rank xray_objects --models resnet18,resnet50 --download
    """
    keep_freed_memory()
    from imaging_ft.models.rank import rank_models

    ranking = rank_models(
        dataset,
        models.split(",") if models else None,
        size=size,
        images=images,
        download=download,
        device=device,
        split_seed=split_seed,
        skip_bad=skip_bad,
        track=progress(),
    )
    if as_json:
        show_json(asdict(ranking))
        return
    print(_wrapped(f"{ranking.dataset}: {ranking.images} images, {ranking.groups} independent; {ranking.size} pixels"))
    print(f"{'model':<{_NAME}}{'probe':>14}{'LogME':>9}{'k-NN':>8}{'ms':>8}")
    for row in ranking.rows:
        _show(row)
    for name, why in ranking.left_out:
        print(_wrapped(f"left out: {name}: {why.removeprefix(f'{name}: ')}"))
    for line in _advice(ranking):
        print(_wrapped(line))
    weights = "" if ranking.take_weights == "pretrained" else f" --set weights={ranking.take_weights}"
    print(f"next: imaging-ft train {dataset} --model {ranking.take}{weights} --out runs/a")


def _show(row: "Ranked") -> None:
    name = row.name if row.weights in {"pretrained", "none"} else f"{row.name}={row.weights}"
    if row.weights == "none" and row.name != "random":
        name = f"{row.name}=none"
    if len(name) >= _NAME:
        print(name)
        name = ""
    probe = f"{row.probe:.3f} ± {row.spread:.3f}"
    print(f"{name:<{_NAME}}{probe:>14}{row.log_me:>9.3f}{row.neighbours:>8.3f}{row.milliseconds:>8.1f}")


def _advice(ranking: "Ranking") -> list[str]:
    lines: list[str] = []
    count = len(ranking.rows[0].folds)
    if ranking.note:
        lines.append(f"warning: {ranking.note}")
    lines.append(f"probe, k-NN: balanced accuracy (probe: mean ± standard deviation of {count} folds); ms: an image")
    if len(ranking.alike) > 1:
        others = ", ".join(name for name in ranking.alike if name != ranking.take)
        lines.append(f"alike: the difference between {ranking.take} and {others} lies within the spread over folds")
    best = next(row for row in ranking.rows if row.name != "random")
    floor = next(row for row in ranking.rows if row.name == "random")
    if not ranking.better_than_random:
        lines.append(
            "no model is clearly better than random weights on these images: more images, or weights from a nearer"
            " domain, would help more than the choice between these"
        )
    elif floor.probe > best.probe - _NEAR:
        lines.append(
            f"random weights reach {floor.probe:.3f}: these images are told apart by what any filter sees, and the"
            " scores say little about new ones"
        )
    return lines


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
