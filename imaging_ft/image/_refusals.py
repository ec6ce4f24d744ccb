"""The refusals that several formats share; each is an ImageError without the path, which read_image adds."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from imaging_ft.errors import ImageError

MAX_PIXELS = 100_000_000
SAVE_AGAIN = "get a fresh copy of it, or save it again as 8- or 16-bit PNG"


_most: ContextVar[int] = ContextVar("most", default=MAX_PIXELS)


@contextmanager
def at_most(pixels: int) -> Iterator[None]:
    """Refuse larger images while the block runs, in this thread alone."""
    token = _most.set(min(pixels, MAX_PIXELS))
    try:
        yield
    finally:
        _most.reset(token)


def check_size(width: int, height: int) -> None:
    """Raise ImageError where an image, by its header, has no pixels or too many to decode."""
    if width < 1 or height < 1:
        raise ImageError(f"zero-sized: the header says {width} x {height} pixels; get a fresh copy of it")
    if width * height > _most.get():
        raise ImageError(
            f"over {_most.get() / 1e6:g} megapixels: the header says {width} x {height}; scale it down or cut it into"
            " tiles"
        )


def transparent() -> ImageError:
    """Return the refusal of an image with transparent pixels."""
    return ImageError(
        "has transparent pixels; flatten it over the background it is meant for and save it without alpha"
    )
