"""One file over HTTP: resumed where it broke off, checked, and renamed into place when it is whole."""

import hashlib
import http.client
import json
import random
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imaging_ft import __version__
from imaging_ft.config import reason
from imaging_ft.data.places import in_words
from imaging_ft.data.remote import LOOPBACK, Remote, refused_url
from imaging_ft.errors import DataError
from imaging_ft.types import Json

OnBytes = Callable[[str, int, int | None], None]
"""Told while a file arrives: its name, how many bytes are there, and how many there will be (None: not known)."""

_BLOCK = 1 << 18
_SPARE = 64 << 20
"""Bytes of disk that are left free."""
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class Patience:
    """How much is put up with from a bad connection."""

    attempts: int = 6
    """Broken connections in a row, none of which brought the file further."""
    timeout: float = 60.0
    """Seconds without a byte."""
    wait: float = 1.0
    """Seconds before the second attempt; doubled each time, up to a minute."""


class _Broken(Exception):  # noqa: N818 - not an error yet: it's tried again
    """The connection failed in a way that may pass."""

    def __init__(self, what: str, wait: float = 0.0) -> None:
        super().__init__(what)
        self.wait = wait


def no_bytes(name: str, have: int, total: int | None) -> None:
    """Show nothing."""


def fetch(remote: Remote, target: Path, *, patience: Patience | None = None, on_bytes: OnBytes = no_bytes) -> None:
    """Download a file to `target`; one that is there already is left as it is.

    What has arrived lies in `<target>.part`, also after this process was killed, and the next call goes on from
    there: with a Range request that holds only while the server's file is the same (If-Range), or from the start
    where the server sends the whole file anyway. Raises DataError, in one line, where the server refuses, where the
    connection keeps breaking, where the disk is full, and where the checksum is wrong (the file is then deleted).
    """
    if target.exists():
        return
    patience = patience or Patience()
    part = target.with_name(f"{target.name}.part")
    joined = _size(part) > 0
    try:
        _complete(remote, part, patience, on_bytes)
        why = wrong_checksum(remote, part)
        if why and joined:
            # The pieces may be of two versions of the file, where the server gave nothing to tell them apart by.
            _forget(part)
            _complete(remote, part, patience, on_bytes)
            why = wrong_checksum(remote, part)
        if why:
            page = _is_page(part)
            _forget(part)
            if page:
                raise DataError(
                    f"{remote.url}: sends a web page, not the file (a log-in, a notice?); open it in a browser, and"
                    " mend the card's url"
                )
            raise DataError(
                f"{remote.url}: {why}; the file was deleted. It was damaged on the way, or the publisher changed it:"
                " try again, and compare with the publisher's page"
            )
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target}: can't be written: {reason(error)}; what is there is kept") from error
    _state_path(part).unlink(missing_ok=True)


def wrong_checksum(remote: Remote, path: Path) -> str:
    """Return how a file's checksum differs from the card's, or an empty text."""
    algorithm, expected = remote.checksum
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    name = "SHA-256" if algorithm == "sha256" else "MD5"
    return "" if found == expected else f"the {name} of what arrived is {found}, but the card says {expected}"


def _is_page(path: Path) -> bool:
    """Return whether a file begins as an HTML page does."""
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _complete(remote: Remote, part: Path, patience: Patience, on_bytes: OnBytes) -> None:
    """Bring the part to its full length, over as many connections as it takes."""
    failures = 0
    best = _size(part)
    while True:
        try:
            _pull(remote, part, patience.timeout, on_bytes)
        except _Broken as broken:
            have = _size(part)
            failures = 1 if have > best else failures + 1
            best = max(best, have)
            if failures >= patience.attempts:
                kept = f"{have} bytes are kept, the same command goes on from there" if have else "try again later"
                raise DataError(f"{remote.url}: {broken}, {failures} times in a row; {kept}") from broken
            pause = max(broken.wait, patience.wait * 2 ** (failures - 1))
            time.sleep(min(pause, _LONGEST_WAIT) * random.uniform(0.5, 1.0))
        else:
            return


