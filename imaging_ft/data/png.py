"""PNG files whose bytes are the same on every machine.

A data set's fingerprint is made of its files' bytes, and two versions of zlib compress one image to different bytes.
So the image data is stored, not compressed (RFC 1951, 3.2.4), by the few lines below.
"""

import struct
import zlib

import numpy as np

from imaging_ft.types import Levels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK = 65535
_COLOUR = {1: 0, 3: 2}


def encode_png(pixels: Levels) -> bytes:
    """Return an image [height, width, channels] uint8, 1 channel (gray) or 3 (RGB), as an uncompressed PNG file."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8, _COLOUR[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with 0: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", _stored(rows.tobytes())) + _chunk(b"IEND", b"")


def png_size(height: int, width: int, channels: int) -> int:
    """Return how many bytes `encode_png` returns for an image of this shape."""
    raw = height * (1 + width * channels)
    return len(_SIGNATURE) + 3 * 12 + 13 + 2 + 5 * max(1, -(-raw // _BLOCK)) + raw + 4


def _stored(raw: bytes) -> bytes:
    """Return bytes as a zlib stream of stored blocks."""
    parts = [b"\x78\x01"]
    for start in range(0, max(1, len(raw)), _BLOCK):
        block = raw[start : start + _BLOCK]
        last = start + _BLOCK >= len(raw)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    return b"".join([*parts, struct.pack(">I", zlib.adler32(raw))])


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
