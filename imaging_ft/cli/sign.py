"""`imaging-ft sign`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from imaging_ft.cli.console import show_files
from imaging_ft.cli.predict import Model
from imaging_ft.errors import InputError


def sign(
    model: Model,
    key: Annotated[
        Path,
        typer.Option(
            metavar="PRIVATE.pem", help="The private key: elliptic, P-256, P-384 or P-521.", show_default=False
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.sig", help="The signature.", show_default="MODEL.onnx.sig"),
    ] = None,
    password_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE", help="The environment variable that holds the key's password.", show_default=False
        ),
    ] = None,
) -> None:
    r"""Sign a model file: MODEL.onnx.sig beside it proves that the key's holder released it.

    In the format of OpenSSF Model Signing. Needs the sign extra.

    \b
    Example:
      imaging-ft sign model.onnx --key private.pem
    """
    from imaging_ft.inference.signature import sign_model

    password = None if password_env is None else os.environ.get(password_env)
    if password_env is not None and not password:
        raise InputError(f"--password-env {password_env}: no such environment variable, or it is empty; set it first")
    signature = sign_model(model, key, out=out, password=password)
    show_files([("model", model), ("signature", signature)])
    print(f"next: imaging-ft verify {model} --public-key PUBLIC.pem")
