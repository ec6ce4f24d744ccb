"""A request's body, no larger than allowed, as it was sent and once it is unpacked; and in time."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

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
    parts: list[bytes] = []
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in _plain(request.stream(), coding, most):
                parts.append(part)
    except TimeoutError as error:
        raise BodyError(408, f"the body didn't arrive within {limits.body_seconds:g} s; send it again") from error
    except ClientDisconnect as error:
        raise BodyError(400, "the client left before its body was whole") from error
    return b"".join(parts)


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


async def _plain(coming: AsyncIterator[bytes], coding: str, most: int) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(_WINDOW[coding]) if coding in _WINDOW else None
    sent = size = 0
    async for part in coming:
        sent += len(part)
        if sent > most:
            raise _too_large(most)
        if unpacker is None:
            yield part
            continue
        try:
            found = unpacker.decompress(part, most - size + 1)
        except zlib.error as error:
            raise BodyError(400, f"the body is no {coding}: {error}") from error
        size += len(found)
        if size > most or unpacker.unconsumed_tail:
            raise _too_large(most)
        if unpacker.unused_data:
            raise BodyError(400, f"the body goes on after its {coding} ends")
        yield found
    if unpacker is not None and not unpacker.eof:
        raise BodyError(400, f"the body's {coding} is cut short")


def _too_large(most: int) -> BodyError:
    return BodyError(413, f"the body is over {most / (1 << 20):g} MiB; send less at once")
