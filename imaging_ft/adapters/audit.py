"""An append-only log of predictions that survives a kill at any moment, and shows whether anyone changed it.

Each line is a JSON object whose `chain` is the SHA-256 of the line before and of itself without it. A record is on disk
before its prediction is answered; records that come at once share one write and one fsync. What it can't show is that
whole records at the end were cut off: note the last chain elsewhere from time to time (`check_audit` prints it).
"""

import hashlib
import json
import logging
import os
import queue
import re
import threading
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from uuid import uuid4

from imaging_ft.config import reason
from imaging_ft.data.lock import held
from imaging_ft.errors import InputError, ServiceError
from imaging_ft.types import Json

SCHEMA = "imaging_ft.audit/1"
_TOGETHER = 1024
_LINE = re.compile(rb'(\{.+),"chain":"([0-9a-f]{64})"\}\n')
_HEAD = f'{{"schema":"{SCHEMA}","log":"'.encode()
_LOG = logging.getLogger("imaging_ft")


@dataclass(frozen=True)
class AuditCheck:
    """What a log's chain shows."""

    records: int
    first: str | None
    """Time of the first record, UTC."""
    last: str | None
    chain: str
    """Of the last line: note it elsewhere."""
    problems: tuple[str, ...]
    """Each in one line, with the number of the line; empty where the chain holds."""


@dataclass(frozen=True)
class _Read:
    """A log as it was read: what its whole lines show, and what lies after them."""

    check: AuditCheck
    lines: int
    size: int
    """Bytes of the whole lines."""
    torn: bytes
    """A last line without its end; empty where there is none."""


