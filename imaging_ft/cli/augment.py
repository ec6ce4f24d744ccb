"""`imaging-ft augment`: contact sheets of recipes and of condition suites."""

from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import progress, say, show_files

app = typer.Typer(
    name="augment",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at what recipes and conditions do to images.",
)

Out = Annotated[Path, typer.Option("--out", "-o", help="The PNG file to write.", show_default=False)]


@app.command()
def sheet(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name or YAML file.", show_default=False)],
    images: Annotated[
        str,
        typer.Argument(metavar="IMAGE_OR_DATASET", help="An image file, or any DATASET.", show_default=False),
    ],
    out: Out,
    count: Annotated[int, typer.Option(min=1, max=500, help="How many augmented samples to show.")] = 24,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the network's input.")] = 224,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
) -> None:
    r"""Show training images as a recipe makes them: one picture.

    \b
    Example:
      imaging-ft augment sheet baggage_xray xray_objects -o sheet.png
    """
    from imaging_ft.augment.look import images_for
    from imaging_ft.augment.recipe import load_recipe
    from imaging_ft.augment.sheet import VARIANTS, recipe_sheet, write_sheet

    loaded = load_recipe(recipe)
    found = images_for(images, size=size, rows=-(-count // VARIANTS), seed=seed, track=progress())
    if loaded.lays_clutter and not len(found.clutter):
        say(
            f"warning: recipe {loaded.name} lays no clutter here: it takes a data set whose card names positive classes"
        )
    title = f"{loaded.name}: {loaded.title}"
    write_sheet(recipe_sheet(title, loaded.build(found.clutter), found.images, count=count, seed=seed), out)
    show_files([("sheet", out)])


@app.command()
def conditions(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="A condition suite's name or YAML file.", show_default=False)
    ],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.", show_default=False)],
    out: Out,
) -> None:
    r"""Show one image under every condition of a suite, at every severity: one picture.

    \b
    Example:
      imaging-ft augment conditions camera photo.jpg -o sheet.png
    """
    from imaging_ft.augment.conditions import load_suite
    from imaging_ft.augment.look import range_of
    from imaging_ft.augment.sheet import condition_sheet, write_sheet
    from imaging_ft.image import read_image

    loaded, pixels = load_suite(suite), read_image(image)
    write_sheet(condition_sheet(loaded, pixels, sample_id=image.name, window=range_of(pixels)), out)
    show_files([("sheet", out)])
