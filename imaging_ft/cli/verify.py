"""`imaging-ft verify`."""

import textwrap
from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import AsJson, show_json
from imaging_ft.cli.predict import DeviceOption, Model
from imaging_ft.inference import Device

_WIDTH = 80
_NAME = 14
_OUTCOME = 14


def verify(
    model: Model,
    public_key: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Also prove that this key's holder signed it.", show_default=False),
    ] = None,
    device: DeviceOption = Device.AUTO,
    as_json: AsJson = False,
) -> None:
    r"""Prove that a model file holds on this machine.

    It is as its checksum and its signature say, loads, gives the logits of its golden sample, alone as in a batch,
    and nothing that is no number. Exit code 1 where a check fails, 2 where the file can't be read.

    \b
    Example:
      imaging-ft verify model.onnx --public-key public.pem
    """
    from imaging_ft.inference.verify import verify as run_verification

    found = run_verification(model, device=device, public_key=public_key)
    if as_json:
        show_json(found.as_json())
    else:
        for check in found.checks:
            text = f"{check.name:<{_NAME}}{check.outcome:<{_OUTCOME}}{check.told}"
            print(textwrap.fill(text, _WIDTH, subsequent_indent=" " * (_NAME + _OUTCOME), break_on_hyphens=False))
    found.require()
    if not as_json:
        print(f"{'SHA-256':<{_NAME}}{found.sha256}")
        print(f"{model.name} holds on {found.device}")
