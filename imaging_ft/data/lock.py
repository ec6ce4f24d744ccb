"""A lock between processes: one writes into a folder, the others wait; it falls when its holder dies."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from imaging_ft.config import reason
from imaging_ft.errors import DataError


@contextmanager
def held(path: Path, *, waiting: Callable[[], None] = lambda: None, remove: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be; `waiting` is called once if another holds it.

    The file stays, or is removed at the end. Raises DataError where it can't be written.
    """
    file = _taken(path, waiting)
    with file:
        try:
            yield
        finally:
            if remove:
                with suppress(OSError):  # Windows removes no open file
                    path.unlink()
            _release(file)


def _taken(path: Path, waiting: Callable[[], None]) -> IO[bytes]:
    """Return the lock's file, locked; one that its holder removed meanwhile is not the lock any more."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+b")
        except OSError as error:
            raise DataError(f"{path}: can't be written: {reason(error)}") from error
        try:
            if not _take(file, wait=False):
                waiting()
                _take(file, wait=True)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            file.close()
            raise
        file.close()


if sys.platform == "win32":
    import msvcrt

    def _take(file: IO[bytes], *, wait: bool) -> bool:
        file.seek(0)
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError:  # LK_LOCK gives up after ten seconds
                if not wait:
                    return False
            else:
                return True

    def _release(file: IO[bytes]) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(file: IO[bytes], *, wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
