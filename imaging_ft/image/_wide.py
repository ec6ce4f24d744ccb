"""What OpenCV decodes: 16-bit colour and compressed TIFF."""

import struct
import zlib
from dataclasses import dataclass
from typing import Self, cast

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin

from imaging_ft.errors import ImageError
from imaging_ft.image._refusals import SAVE_AGAIN, transparent
from imaging_ft.types import Pixels

_IEND = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class Tiff:
    """What a TIFF's tags say about how its pixels are stored (TIFF 6.0)."""

    bits: tuple[int, ...]
    compression: str
    photometric: int
    planes: int
    segments: tuple[tuple[int, int], ...]
    """Offset and byte count of each strip or tile."""
    expected: int
    """How many strips or tiles it takes to cover the image."""

    @classmethod
    def of(cls, image: Image.Image) -> Self:
        """Return the storage of a TIFF that Pillow has opened."""
        if not isinstance(image, TiffImagePlugin.TiffImageFile):
            raise TypeError(f"expected a TIFF, got {image.format}")
        tags = image.tag_v2
        bits = tuple(tags.get(258, (1,)))
        offsets = tags.get(273) or tags.get(324) or ()
        counts = tags.get(279) or tags.get(325) or ()
        width, height = int(tags[256]), int(tags[257])
        # Without tiles a strip is as wide as the image; a file may give it more rows than there are.
        across, down = int(tags.get(322, width)), int(tags.get(323, tags.get(278, height)))
        planes = int(tags.get(284, 1))
        return cls(
            bits=bits,
            compression=str(image.info.get("compression", "raw")),
            photometric=int(tags.get(262, 1)),
            planes=planes,
            segments=tuple(zip(offsets, counts, strict=False)),
            expected=-(-width // across) * -(-height // down) * (len(bits) if planes == 2 else 1),
        )

    @property
    def needs_opencv(self) -> bool:
        """Whether the pixels are compressed, or 16-bit colour."""
        return self.compression != "raw" or (self.bits[0] == 16 and len(self.bits) > 1)

    def check(self, data: bytes) -> None:
        """Raise ImageError for a file that is cut short or damaged, or stored as can't be read."""
        missing = max((offset + count for offset, count in self.segments), default=0) - len(data)
        if missing > 0:
            raise ImageError(f"the TIFF is truncated: {missing} bytes of pixels are missing; get a fresh copy of it")
        if len(self.segments) < self.expected:
            raise ImageError(
                f"the TIFF is damaged: it has {len(self.segments)} of the {self.expected} strips or tiles "
                f"that cover it; {SAVE_AGAIN}"
            )
        if len(set(self.bits)) != 1 or self.bits[0] not in ({1, 8, 16} if self.needs_opencv else {1, 2, 4, 8, 16}):
            raise ImageError(f"a TIFF of {self.bits} bits a sample is not supported; save it at 8 or 16 bits")
        if self.planes == 2 and self.bits[0] == 16 and len(self.bits) > 1:
            raise ImageError("a 16-bit TIFF with separate colour planes is not supported; save it interleaved")

        if "deflate" in self.compression:
            for offset, count in self.segments:
                _check_deflate(data[offset : offset + count])

    def with_black_at_zero(self, pixels: Pixels) -> Pixels:
        """Return the pixels with WhiteIsZero undone at 16 bits; at fewer bits the decoders have done it."""
        if self.photometric == _WHITE_IS_ZERO and pixels.dtype == np.uint16:
            return np.uint16(65535) - pixels
        return pixels


def _check_deflate(stream: bytes) -> None:
    """Raise zlib.error where a stream is damaged: at 8 bits OpenCV fills such a strip and says nothing."""
    inflater = zlib.decompressobj()
    while stream and not inflater.eof:
        inflater.decompress(stream, 1 << 20)
        stream = inflater.unconsumed_tail
    if not inflater.eof:
        raise zlib.error("incomplete stream")


def decode_opencv(data: bytes, *, channels: int, alpha: bool) -> Pixels:
    """Return what OpenCV decodes as [height, width, channels], RGB; `alpha` says that there is an alpha.

    Raises ImageError where it can't be decoded, or where a pixel is transparent.
    """
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"the pixels are damaged, or compressed in a way that is not supported; {SAVE_AGAIN}")
    pixels = cast("Pixels", decoded.reshape(decoded.shape[0], decoded.shape[1], -1))
    if alpha and pixels.shape[2] == 4 and pixels[:, :, 3].min() < np.iinfo(pixels.dtype).max:
        raise transparent()
    return pixels[:, :, :1] if channels == 1 else pixels[:, :, 2::-1]


def essential_png(data: bytes) -> bytes:
    """Return a PNG with only the chunks that pixels need: OpenCV's libpng prints opinions of the others."""
    needed = [chunk for name, chunk in png_chunks(data) if name in {b"IHDR", b"IDAT"}]
    return b"".join([data[:8], *needed, _IEND])


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return a PNG's chunks up to IEND, each with its name; raises ImageError where one is cut short."""
    chunks: list[tuple[bytes, bytes]] = []
    at, name = 8, b""
    while name != b"IEND":
        length, name = struct.unpack(">L4s", data[at : at + 8].ljust(8, b"\xff"))
        end = at + 12 + length
        if end > len(data):
            raise ImageError("the PNG is truncated: it ends within a chunk; get a fresh copy of it")
        chunks.append((name, data[at:end]))
        at = end
    return chunks
