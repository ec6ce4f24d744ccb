"""A request's body, no larger than allowed, as it was sent and once it is unpacked; and in time."""

import asyncio
import time
import zlib

from starlette.requests import Request

from imaging_ft.adapters.settings import Limits

_TIMEOUT = "x-timeout-seconds"
_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class BodyError(Exception):
    """A body that isn't taken, with the HTTP status that says so."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


async def read_body(request: Request, limits: Limits) -> bytes:
    """Return a request's body, unpacked; raises BodyError where it is too large, too slow or damaged.

    What the client says of its length is a reason to refuse, never one to trust.
    """
    most = limits.body_bytes
    said = request.headers.get("content-length")
    if said is not None and said.isdecimal() and int(said) > most:
        raise _too_large(most)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", "", *_WINDOW}:
        raise BodyError(415, f"content-encoding {coding!r} is not read; send it plain, or by gzip or deflate")
    taken = _Unpacked(coding, most) if coding in _WINDOW else _Plain(most)
    more = True
    try:
        async with asyncio.timeout(limits.body_seconds):
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise BodyError(400, "the client left before its body was whole")
                taken.add(message.get("body", b""))
                more = message.get("more_body", False)
    except TimeoutError as error:
        raise BodyError(408, f"the body didn't arrive within {limits.body_seconds:g} s; send it again") from error
    return taken.whole()


def deadline_of(request: Request) -> float | None:
    """Return the deadline that a client asks for, by `X-Timeout-Seconds`; raises BodyError where that is no time."""
    asked = request.headers.get(_TIMEOUT)
    if asked is None:
        return None
    try:
        seconds = float(asked)
    except ValueError as error:
        raise BodyError(400, f"{_TIMEOUT}: {asked[:40]!r} is no number of seconds") from error
    if not 0 < seconds < 1e9:
        raise BodyError(400, f"{_TIMEOUT}: {asked[:40]!r} is no number of seconds above 0")
    return time.monotonic() + seconds


class _Plain:
    """A body as it is sent."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._sent = 0

    def add(self, part: bytes) -> None:
        """Take the next part; raises BodyError where that is too much."""
        self._sent += len(part)
        if self._sent > self._most:
            raise _too_large(self._most)
        self._keep(part)

    def whole(self) -> bytes:
        """Return the body; raises BodyError where it is not whole."""
        return b"".join(self._parts)

    def _keep(self, part: bytes) -> None:
        self._parts.append(part)


class _Unpacked(_Plain):
    """A body that is sent packed: neither as it is sent nor unpacked is it larger than allowed."""

    def __init__(self, coding: str, most: int) -> None:
        super().__init__(most)
        self._coding = coding
        self._unpacker = zlib.decompressobj(_WINDOW[coding])
        self._size = 0

    def whole(self) -> bytes:
        """Return the body; raises BodyError where it is not whole."""
        if not self._unpacker.eof:
            raise BodyError(400, f"the body's {self._coding} is cut short")
        return super().whole()

    def _keep(self, part: bytes) -> None:
        try:
            found = self._unpacker.decompress(part, self._most - self._size + 1)
        except zlib.error as error:
            raise BodyError(400, f"the body is no {self._coding}: {error}") from error
        self._size += len(found)
        if self._size > self._most or self._unpacker.unconsumed_tail:
            raise _too_large(self._most)
        if self._unpacker.unused_data:
            raise BodyError(400, f"the body goes on after its {self._coding} ends")
        super()._keep(found)


def _too_large(most: int) -> BodyError:
    return BodyError(413, f"the body is over {most / (1 << 20):g} MiB; send less at once")
