"""One way in for every format: sniff, decode in silence, and turn whatever goes wrong into one line."""

from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import ImageError
from imaging_ft.image._refusals import MAX_PIXELS, SAVE_AGAIN, at_most
from imaging_ft.image._sniff import kind_of, label, sniff
from imaging_ft.types import Pixels


def read_image(path: Path) -> Pixels:
    """Return an image file as [height, width, channels]: uint8 or uint16, 1 channel (gray) or 3 (RGB).

    The format is told by content, not by suffix. Depth and colour are the file's own: 16 bits stay 16, a
    colour image keeps three channels even where they are equal, and a palette image becomes RGB. Gray of 1,
    2 or 4 bits is expanded to 8, and CMYK converted. The EXIF orientation is applied. An alpha channel is
    dropped where it is opaque throughout; an image with transparent pixels is refused, because what lies
    behind them is not known. DICOM gives what a viewer displays (modality LUT or rescale, VOI LUT or window,
    MONOCHROME1 inverted) on the full 16-bit scale, one channel; its RGB gives three at 8 bits.

    Raises ImageError, in one line, for a file that is missing, empty, truncated or damaged, and for what is
    not supported: float or 32-bit pixels, several pages or frames, over 100 megapixels (judged by the header,
    before decoding), compressed DICOM.
    """
    kind = sniff(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({reason(error)}); check its permissions") from error
    return _decode(data, kind, name=str(path))


def decode_image(data: bytes, *, name: str, most_pixels: int = MAX_PIXELS) -> Pixels:
    """Return the image in a file's bytes as `read_image` does; larger ones are refused by their header.

    `name` is what an error calls it. Raises ImageError.
    """
    kind = kind_of(data, len(data), name=name)
    with at_most(most_pixels):
        return _decode(data, kind, name=name)


def _decode(data: bytes, kind: str, *, name: str) -> Pixels:
    from imaging_ft.image._quiet import quiet

    try:
        with quiet():
            if kind == "dicom":
                from imaging_ft.image._dicom import decode_dicom

                return decode_dicom(data)
            from imaging_ft.image._raster import decode_raster

            return decode_raster(data, kind)
    except ImageError as error:
        raise ImageError(f"{name}: {one_line(str(error))}") from error.__cause__
    except Exception as error:
        # A damaged file makes a decoder raise nearly anything, from struct.error to RecursionError.
        cause = one_line(reason(error)) or type(error).__name__
        raise ImageError(
            f"{name}: the {label(kind)} is truncated, damaged or of an unsupported kind ({cause}); {SAVE_AGAIN}"
        ) from error


def one_line(text: str) -> str:
    """Return text as one line that can be printed: a damaged file puts its own bytes into messages."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
