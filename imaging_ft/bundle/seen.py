"""Which images a model has seen in training, so that a report can leave them out of what it measures."""

import base64
from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import Field, model_validator

from imaging_ft.config import Frozen

BYTES = 6
"""Of each file's SHA-256: of 100,000 strange files, one in 28,000 such sets would hold one that is taken for seen."""
MOST = 250_000
"""Images that are listed, in 2 MB; of more, only their number is said."""


class Seen(Frozen):
    """The images that a model was trained or validated on, by the beginnings of their files' SHA-256."""

    images: Annotated[int, Field(ge=0)]
    """Different files that are known to have been seen."""
    digests: str = ""
    """The first 6 bytes of each file's SHA-256, sorted, one after the other, as base64 (8 characters an image); empty
    where there are more than 250,000."""
    complete: bool = True
    """Whether `digests` lists all: false where there are too many, where it was left out, or where the model started
    from a run or a file of weights that doesn't say what it had seen."""

    @model_validator(mode="after")
    def _digests_fit(self) -> Self:
        listed = len(base64.b64decode(self.digests, validate=True))
        if listed % BYTES or listed > BYTES * self.images or (self.complete and listed < BYTES * self.images):
            raise ValueError(f"the digests of seen images are not {BYTES} bytes for each of {self.images}")
        return self

    @classmethod
    def of(cls, hashes: Iterable[str], *, earlier: Iterable["Seen"] = (), complete: bool = True) -> Self:
        """Return what was seen: files by their SHA-256 in hexadecimal, and what was seen before."""
        before = list(earlier)
        found = {digest(sha256) for sha256 in hashes}.union(*(one.known() for one in before))
        complete = complete and all(one.complete for one in before)
        images = max(len(found), *(one.images for one in before), 0)
        if len(found) > MOST:
            return cls(images=images, complete=False)
        listed = base64.b64encode(b"".join(sorted(found))).decode("ascii")
        return cls(images=images, digests=listed, complete=complete)

    def known(self) -> frozenset[bytes]:
        """Return the digests that are listed, to be looked up by `digest`."""
        listed = base64.b64decode(self.digests)
        return frozenset(listed[start : start + BYTES] for start in range(0, len(listed), BYTES))

    def brief(self) -> "Seen":
        """Return it without the digests, for what is shown or served: who has a file could look it up in them."""
        return Seen(images=self.images, complete=not self.images)


def digest(sha256: str) -> bytes:
    """Return what is kept of a file's SHA-256 in hexadecimal."""
    return bytes.fromhex(sha256[: 2 * BYTES])
