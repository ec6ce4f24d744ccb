"""What kind of image a file holds, by its first bytes, and what its name claims."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from imaging_ft.config import reason
from imaging_ft.errors import ImageError

Kind = Literal["png", "jpeg", "tiff", "bmp", "webp", "dicom"]

SUFFIXES: Mapping[str, Kind] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".bmp": "bmp",
    ".webp": "webp",
    ".dcm": "dicom",
    ".dicom": "dicom",
    ".ima": "dicom",
}
"""The suffixes, in lower case, that a folder is scanned for, and the format that each one names."""

_MAGIC: Mapping[bytes, Kind] = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",
    b"MM\x00+": "tiff",
    b"BM": "bmp",
}
PREAMBLE = 128
_HEAD = PREAMBLE + 4
# Value representations that the elements of groups 0002 and 0008 can have at the start of a data set.
_VRS = frozenset({b"UL", b"OB", b"UI", b"SH", b"AE", b"CS", b"DA", b"TM", b"DT", b"LO", b"ST", b"SQ", b"US"})


def sniff(path: Path) -> str:
    """Return the format a file holds, by content: png, jpeg, tiff, bmp, webp or dicom.

    Raises ImageError where the file is missing, a folder, empty, unreadable, or in none of these formats.
    """
    head, size = _head(path)
    return kind_of(head, size, name=str(path))


def kind_of(head: bytes, size: int, *, name: str) -> str:
    """Return the format of a file of so many bytes that begins so; `name` is what an error calls it."""
    if size == 0:
        raise ImageError(f"{name}: the file is empty (0 bytes); get a fresh copy of it")
    kind = _kind(head[:_HEAD], size)
    if kind is None:
        raise ImageError(
            f"{name}: the content is unreadable: not a PNG, JPEG, TIFF, BMP, WebP or DICOM image; "
            "convert it to one of these"
        )
    return kind


def check_suffix(path: Path) -> None:
    """Raise ImageError where the name's suffix stands for one format and the content is another.

    A name with no suffix, or with one that isn't in `SUFFIXES` (DICOM files often end in a UID), claims
    nothing, so any readable content passes.
    """
    content = sniff(path)
    claimed = SUFFIXES.get(path.suffix.lower())
    if claimed is None or claimed == content:
        return
    suffix = next(suffix for suffix, kind in SUFFIXES.items() if kind == content)
    raise ImageError(
        f"{path}: content is {label(content)}, name says {label(claimed)}; rename it to {path.with_suffix(suffix).name}"
    )


def is_image_name(path: Path) -> bool:
    """Return whether a file's name ends as an image's does (upper or lower case)."""
    return path.suffix.lower() in SUFFIXES


def may_be_image(path: Path) -> bool:
    """Return whether a file is worth opening as an image: by its suffix, or none, or a number.

    DICOM files often have no suffix, or are named by a UID, whose last part then looks like one.
    """
    return is_image_name(path) or not path.suffix or path.suffix[1:].isdigit()


def label(kind: str) -> str:
    """Return a format's name as it is written in messages."""
    return "WebP" if kind == "webp" else kind.upper()


def _head(path: Path) -> tuple[bytes, int]:
    """Return a file's first bytes and its size; only regular files are opened (a pipe would hang)."""
    try:
        if path.is_dir():
            raise ImageError(f"{path}: a folder, not an image file; name the files in it")
        if not path.exists():
            raise ImageError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise ImageError(f"{path}: not a regular file; copy the image into a file first")
        with path.open("rb") as file:
            return file.read(_HEAD), path.stat().st_size
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({reason(error)}); check its permissions") from error


def _kind(head: bytes, size: int) -> Kind | None:
    # DICOM first: its preamble may hold a whole TIFF header (PS3.10, 7.1: dual-personality files).
    if head[PREAMBLE:] == b"DICM":
        return "dicom"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return "dicom" if _starts_as_data_set(head, size) else None


def _starts_as_data_set(head: bytes, size: int) -> bool:
    """Return whether a DICOM data set or its file meta group begins at byte 0, without preamble."""
    if len(head) < 8:
        return False
    group, element, length = struct.unpack("<HHL", head[:8])
    if group not in {0x0002, 0x0008}:
        return False
    implicit = element <= 0x0070 and length % 2 == 0 and 0 < length <= min(size - 8, 1024)
    return head[4:6] in _VRS or implicit
