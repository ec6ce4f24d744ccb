"""The Open Inference Protocol over gRPC, beside HTTP in one process and over the same service."""

import asyncio
import time
from typing import TYPE_CHECKING

import grpc
from grpc import aio

from imaging_ft.adapters.grpc_calls import Calls
from imaging_ft.adapters.service import Service
from imaging_ft.config import reason
from imaging_ft.errors import InputError

if TYPE_CHECKING:
    from imaging_ft.adapters.server import Address

_SECOND = 1000


class GrpcServer:
    """A gRPC server that runs in the event loop that it was started in."""

    def __init__(self, server: aio.Server, calls: Calls, port: int) -> None:
        self.port = port
        """Where it listens."""
        self._server = server
        self._calls = calls

    @classmethod
    async def start(cls, service: Service, address: "Address", *, allow_load: bool = False) -> "GrpcServer":
        """Listen at an address's gRPC port, and return the server; raises InputError where that can't be had."""
        calls = Calls(service, address.keys, allow_load=allow_load)
        server = aio.server(
            handlers=[calls],
            options=[
                ("grpc.max_receive_message_length", service.limits.body_bytes),  # as it is sent, and once unpacked
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),  # two services on one port would take each other's calls
                ("grpc.keepalive_time_ms", 60 * _SECOND),
                ("grpc.keepalive_timeout_ms", 20 * _SECOND),
            ],
        )
        host = f"[{address.host}]" if ":" in address.host else address.host
        where = f"{host}:{address.grpc_port or 0}"
        try:
            if address.certificate is not None and address.private_key is not None:
                pair = (address.private_key.read_bytes(), address.certificate.read_bytes())
                port = server.add_secure_port(where, grpc.ssl_server_credentials([pair]))
            else:
                port = server.add_insecure_port(where)
        except (OSError, RuntimeError) as error:
            why = reason(error) if isinstance(error, OSError) else "taken, or not this machine's"
            raise InputError(f"{where}: can't listen there for gRPC: {why}; choose another --grpc-port") from error
        await server.start()
        return cls(server, calls, port)

    async def stop(self, seconds: float) -> None:
        """Take no more calls, and return once those under way are answered, or after so many seconds.

        It listens until then: who still calls is told UNAVAILABLE, and not cut off.
        """
        self._calls.stopping.set()
        end = time.monotonic() + seconds
        while self._calls.under_way and time.monotonic() < end:
            await asyncio.sleep(0.02)
        await self._server.stop(max(0.0, end - time.monotonic()))
