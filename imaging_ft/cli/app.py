"""Assembles the commands, and turns every failure into one line and an exit code."""

import os
import sys
from typing import Annotated, Any

import typer

from imaging_ft import __version__
from imaging_ft.cli import (
    augment,
    bench,
    compare,
    data,
    demo,
    doctor,
    export,
    inspect,
    models,
    predict,
    report,
    serve,
    sign,
    train,
    verify,
)
from imaging_ft.cli.console import fail
from imaging_ft.errors import ImagingFtError, InputError

DEBUG = "--debug"
BUILD_TOWER = {"albumentations", "lightning_fabric", "monai", "safetensors", "timm", "torch", "torchvision"}
INTERNAL_ERROR = 70

app = typer.Typer(
    name="imaging-ft",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"imaging_ft {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show a traceback where something fails.")] = False,
) -> None:
    r"""Fine-tune a pretrained CNN for one imaging task, prove it condition by condition, ship one ONNX file.

    The way from images to an embedded model:

    \b
      imaging-ft data check my_images/
      imaging-ft train my_images/ --out runs/a
      imaging-ft export runs/a -o model.onnx
      imaging-ft report model.onnx my_images/ --out runs/a/report
      imaging-ft predict model.onnx new_images/ -o predictions.csv

    Exit codes: 0 done; 1 a gate failed (parity, accuracy); 2 the input or the command is wrong; 3 too little
    evidence to judge a gate; 70 an error of ours; 130 broken off.
    """


app.command()(demo.demo)
app.command()(doctor.doctor)
app.add_typer(data.app)
app.add_typer(augment.app)
app.add_typer(models.app)
app.command()(train.train)
app.command()(export.export)
app.command()(inspect.inspect)
app.command()(verify.verify)
app.command()(sign.sign)
app.command()(predict.predict)
app.command()(serve.serve)
app.command()(bench.bench)
app.command()(report.report)
app.command()(compare.compare)


def command() -> Any:
    """Return the whole command line, as `main` runs it."""
    root = typer.main.get_command(app)
    _keep_blocks(root)
    return root


def _keep_blocks(command: Any) -> None:
    r"""Let a `\b` in a docstring, which is raw text there, keep the lines after it from being rewrapped."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")
    for inner in getattr(command, "commands", {}).values():
        _keep_blocks(inner)


def main() -> None:
    """Run the command line."""
    # --debug may stand anywhere: who adds it has just seen a command fail, and types it at the end.
    debug = DEBUG in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != DEBUG]
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    stdout = sys.stdout
    try:
        try:
            command()(args=arguments, prog_name="imaging-ft")
        finally:
            sys.stdout.flush()
            if sys.stdout is not stdout:  # typer's stand-in where the reader has gone; its exit code 1 is a gate's
                raise BrokenPipeError
    except ImagingFtError as error:
        if debug:
            raise
        fail(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        fail("stopped")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # the last line of defence: a traceback is for developers
        if debug:
            raise
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] in BUILD_TOWER:
            fail(f"{error.name} is not installed; training and export need it: pip install 'imaging-ft[train]'")
            sys.exit(InputError.exit_code)
        fail(f"internal error: {type(error).__name__}: {error}; run it again with {DEBUG} and report what it shows")
        sys.exit(INTERNAL_ERROR)
