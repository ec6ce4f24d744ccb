"""`imaging-ft data sample`."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import show_files


def sample(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it.", show_default=False)],
) -> None:
    r"""Write the sample data again, byte for byte: synthetic radiographs of baggage and of chests.

    \b
    Example:
      imaging-ft data sample sample_data
    """
    from imaging_ft.data.sample import write_samples

    write_samples(directory)
    show_files([("baggage", directory / "baggage" / "manifest.csv"), ("chest", directory / "chest" / "manifest.csv")])
