"""`imaging-ft data`: the commands about data sets."""

import typer

from imaging_ft.cli import data_check, data_sample

app = typer.Typer(
    name="data", no_args_is_help=True, rich_markup_mode=None, help="Check a data set; write the sample data."
)

app.command()(data_check.check)
app.command()(data_sample.sample)