class AuditLog:
    """Writes records; one log for a file, on one machine."""

    def __init__(self, path: Path, descriptor: int, held_open: ExitStack, *, chain: str) -> None:
        self.path = path
        self._descriptor = descriptor
        self._held_open = held_open
        self._chain = chain
        self._size = os.fstat(descriptor).st_size
        self._half_written = False
        self._failing = False
        self._closed = False
        self._closing = threading.Lock()
        self._coming: queue.SimpleQueue[tuple[bytes, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> "AuditLog":
        """Return the log in a file, which is made if need be.

        A last line that a kill tore is moved to `<file>.torn`: its prediction was never answered. Raises InputError
        where the file can't be written, is no such log, doesn't hold what its chain says, or another process writes it;
        such a file is left as it is.
        """

        def refuse() -> NoReturn:
            raise InputError(f"{path}: another process writes this audit log; give each service its own")

        real = Path(os.path.realpath(path))  # under one name, whatever links lead there
        with ExitStack() as stack:
            stack.enter_context(held(real.with_name(f".{real.name}.lock"), waiting=refuse, remove=True))
            try:
                chain = _chain_to_follow(real)
                descriptor = os.open(real, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
                stack.callback(os.close, descriptor)
                if chain is None:
                    head = {"schema": SCHEMA, "log": uuid4().hex, "time": _now()}
                    line, chain = _chained(_body(head), "")
                    _write_through(descriptor, line)
                    _sync_folder(real.parent)
            except OSError as error:
                raise InputError(f"{path}: the audit log can't be written: {reason(error)}") from error
            return cls(real, descriptor, stack.pop_all(), chain=chain)

    def append(self, record: Json) -> "Future[None]":
        """Write a record, and return what is done once it is on disk.

        `time` and `chain` are added. The future fails with ServiceError where the disk refuses; the log then is as it
        was before. It can't be cancelled: what was predicted is recorded, also if nobody waits for it any more. Raises
        ServiceError once the log is closed, TypeError or ValueError where the record is no JSON.
        """
        body = _body({"time": _now(), **record})
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()
        with self._closing:
            if self._closed:
                raise ServiceError("the audit log is closed: the service is stopping")
            self._coming.put((body, future))
        return future

    def close(self) -> None:
        """Write what was given, and free the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._coming.put(None)
        self._thread.join()
        self._held_open.close()

    def _work(self) -> None:
        ended = False
        while not ended:
            items = [self._coming.get()]
            while len(items) < _TOGETHER and not self._coming.empty():
                items.append(self._coming.get())
            ended = None in items
            given = [item for item in items if item is not None]
            if given:
                self._write([body for body, _ in given], [future for _, future in given])

    def _write(self, bodies: list[bytes], futures: "list[Future[None]]") -> None:
        lines: list[bytes] = []
        chain = self._chain
        for body in bodies:
            line, chain = _chained(body, chain)
            lines.append(line)
        data = b"".join(lines)
        try:
            self._check_file()
            self._half_written = True
            _write_through(self._descriptor, data)
        except OSError as error:
            why = f"the audit log can't be written ({reason(error)}), so nothing is predicted"
            if not self._failing:  # told once, not for each request
                _LOG.error("%s: %s", self.path, why)
            self._failing = True
            with suppress(OSError):  # it is tried again before the next record
                self._cut()
            for future in futures:
                future.set_exception(ServiceError(why))
            return
        self._half_written = self._failing = False
        self._chain = chain
        self._size += len(data)
        for future in futures:
            future.set_result(None)

    def _check_file(self) -> None:
        """Raise OSError where the file isn't what this log left: it was moved, removed or written by others."""
        self._cut()
        own = os.fstat(self._descriptor)
        try:
            there = os.path.samestat(own, self.path.stat())
        except FileNotFoundError:
            there = False
        if not there:
            raise OSError(0, "its file was moved or removed; put it back, or start the service again")
        if own.st_size != self._size:
            raise OSError(0, "another program changed its file; check it, and start the service again")

    def _cut(self) -> None:
        """Take back what was written in part, so that the chain goes on from the last record that is whole."""
        if self._half_written:
            os.ftruncate(self._descriptor, self._size)
            self._half_written = False


def check_audit(path: Path) -> AuditCheck:
    """Return what the chain of a log shows: any line that was changed, removed, moved or put in.

    Raises InputError where the file can't be read, or is no such log.
    """
    try:
        found = _read(path)
    except OSError as error:
        raise InputError(f"{path}: can't be read: {reason(error)}") from error
    if not found.lines:
        raise InputError(f"{path}: no audit log of imaging_ft: it has no whole line")
    if not found.torn:
        return found.check
    torn = f"line {found.lines + 1} isn't whole: it is being written, or a kill tore it before its answer was given"
    return replace(found.check, problems=(*found.check.problems, torn))


def _read(path: Path) -> _Read:
    """Return what a file holds, which may be nothing yet; raises InputError where it is no audit log."""
    problems: list[str] = []
    chain, lines, size = "", 0, 0
    first = last = torn = b""
    with path.open("rb") as file:
        if not _HEAD.startswith(file.read(len(_HEAD))):
            raise InputError(f"{path}: no audit log of imaging_ft: it doesn't begin as one does ({SCHEMA})")
        file.seek(0)
        for line in file:
            if not line.endswith(b"\n"):
                torn = line
                break
            lines, size = lines + 1, size + len(line)
            parts = _LINE.fullmatch(line)
            if parts is None:
                problems.append(f"line {lines} is no record")
                continue
            body, own = parts[1] + b"}", parts[2].decode()
            if own != _link(body, chain):
                problems.append(f"line {lines} doesn't follow from the one before: one of them was changed, or moved")
            chain = own
            if lines > 1:
                first, last = first or line, line
    records = max(0, lines - 1)
    return _Read(AuditCheck(records, _time(first), _time(last), chain, tuple(problems)), lines, size, torn)


def _chain_to_follow(path: Path) -> str | None:
    """Return the chain of a log's last line, what is torn set aside; None where there is no line yet."""
    if not path.exists():
        return None
    if not path.is_file():
        raise InputError(f"{path}: an audit log is a file, and this is none")
    found = _read(path)
    if found.check.problems:
        raise InputError(f"{path}: not continued: {found.check.problems[0]}; move it away and keep it")
    if found.torn:
        _set_aside(path, found)
    return found.check.chain if found.lines else None


def _set_aside(path: Path, found: _Read) -> None:
    """Move a torn last line to a file of its own."""
    aside = path.with_name(f"{path.name}.torn")
    with aside.open("ab") as file:
        _write_through(file.fileno(), found.torn + b"\n")
    _sync_folder(path.parent)
    with path.open("r+b") as file:
        file.truncate(found.size)
        _sync(file.fileno())
    _LOG.warning(
        "%s: its last line was torn by a kill, before its prediction was answered; it lies in %s", path, aside.name
    )


def _body(record: Json) -> bytes:
    """Return a record as JSON; a name that isn't Unicode, as a file's may be, is escaped."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def _chained(body: bytes, before: str) -> tuple[bytes, str]:
    """Return a record's line, and its chain."""
    chain = _link(body, before)
    return body[:-1] + f',"chain":"{chain}"}}\n'.encode(), chain


def _link(body: bytes, before: str) -> str:
    return hashlib.sha256(before.encode() + b"\n" + body).hexdigest()


def _time(line: bytes) -> str | None:
    """Return when a record was written, where it says so."""
    try:
        return str(json.loads(line)["time"])
    except (ValueError, KeyError, RecursionError):
        return None


def _write_through(descriptor: int, data: bytes) -> None:
    """Write all of it, onto the disk."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]
    _sync(descriptor)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable; not every system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
