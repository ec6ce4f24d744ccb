"""API keys: who may ask, compared so that the time taken tells nothing."""

import hashlib
import hmac
import os
from collections.abc import Iterable
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import InputError

VARIABLE = "IMAGING_FT_API_KEYS"
"""Keys between commas, where no file is named."""
_LEAST = 16


class Keys:
    """The keys that are accepted; none: everyone may ask."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]

    @classmethod
    def read(cls, path: Path | None) -> "Keys":
        """Return the keys in a file, one a line, or of the environment; raises InputError where they are no keys."""
        if path is None:
            where, keys = VARIABLE, os.environ.get(VARIABLE, "").split(",")
        else:
            where = str(path)
            try:
                keys = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: the API keys can't be read: {reason(error)}") from error
        keys = [key.strip() for key in keys if key.strip()]
        if path is not None and not keys:
            raise InputError(f"{path}: holds no API key; write one a line")
        if any(len(key) < _LEAST or not key.isascii() for key in keys):
            raise InputError(
                f"{where}: a key needs {_LEAST} ASCII characters or more; make one with openssl rand -hex 24"
            )
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def accept(self, given: str | None) -> bool:
        """Return whether a key is one of them; every one is compared, whichever it is."""
        if not self._digests:
            return True
        digest = hashlib.sha256((given or "").encode(errors="surrogateescape")).digest()
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def key_of(authorization: str | None, api_key: str | None) -> str | None:
    """Return the key in a request's headers: `Authorization: Bearer KEY` or `X-API-Key: KEY`."""
    if authorization and authorization[:7].lower() == "bearer ":
        return authorization[7:].strip()
    return api_key
