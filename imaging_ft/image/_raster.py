"""PNG, JPEG, TIFF, BMP and WebP as pixels: Pillow reads headers and most data, OpenCV what Pillow can't.

OpenCV decodes 16-bit colour, which Pillow reduces to 8 bits without a word, and compressed TIFF, where the
libtiff inside Pillow writes to stderr. Everything else stays with Pillow, which notices a truncated file;
OpenCV fills the missing part of a JPEG and says nothing.
"""

import io
import struct
from collections.abc import Callable
from typing import cast

import numpy as np
from PIL import Image

from imaging_ft.errors import ImageError
from imaging_ft.image._refusals import SAVE_AGAIN, check_size, transparent
from imaging_ft.image._sniff import label
from imaging_ft.image._wide import Tiff, decode_opencv, essential_png, png_chunks
from imaging_ft.types import Pixels

_GRAY = frozenset({"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"})
_COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_PNG_GRAY, _PNG_GRAY_ALPHA = 0, 4
_ORIENTATION = 0x0112

# EXIF 2.32, 4.6.5: from the stored rows and columns to the upright image.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}


def decode_raster(data: bytes, kind: str) -> Pixels:
    """Return the image in a file's bytes as [height, width, channels], upright, without alpha.

    Raises ImageError (without the path) for what is refused on purpose; a decoder's exceptions pass.
    """
    if kind == "png":
        _check_png(data)
    if kind == "bmp":
        _check_bmp(data)
    image = _open(data, kind)
    check_size(*image.size)
    _check_one_frame(image, kind)
    _check_mode(image.mode, kind)
    pixels = _decode(image, data, kind)
    # Pillow and OpenCV both apply a TIFF's own Orientation tag while they decode.
    upright = _UPRIGHT.get(0 if kind == "tiff" else _orientation(image))
    return cast("Pixels", np.ascontiguousarray(upright(pixels) if upright else pixels))


def _open(data: bytes, kind: str) -> Image.Image:
    """Return an image whose header Pillow has read, and whose pixels it has not."""
    try:
        return Image.open(io.BytesIO(data), formats=[kind.upper()])
    except Image.UnidentifiedImageError as error:
        raise ImageError(
            f"the {label(kind)} header is truncated, damaged, or of an unsupported kind; {SAVE_AGAIN}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError("over 100 megapixels; scale it down or cut it into tiles") from error


def _decode(image: Image.Image, data: bytes, kind: str) -> Pixels:
    """Return a checked image's pixels as they are stored, [height, width, 1 or 3]."""
    channels = 1 if image.mode in _GRAY else 3
    if kind == "tiff":
        tiff = Tiff.of(image)
        tiff.check(data)
        if tiff.needs_opencv:
            pixels = decode_opencv(data, channels=channels, alpha=image.mode in _ALPHA)
            return tiff.with_black_at_zero(pixels)
        return tiff.with_black_at_zero(_decode_pillow(image, channels))
    # For PNG also a check: OpenCV is asked only for what Pillow found whole.
    image.load()
    depth, colour_type = (data[24], data[25]) if kind == "png" else (8, 0)
    if depth == 16 and colour_type != _PNG_GRAY:
        channels = 1 if colour_type == _PNG_GRAY_ALPHA else 3
        pixels = decode_opencv(essential_png(data), channels=channels, alpha=colour_type & 4 == 4)
        _check_key(pixels, image.info.get("transparency"))
        return pixels
    return _decode_pillow(image, channels)


def _decode_pillow(image: Image.Image, channels: int) -> Pixels:
    image.load()
    if image.mode.startswith("I;16"):
        gray = np.asarray(image).astype(np.uint16)[:, :, np.newaxis]
        _check_key(gray, image.info.get("transparency"))
        return gray
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            raise transparent()
    flat = np.array(image.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return flat.reshape(flat.shape[0], flat.shape[1], channels)


def _check_png(data: bytes) -> None:
    """Raise for a PNG with no pixels, or whose chunks are cut short or fail their checksums."""
    if len(data) >= 24:
        check_size(*struct.unpack(">LL", data[16:24]))
    png_chunks(data)
    _open(data, "png").verify()


def _check_bmp(data: bytes) -> None:
    """Raise for a BMP with no pixels; a height below zero means rows from the top down."""
    if len(data) >= 26:
        # A header of 12 bytes is OS/2's, with 16-bit sides.
        os2 = data[14] == 12
        width, height = struct.unpack("<hh", data[18:22]) if os2 else struct.unpack("<ii", data[18:26])
        check_size(width, abs(height))


def _check_one_frame(image: Image.Image, kind: str) -> None:
    # A JPEG may carry a second picture behind the first (MPO: a preview, a gain map); the first is the photo.
    frames = 1 if kind == "jpeg" else int(getattr(image, "n_frames", 1))
    if frames > 1:
        what = "several pages" if kind == "tiff" else "an animation"
        raise ImageError(f"a {label(kind)} with {what} ({frames}) is not supported yet; save one image a file")


def _check_mode(mode: str, kind: str) -> None:
    if mode in {"I", "F"}:
        what = "float" if mode == "F" else "32-bit or signed"
        raise ImageError(f"{what} pixels are not supported; scale them to 0-65535 and save as 16-bit {label(kind)}")
    if mode not in _GRAY | _COLOUR:
        raise ImageError(f"the colour mode {mode} is not supported; save it as gray or RGB")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation; 1 where there is none or its block is damaged, as viewers do."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - a damaged block of metadata raises anything, and the pixels are whole
        return 1
    return value if isinstance(value, int) else 1


def _check_key(pixels: Pixels, key: object) -> None:
    """Raise where any pixel has the one colour that a 16-bit PNG declares transparent (tRNS)."""
    if key is not None and (pixels == np.atleast_1d(np.asarray(key, dtype=np.int64))).all(axis=2).any():
        raise transparent()
