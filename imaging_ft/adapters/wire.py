"""A connection of HTTP: heads of bounded size, in time; and errors that reach clients which are still sending."""

import asyncio
import json
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from imaging_ft.adapters.metrics import Metrics
from imaging_ft.adapters.settings import Limits

_CONNECTIONS = 4
"""Connections for each request that may be answered at once: most are idle."""


class Wire(HttpToolsProtocol):
    """uvicorn's protocol, which by itself waits for ever for a head, however long that gets.

    It also forgets the time-out of a connection once a body goes on after its answer. Here the rest of a body that was
    refused is read and thrown away for a while: closing at once would reset the connection, and lose the answer.
    """

    def __init__(self, config: uvicorn.Config, limits: Limits, metrics: Metrics, **more: Any) -> None:
        super().__init__(config, **more)
        self._limits = limits
        self._metrics = metrics
        self._head = 0
        self._in_head = True
        self._body_began = False
        self._ending = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a head, but not for ever; refuse a connection too many."""
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS * self._limits.requests:
            self._refuse(429, "too many connections are open already; try again")
            return
        self._wait(self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._wait(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; raises nothing, but closes where a head gets too long."""
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head += len(data)
        super().data_received(data)
        if self.transport.is_closing() or not self._in_head:
            return
        if self._head > self._limits.head_bytes:
            self._refuse(431, f"the request's head is over {self._limits.head_bytes} bytes")
        elif self._head and self._timer is None:
            self._wait(self._late)

    def on_headers_complete(self) -> None:
        """Take a head, and wait for its body, which whoever reads it limits."""
        self._in_head = False
        self._body_began = False
        self._wait(None)
        super().on_headers_complete()
        self.cycle.transport = _Transport(self)  # type: ignore[assignment] - all that a cycle calls of it

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._body_began = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Wait for the next head."""
        super().on_message_complete()
        self._in_head = True
        self._head = 0
        self._wait(None)
        if self._ending:
            self.transport.close()
        elif self.cycle.response_complete and not self.transport.is_closing():
            idle = self.timeout_keep_alive
            self.timeout_keep_alive_task = self.loop.call_later(idle, self.timeout_keep_alive_handler)

    def on_response_complete(self) -> None:
        """Throw away what still comes of a body that was refused, for as long as a body may take."""
        if self._ending:
            return
        super().on_response_complete()
        if not self._in_head and self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self._throw_away()

    def end(self) -> None:
        """Close once the client has sent all it wants to, or after a while."""
        if self._in_head:
            self.transport.close()
            return
        self._ending = True
        self.flow.resume_reading()
        self._throw_away()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP as everything else is: in JSON."""
        self._refuse(400, msg)

    def _throw_away(self) -> None:
        if self.expect_100_continue and not self._body_began:
            self.transport.close()  # a client that waits to be asked for its body won't send it now
        else:
            self._wait(self.transport.close)

    def _late(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait(self._late)  # part of the next request came while this one is answered
        elif self._head:
            self._refuse(408, f"the request's head didn't arrive within {self._limits.body_seconds:g} s; send it again")
        else:
            self.transport.close()

    def _wait(self, then: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if then is None else self.loop.call_later(self._limits.body_seconds, then)

    def _refuse(self, code: int, message: str) -> None:
        self._metrics.requests.labels("http", str(code)).inc()
        body = json.dumps({"error": message}).encode()
        head = f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        more = "retry-after: 1\r\n" if code == 429 else ""
        self.transport.write(f"{head}{more}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()


class _Transport:
    """A transport as one request sees it: to close it is to end the connection well."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.write = wire.transport.write
        self.is_closing = wire.transport.is_closing

    def close(self) -> None:
        """End the connection."""
        self._wire.end()