def _pull(remote: Remote, part: Path, timeout: float, on_bytes: OnBytes) -> None:
    """Get what is missing of the part over one connection."""
    have = _size(part)
    if remote.bytes is not None and have == remote.bytes:
        return
    if remote.bytes is not None and have > remote.bytes:
        _forget(part)
        have = 0
    response = _open(remote, part, have, timeout)
    if response is None:
        return
    with response:
        resumed = response.status == http.client.PARTIAL_CONTENT
        total = _total(remote, response, have if resumed else 0)
        _look_for_room(part, remote, (total or 0) - (have if resumed else 0))
        if not resumed:
            have = 0
            _remember(part, response, total)
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(have)
            file.truncate()
            while block := _read(response):
                file.write(block)
                have += len(block)
                if total is not None and have > total:
                    raise DataError(f"{remote.url}: sends more than the {total} bytes that are expected")
                on_bytes(remote.file_name, have, total)
    if total is not None and have < total:
        raise _Broken(f"the connection ended after {have} of {total} bytes")


def _open(remote: Remote, part: Path, have: int, timeout: float) -> http.client.HTTPResponse | None:
    """Return the server's answer, 200 or 206, or None where the part turns out to be whole already."""
    headers = {"User-Agent": f"imaging_ft/{__version__}", "Accept-Encoding": "identity"}
    state = _state(part)
    if have:
        headers["Range"] = f"bytes={have}-"
        if state.get("validator"):
            headers["If-Range"] = state["validator"]
    try:
        request = urllib.request.Request(remote.url, headers=headers)  # noqa: S310 - remote.refused_url has checked it
        response = _opener(remote.url).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                end = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
                if end and int(end.group(1)) == have:
                    return None
                _forget(part)
                raise _Broken("the server has another file than before") from error
            if error.code in _TRY_AGAIN:
                raise _Broken(f"the server says {error.code} {error.reason}", _retry_after(error)) from error
            raise DataError(
                f"{remote.url}: the server says {error.code} {error.reason}; look whether it moved"
            ) from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise DataError(f"{remote.url}: its certificate is not trusted: {cause.verify_message}") from error
        raise _Broken(f"no connection: {reason(cause) if isinstance(cause, BaseException) else cause}") from error
    if response.status == http.client.PARTIAL_CONTENT and _first_byte(response) != have:
        response.close()
        _forget(part)
        raise _Broken("the server sent another part of the file than was asked for")
    if response.status not in {http.client.OK, http.client.PARTIAL_CONTENT}:
        response.close()
        raise DataError(f"{remote.url}: the server says {response.status} {response.reason}")
    return response


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        what = "no byte came in time" if isinstance(error, TimeoutError) else f"the connection broke ({reason(error)})"
        raise _Broken(what) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but to no place that a card may not name itself."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        why = refused_url(newurl)
        if why:
            raise DataError(f"{req.full_url}: is redirected, but {why}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return an opener with the environment's proxies (https_proxy, no_proxy), but for this machine itself."""
    near = urlsplit(url).hostname in LOOPBACK
    return urllib.request.build_opener(urllib.request.ProxyHandler({} if near else None), _Redirects())


def _total(remote: Remote, response: http.client.HTTPResponse, start: int) -> int | None:
    """Return the whole file's size; raises DataError where it isn't the card's."""
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else None
    if remote.bytes is not None and total not in {None, remote.bytes}:
        raise DataError(
            f"{remote.url}: the server's file has {total} bytes, but the card says {remote.bytes}; the publisher may"
            " have changed it: compare with the publisher's page"
        )
    return remote.bytes if total is None else total


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match.group(1)) if match else None


def _look_for_room(part: Path, remote: Remote, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free - _SPARE
    if needed > free:
        raise DataError(
            f"{remote.url}: {in_words(needed)} are still to come, but {in_words(free)} are free in"
            f" {part.parent}; make room, or choose another disk with --into"
        )


def _retry_after(error: urllib.error.HTTPError) -> float:
    text = error.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _state(part: Path) -> Json:
    """Return what is known of the file that the part belongs to; nothing, where that can't be read."""
    try:
        state = json.loads(_state_path(part).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _remember(part: Path, response: http.client.HTTPResponse, total: int | None) -> None:
    """Keep what tells this version of the file from another; a weak ETag doesn't (RFC 9110, 13.1.5)."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")
    _state_path(part).write_text(json.dumps({"validator": validator, "bytes": total}) + "\n")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_path(part).unlink(missing_ok=True)
