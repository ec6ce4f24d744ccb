"""The service as a process: sockets, logs, signals; it stops once what it accepted is answered."""

import asyncio
import signal
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from imaging_ft.adapters.application import create_app
from imaging_ft.adapters.auth import Keys
from imaging_ft.adapters.gate import LOG, Gate
from imaging_ft.adapters.logs import Fields, logged_as_json
from imaging_ft.adapters.service import Service
from imaging_ft.adapters.wire import Wire
from imaging_ft.config import reason
from imaging_ft.errors import InputError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_KEEP_ALIVE = 20
Ready = Callable[[int, int | None], None]
"""Is given the ports, HTTP's and gRPC's, once a service listens."""


@dataclass(frozen=True)
class Address:
    """Where a service listens, and who may ask."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    """None: no gRPC."""
    certificate: Path | None = None
    """PEM; with its key, TLS for HTTP and gRPC."""
    private_key: Path | None = None
    keys: Keys = Keys()  # noqa: RUF009 - it is never changed

    def check(self) -> None:
        """Raise InputError where it would be open to a network without a key, or TLS lacks a half."""
        if (self.certificate is None) != (self.private_key is None):
            raise InputError("--tls-cert and --tls-key belong together; give both or none")
        if self.host not in _LOOPBACK and not self.keys:
            raise InputError(
                f"--host {self.host}: open to a network, but without API keys anyone there could ask; give --api-keys"
                " FILE, or leave --host out"
            )
        if self.certificate is not None and self.private_key is not None:
            try:
                ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.private_key)
            except (OSError, ssl.SSLError) as error:
                raise InputError(
                    f"{self.certificate}, {self.private_key}: no TLS certificate and its key: {reason(error)}"
                ) from error


def serve(
    service: Service,
    address: Address,
    *,
    allow_load: bool = False,
    ready: Ready = lambda *_: None,
) -> None:
    """Answer until a signal says to stop, then answer what was accepted, and return.

    `ready` is given the ports once it listens. SIGTERM and SIGINT drain; a second one ends at once. Raises InputError
    where a port is taken, and as `Address.check`.
    """
    address.check()
    app = create_app(service, keys=address.keys, allow_load=allow_load)
    try:
        with logged_as_json(sys.stderr):
            asyncio.run(_serve(app, service, address, allow_load=allow_load, ready=ready))
    finally:
        service.close()


async def _serve(app: Gate, service: Service, address: Address, *, allow_load: bool, ready: Ready) -> None:
    wire: Any = partial(Wire, limits=service.limits, metrics=service.metrics)
    config = uvicorn.Config(
        app,
        http=wire,
        ws="none",
        proxy_headers=False,
        host=address.host,
        port=address.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(service.limits.drain_seconds) + 1,
        backlog=1024,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.private_key,
    )
    http = _Http(config)
    sockets = [_bound(config)]
    port = sockets[0].getsockname()[1]
    beside = None
    grpc_port = None
    if address.grpc_port is not None:
        from imaging_ft.adapters.grpc_server import GrpcServer

        beside = await GrpcServer.start(service, address, allow_load=allow_load)
        grpc_port = beside.port
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(*_: object) -> None:
        if stopping.is_set():
            http.force_exit = True
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except (NotImplementedError, RuntimeError):  # Windows, or a thread that isn't the first
            _plainly(number, lambda: loop.call_soon_threadsafe(stop))
    task = asyncio.create_task(http.serve(sockets))
    while not http.started and not task.done():
        await asyncio.sleep(0.01)
    ready(port, grpc_port)
    await asyncio.wait([task, asyncio.create_task(stopping.wait())], return_when=asyncio.FIRST_COMPLETED)
    await _drain(service, http, beside)
    await task


async def _drain(service: Service, http: "_Http", beside: Any) -> None:
    """Take no more, and wait until what was accepted is answered.

    HTTP listens until then: who still asks gets a 503 and can ask another, where a closed socket would cut them off.
    """
    LOG.info(Fields({"message": "stopping: answering what was accepted", "requests": service.inside}))
    service.stopping = True
    seconds = service.limits.drain_seconds
    now = asyncio.get_running_loop().time
    end = now() + seconds
    ending = asyncio.create_task(beside.stop(seconds)) if beside is not None else None
    while (service.inside or (ending is not None and not ending.done())) and now() < end and not http.force_exit:
        await asyncio.sleep(0.02)
    if service.inside:
        LOG.warning(Fields({"message": "ending before all was answered", "requests": service.inside}))
    if beside is not None and http.force_exit:
        await beside.stop(0)
    elif ending is not None:
        await ending
    http.should_exit = True
    await asyncio.to_thread(service.models.drain, 0 if http.force_exit else max(0.0, end - now()))


class _Http(uvicorn.Server):
    """uvicorn, but for its signals: these are the whole service's."""

    def install_signal_handlers(self) -> None:
        """Leave signals alone."""

    def capture_signals(self) -> Any:
        """Leave signals alone."""
        from contextlib import nullcontext

        return nullcontext()


def _bound(config: uvicorn.Config) -> Any:
    """Return the listening socket; raises InputError where its address can't be had."""
    import socket

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle on: 40 ms for each answer of two packets.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((config.host, config.port))
    except OSError as error:
        made.close()
        raise InputError(
            f"{config.host}:{config.port}: can't listen there: {reason(error)}; choose another --port"
        ) from error
    made.set_inheritable(True)
    return made


def _plainly(number: int, stop: Callable[[], object]) -> None:
    def handle(_number: int, _frame: FrameType | None) -> None:
        stop()

    try:
        signal.signal(number, handle)
    except ValueError:  # not the first thread: whoever started it stops it
        return
