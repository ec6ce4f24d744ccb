"""`imaging-ft serve`."""

import gc
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imaging_ft.cli.console import say
from imaging_ft.cli.predict import DeviceOption, PublicKey
from imaging_ft.errors import GateError, InputError
from imaging_ft.inference import Device

if TYPE_CHECKING:
    from imaging_ft.types import Json

_SHOWN = 5
"""Conditions on a model's card."""
_DECODERS = 16
"""Threads that decode at most: each may hold an image of the largest size, several times over."""


def serve(
    models: Annotated[
        list[Path] | None, typer.Argument(metavar="MODEL.onnx...", help="Exported models.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The name of one model.", show_default="the file's, without .onnx")
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; other hosts' need keys.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="For HTTP; 0: any that is free.")] = 8000,
    grpc_port: Annotated[int | None, typer.Option(min=0, max=65535, help="For gRPC.", show_default="no gRPC")] = None,
    device: DeviceOption = Device.AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of a batch.", show_default="one for each core")
    ] = None,
    report: Annotated[
        list[Path] | None,
        typer.Option(metavar="report.json", help="A model's report, for its card.", show_default=False),
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Record each prediction in it, chained.", show_default=False),
    ] = None,
    check_audit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only check such a record, and end.", show_default=False),
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys, one a line.", show_default="$IMAGING_FT_API_KEYS"),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE.pem", help="TLS certificate.", show_default=False)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Its key.", show_default=False)] = None,
    public_key: PublicKey = None,
    allow_load: Annotated[bool, typer.Option("--allow-load", help="Let clients load and unload models.")] = False,
    max_batch: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Images in a batch at most.", show_default="as the device likes it best"),
    ] = None,
    max_delay: Annotated[float, typer.Option(min=0, max=1000, help="Milliseconds that an image waits for others.")] = 2,
    max_queue: Annotated[int, typer.Option(min=1, help="Images that wait at most; more get 429.")] = 256,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests at once; more get 429.")] = 128,
    max_body: Annotated[int, typer.Option(min=1, help="MiB of a request, unpacked.")] = 32,
    max_pixels: Annotated[int, typer.Option(min=1, max=100, help="Megapixels of an image.")] = 50,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds to an answer; later is 504.")] = 60,
    drain: Annotated[float, typer.Option(min=0.01, help="Seconds to answer what waits on SIGTERM.")] = 30,
) -> None:
    r"""Serve models over HTTP and gRPC, with a page to try them.

    The Open Inference Protocol v2, so that the clients of Triton and KServe work unchanged; /v1/predict takes image
    files. Ctrl-C or SIGTERM answers what was accepted, and ends. Needs the serve extra.

    \b
    Example:
      imaging-ft serve model.onnx
      curl -F image=@scan.png http://127.0.0.1:8000/v1/predict
    """
    if check_audit is not None:
        _check(check_audit)
        return
    if not models:
        raise InputError("serve: MODEL.onnx is missing; name the files to serve")
    if name is not None and len(models) > 1:
        raise InputError("serve: --name is for one model; more than one are named by their files")
    names = [name or path.stem for path in models]
    if len(set(names)) < len(names):
        raise InputError(f"serve: two files are both named {max(names, key=names.count)!r}; rename one")
    try:
        from imaging_ft.adapters.auth import Keys
        from imaging_ft.adapters.server import Address
        from imaging_ft.adapters.server import serve as run
        from imaging_ft.adapters.service import Service
        from imaging_ft.adapters.settings import Limits
    except ModuleNotFoundError as error:
        raise InputError(f"serve: {error.name} isn't installed: pip install 'imaging-ft[serve]'") from error
    from imaging_ft.adapters.audit import AuditLog
    from imaging_ft.inference.models import Models
    from imaging_ft.inference.providers import usable_cores
    from imaging_ft.inference.runner import Runner

    address = Address(host, port, grpc_port, tls_cert, tls_key, Keys.read(api_keys))
    address.check()
    limits = Limits(
        body_bytes=max_body << 20,
        pixels=max_pixels * 1_000_000,
        requests=max_requests,
        answer_seconds=timeout,
        drain_seconds=drain,
        decoders=min(max(usable_cores() or os.cpu_count() or 1, 2), _DECODERS),
    )
    served = Models(
        # Threads that wait sleep: the cores are for those that decode.
        lambda path: Runner.open(path, device=device, threads=threads, public_key=public_key, spinning=False),
        max_batch=max_batch,
        max_delay=max_delay / 1000,
        max_queue=max(max_queue, max_batch or 1),
    )
    # Libraries stay: looking through all their objects for garbage now and then would hold up requests for 0.1 s.
    gc.freeze()
    for each, path in zip(names, models, strict=True):
        served.load(path, name=each)
    log = AuditLog.open(audit) if audit is not None else None
    service = Service(served, limits, audit=log, reports=dict(map(_worst, report or [])))

    def ready(http: int, grpc: int | None) -> None:
        scheme = "http" if tls_cert is None else "https"
        on = served.get(names[0]).runner.device
        beside = f", gRPC on port {grpc}" if grpc is not None else ""
        where = f"[{host}]" if ":" in host else host
        say(f"serving {', '.join(names)} on {on}: {scheme}://{where}:{http}{beside}")

    run(service, address, allow_load=allow_load, ready=ready)


def _check(path: Path) -> None:
    from imaging_ft.adapters.audit import check_audit

    found = check_audit(path)
    for problem in found.problems:
        say(f"{path}: {problem}")
    span = f", from {found.first} to {found.last}" if found.records else ""
    print(f"{found.records} predictions{span}")
    print(f"last chain  {found.chain}")
    if found.problems:
        raise GateError(f"{path}: not as it was written: {len(found.problems)} problems")


def _worst(path: Path) -> "tuple[str, Json]":
    """Return a report's model by its SHA-256, and what the card shows: clean, and its worst conditions."""
    from imaging_ft.config import reason

    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in values["cells"] if cell["source"] == "synthetic" and "accuracy" in cell["metrics"]]
        cells.sort(key=lambda cell: cell["metrics"]["accuracy"]["value"])
        worst = [{"conditions": cell["conditions"], "n": cell["n"], **cell["metrics"]["accuracy"]} for cell in cells]
        clean = values["overall"]["metrics"].get("accuracy")
        return values["model"]["sha256"], {
            "dataset": values["dataset"]["name"],
            "clean": clean,
            "n": values["overall"]["n"],
            "worst": worst[:_SHOWN],
        }
    except OSError as error:
        raise InputError(f"{path}: can't be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no report.json of imaging-ft report") from error
