"""`imaging-ft data get`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imaging_ft.cli.console import progress, say

if TYPE_CHECKING:
    from imaging_ft.data.fetch import OnBytes
    from imaging_ft.data.get import Plan


def get(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="A built-in card, NAME@VARIANT, or a card (.yaml).", show_default=False),
    ],
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder that receives NAME/. Else $IMAGING_FT_DATA, else ~/.local/share/imaging_ft.",
            show_default=False,
        ),
    ] = None,
) -> None:
    r"""Download the images that a card names; what is there already is not downloaded again.

    Checked by checksum, unpacked safely, and taken up where a broken or stopped download left off. Where the
    publisher wants to be asked first, it says how to get the images.

    \b
    Example:
      imaging-ft data get pneumonia_mnist
      imaging-ft data get pneumonia_mnist@224 --into /data
    """
    from imaging_ft.data.get import get as get_data
    from imaging_ft.data.get import plan_get

    plan = plan_get(name, into=into)
    if plan.there:
        say(f"{plan.card.name}: already there")
    else:
        _announce(plan)
    with _bytes_bar() as on_bytes:
        root = get_data(
            plan,
            on_bytes=on_bytes,
            track=progress(),
            waiting=lambda: say(f"{plan.card.name}: another process is downloading it; waiting for it"),
        )
    print(root)
    where = "" if plan.is_found else f"IMAGING_FT_DATA={root.parent} "
    say(f"next: {where}imaging-ft data check {name}")


def _announce(plan: "Plan") -> None:
    """Say what is about to be downloaded, under which licence, before it starts."""
    from imaging_ft.data.places import in_words

    card = plan.card
    size = "size not published" if plan.bytes is None else in_words(plan.bytes)
    files = "1 file" if len(card.download) == 1 else f"{len(card.download)} files"
    say(f"{card.name}: {card.title or card.name} ({files}, {size}) into {plan.root}")
    for what, text in (("source", card.source), ("licence", card.licence), ("citation", card.citation)):
        if text:
            say(f"{what}: {' '.join(text.split())}")


@contextmanager
def _bytes_bar() -> "Iterator[OnBytes]":
    """Give a function that shows bytes arriving, on a terminal; elsewhere it shows nothing."""
    from imaging_ft.data.fetch import no_bytes

    if not sys.stderr.isatty():
        yield no_bytes
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, TimeRemainingColumn(compact=True), console=Console(stderr=True), transient=True)
    tasks: dict[str, TaskID] = {}

    def show(name: str, have: int, total: int | None) -> None:
        if name not in tasks:
            bar.start()
            tasks[name] = bar.add_task(f"downloading {name}", total=total)
        bar.update(tasks[name], completed=have, total=total)
        if have == total:  # unpacking draws a bar of its own
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()
