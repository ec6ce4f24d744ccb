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
import threading
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from imaging_ft.config import reason
from imaging_ft.data.lock import held
from imaging_ft.errors import InputError, ServiceError
from imaging_ft.types import Json

SCHEMA = "imaging_ft.audit/1"
_CHAIN = "chain"
_TOGETHER = 1024
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


class AuditLog:
    """Writes records; one log for a file, on one machine."""

    def __init__(self, path: Path, file: BinaryIO, lock: ExitStack, chain: str) -> None:
        self.path = path
        self._file = file
        self._lock = lock
        self._chain = chain
        self._size = file.seek(0, os.SEEK_END)
        self._coming: queue.SimpleQueue[tuple[Json, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="audit", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> "AuditLog":
        """Return the log in a file, which is made if need be.

        A last line that a kill tore is moved to `<file>.torn`: its prediction was never answered. Raises InputError
        where the file can't be written, is no such log, doesn't hold what its chain says, or another process writes it.
        """

        def refuse() -> None:
            raise InputError(f"{path}: another process writes this audit log; give each service its own")

        lock = ExitStack()
        lock.enter_context(held(path.with_name(f".{path.name}.lock"), waiting=refuse, remove=True))
        try:
            new = not path.exists() or path.stat().st_size == 0
            if not new:
                _set_torn_aside(path)
            check = check_audit(path) if not new and path.stat().st_size else None
            if check is not None and check.problems:
                raise InputError(f"{path}: not continued: {check.problems[0]}; move it away and keep it")
            file = path.open("ab")
            if check is None:
                head = {"schema": SCHEMA, "log": uuid4().hex, "time": _now()}
                line, chain = _chained(head, "")
                file.write(line)
                _sync(file)
                _sync_folder(path.parent)
            else:
                chain = check.chain
        except OSError as error:
            lock.close()
            raise InputError(f"{path}: the audit log can't be written: {reason(error)}") from error
        except BaseException:
            lock.close()
            raise
        return cls(path, file, lock, chain)

    def append(self, record: Json) -> "Future[None]":
        """Write a record, and return what is done once it is on disk.

        `time` and `chain` are added. The future fails with ServiceError where the disk refuses; the log then is as it
        was before.
        """
        future: Future[None] = Future()
        self._coming.put(({"time": _now(), **record}, future))
        return future

    def close(self) -> None:
        """Write what was given, and free the file."""
        self._coming.put(None)
        self._thread.join()
        self._file.close()
        self._lock.close()

    def _work(self) -> None:
        ended = False
        while not ended:
            items = [self._coming.get()]
            while len(items) < _TOGETHER and not self._coming.empty():
                items.append(self._coming.get())
            ended = None in items
            self._write([item for item in items if item is not None])

    def _write(self, items: "list[tuple[Json, Future[None]]]") -> None:
        if not items:
            return
        lines: list[bytes] = []
        chain = self._chain
        for record, _ in items:
            line, chain = _chained(record, chain)
            lines.append(line)
        try:
            self._file.write(b"".join(lines))
            _sync(self._file)
        except OSError as error:
            self._undo()
            for _, future in items:
                future.set_exception(
                    ServiceError(f"the audit log can't be written ({reason(error)}), so nothing is predicted")
                )
            return
        self._chain = chain
        self._size += sum(map(len, lines))
        for _, future in items:
            future.set_result(None)

    def _undo(self) -> None:
        """Take back what was written in part, so that the chain goes on from the last record that is whole."""
        try:
            self._file.close()
        except OSError as error:
            _LOG.error("%s: %s", self.path, reason(error))
        with self.path.open("r+b") as file:
            file.truncate(self._size)
        self._file = self.path.open("ab")


def check_audit(path: Path) -> AuditCheck:
    """Return what the chain of a log shows: any line that was changed, removed, moved or put in.

    Raises InputError where the file can't be read, or is no such log.
    """
    problems: list[str] = []
    chain, records = "", 0
    first = last = None
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                values = _parsed(line)
                if number == 1 and (values is None or values.get("schema") != SCHEMA):
                    raise InputError(f"{path}: no audit log of imaging_ft ({SCHEMA})")
                if not line.endswith(b"\n"):
                    problems.append(f"line {number} is torn: a kill cut it off before its prediction was answered")
                    break
                if values is None:
                    problems.append(f"line {number} is no record")
                    chain = ""
                    continue
                if values.get(_CHAIN) != _link(line, values, chain):
                    problems.append(
                        f"line {number} doesn't follow from the one before: one of them was changed, or moved"
                    )
                chain = str(values.get(_CHAIN))
                if number > 1:
                    records += 1
                    last = str(values.get("time"))
                    first = first or last
    except OSError as error:
        raise InputError(f"{path}: can't be read: {reason(error)}") from error
    return AuditCheck(records, first, last, chain, tuple(problems))


def _chained(record: Json, before: str) -> tuple[bytes, str]:
    """Return a record's line, and its chain."""
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    chain = hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()
    return f'{body[:-1]},"{_CHAIN}":"{chain}"}}\n'.encode(), chain


def _link(line: bytes, values: Json, before: str) -> str:
    """Return the chain that a line should have after another, from its bytes as they stand."""
    end = f',"{_CHAIN}":"{values.get(_CHAIN)}"}}\n'.encode()
    if not line.endswith(end):
        return ""
    return hashlib.sha256(before.encode() + b"\n" + line[: -len(end)] + b"}").hexdigest()


def _parsed(line: bytes) -> Json | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) else None


def _set_torn_aside(path: Path) -> None:
    with path.open("r+b") as file:
        whole = _whole(file)
        size = file.seek(0, os.SEEK_END)
        if whole == size:
            return
        file.seek(whole)
        torn = file.read()
        with path.with_name(f"{path.name}.torn").open("ab") as aside:
            aside.write(torn + b"\n")
            _sync(aside)
        file.truncate(whole)
        _sync(file)
    _LOG.warning(
        "%s: its last line was torn by a kill, before its prediction was answered; it lies in %s.torn", path, path.name
    )


def _whole(file: BinaryIO) -> int:
    """Return where the last whole line of a file ends."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - (1 << 16))
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable; not every system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
