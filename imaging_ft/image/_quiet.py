"""Decoders kept silent: their warnings and log lines say nothing that an ImageError does not."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_MODULES = r"(PIL|pydicom|imaging_ft\.image)\b"
_LOGGERS = ("PIL", "pydicom")
_SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT, which not every version names."""
_lock = threading.Lock()
_inside = 0
_restore = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back the warnings and logs of Pillow and pydicom and the log of OpenCV while the block runs.

    The settings belong to the whole process, so that the first thread in makes them and the last one out
    puts them back. stderr itself is never redirected: other threads' lines would be lost with it.
    """
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _silence(_restore)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore.close()


def _silence(restore: ExitStack) -> None:
    import cv2

    log: Any = getattr(cv2.utils, "logging", cv2)  # where OpenCV keeps it from 4.13 on, and before
    restore.callback(log.setLogLevel, log.getLogLevel())
    log.setLogLevel(_SILENT)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        restore.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    restore.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=_MODULES)
