"""`imaging-ft data`: the commands about data sets."""

import typer

from imaging_ft.cli import data_check, data_get, data_sample

app = typer.Typer(
    name="data", no_args_is_help=True, rich_markup_mode=None, help="Get and check data sets; write the sample data."
)

app.command()(data_check.check)
app.command()(data_get.get)
app.command()(data_sample.sample)
