"""`imaging-ft models list`."""

from dataclasses import asdict
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, progress, show_json

_NAME = 40


def list_(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATTERN]",
            help="Part of a name, or with * and ?; searches all of timm and MONAI. Default: a curated list.",
            show_default=False,
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Only models whose weights need no network.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    r"""List backbones: parameters, input size, licence, and where the weights are.

    Weights: embedded (in a Python package), cached (on this machine), download (a network is needed once),
    none (from scratch, or give a file). The licence is the weights', as their publisher states it.

    \b
    Example:
      imaging-ft models list 'convnext*'
    """
    from imaging_ft.models.catalogue import list_models

    rows, total = list_models(pattern, offline=offline, limit=limit, track=progress())
    if as_json:
        show_json({"total": total, "models": [asdict(row) for row in rows]})
        return
    if not rows:
        print("no weights are at hand offline; imaging-ft models list shows where they come from")
        return
    print(f"{'model':<{_NAME}}{'M':>6}{'size':>6}  {'licence':<18}weights")
    for row in rows:
        name = row.name
        if len(name) >= _NAME:  # a name is never shortened: it's what one has to type
            print(name)
            name = ""
        licence = row.licence if len(row.licence) < 18 else f"{row.licence[:16]}…"
        print(f"{name:<{_NAME}}{row.parameters / 1e6:>6.1f}{row.input_size:>6}  {licence:<18}{row.weights}")
    if total > len(rows):
        print(f"… and {total - len(rows)} more: narrow the pattern, or --limit {total}")
