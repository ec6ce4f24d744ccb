"""`imaging-ft models`: the commands about pretrained backbones."""

import typer

from imaging_ft.cli import models_list, models_rank

app = typer.Typer(
    name="models",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List pretrained backbones; rank them on your data.",
)

app.command("list")(models_list.list_)
app.command()(models_rank.rank)
