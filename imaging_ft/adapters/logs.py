"""Logs: one JSON object a line, from every library of the process, and nothing of an image or a patient in them."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

_OWN = "imaging_ft"
_LONGEST = 300
_FRAMES = 12


class Fields(dict[str, object]):
    """What is logged as a record's fields, and by other handlers than ours as JSON."""

    def __str__(self) -> str:
        """Return it as JSON."""
        return json.dumps(self, ensure_ascii=False)


class Lines(logging.Formatter):
    """Logs as JSON, one object a line.

    Of an exception it says the type and the places in the code, not its message: that may quote what was sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return a line; fields are merged into it."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname.lower()}
        own = record.name.partition(".")[0] == _OWN
        said: object = record.msg
        if own and isinstance(said, Fields):
            line |= said
        elif own:
            line["message"] = record.getMessage()
        else:
            line |= {"logger": record.name, "message": record.getMessage().partition("\n")[0][:_LONGEST]}
        if record.exc_info and record.exc_info[0] is not None:
            line.setdefault("error", record.exc_info[0].__name__)
            line["at"] = _places(record.exc_info[2])
        return json.dumps(line, ensure_ascii=False)


@contextmanager
def logged_as_json(stream: TextIO) -> Iterator[None]:
    """Write what is logged anywhere in the process as JSON, while the block runs."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Lines())
    everything, own = logging.getLogger(), logging.getLogger(_OWN)
    everything.addHandler(handler)
    level = own.level
    own.setLevel(logging.INFO)
    try:
        yield
    finally:
        own.setLevel(level)
        everything.removeHandler(handler)


def _places(trace: TracebackType | None) -> list[str]:
    """Return where an exception passed, innermost last: a file's name, without its folder, and a line."""
    frames = traceback.extract_tb(trace)[-_FRAMES:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
