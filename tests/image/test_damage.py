"""Damaged files: one line of ImageError or a valid image, nothing else raised, nothing printed, no hang."""

import io
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from imaging_ft.errors import ImageError
from imaging_ft.image import read_image

OPENCV_LOG: Any = getattr(cv2.utils, "logging", cv2)
"""Where OpenCV keeps its log's level from 4.13 on, and before."""
_GRAY = np.add.outer(np.arange(18) * 9, np.arange(23) * 3).astype(np.uint8)
_COLOUR = np.stack([_GRAY, _GRAY[::-1], 255 - _GRAY], axis=2)


def _pillow(pixels: Any, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    image.convert(options.pop("mode", image.mode)).save(file, kind, **options)
    return file.getvalue()


def _opencv(suffix: str, *params: int) -> bytes:
    return cv2.imencode(suffix, _COLOUR.astype(np.uint16) * 257, list(params))[1].tobytes()


_EXIF = Image.Exif()
_EXIF[0x0112] = 6

FILES: dict[str, Callable[[], bytes]] = {
    "png": lambda: _pillow(_COLOUR, "PNG", exif=_EXIF),
    "png palette": lambda: _pillow(_COLOUR, "PNG", mode="P"),
    "png 16 gray": lambda: _pillow(_GRAY.astype(np.uint16) * 257, "PNG"),
    "png 16 colour": lambda: _opencv(".png"),
    "jpeg": lambda: _pillow(_COLOUR, "JPEG", exif=_EXIF),
    "jpeg progressive": lambda: _pillow(_COLOUR, "JPEG", progressive=True),
    "jpeg cmyk": lambda: _pillow(_COLOUR, "JPEG", mode="CMYK"),
    "tiff": lambda: _pillow(_COLOUR, "TIFF"),
    "tiff lzw": lambda: _pillow(_COLOUR, "TIFF", compression="tiff_lzw"),
    "tiff deflate": lambda: _pillow(_GRAY, "TIFF", compression="tiff_adobe_deflate"),
    "tiff jpeg": lambda: _pillow(_COLOUR, "TIFF", compression="jpeg"),
    "tiff fax": lambda: _pillow(_GRAY, "TIFF", mode="1", compression="group4"),
    "tiff palette": lambda: _pillow(_COLOUR, "TIFF", mode="P", compression="tiff_lzw"),
    "tiff 16 colour": lambda: _opencv(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "tiff 16 colour lzw": lambda: _opencv(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 5),
    "bmp": lambda: _pillow(_COLOUR, "BMP"),
    "webp": lambda: _pillow(_COLOUR, "WEBP", exif=_EXIF),
    "webp lossless": lambda: _pillow(_COLOUR, "WEBP", lossless=True),
}
# Bytes at the end that an image can do without: a BMP's row padding, a TIFF's "there is no next page".
_SPARE = {"bmp": 3, "tiff deflate": 4, "tiff fax": 4}


@pytest.fixture
def files(make_dicom: Callable[..., bytes], lut_sequence: Callable[..., Any]) -> dict[str, bytes]:
    stored = _GRAY.astype(np.uint16) * 16
    tags: dict[str, Any] = {"BitsStored": 12, "RescaleSlope": "1.5", "RescaleIntercept": "-9"}
    window = {"WindowCenter": ["900", "1"], "WindowWidth": ["700", "2"]}
    return {name: make() for name, make in FILES.items()} | {
        "dicom": make_dicom(stored, PhotometricInterpretation="MONOCHROME1", **tags, **window),
        "dicom lut": make_dicom(
            stored, syntax="1.2.840.10008.1.2", VOILUTSequence=lut_sequence(0, 8, [1, 2, 3]), **tags
        ),
        "dicom bare": make_dicom(stored, **tags, **window)[132:],
    }


def outcome(path: Path, data: bytes) -> str:
    """Return the message, or "" for a valid image; any other exception fails the test."""
    path.write_bytes(data)
    begun = time.monotonic()
    try:
        pixels = read_image(path)
    except ImageError as error:
        message = str(error)
        assert message.startswith(f"{path}: ")
        assert "; " in message
        assert message.isprintable()
        return message
    finally:
        assert time.monotonic() - begun < 5
    assert pixels.dtype in (np.uint8, np.uint16)
    assert pixels.ndim == 3
    assert pixels.shape[2] in (1, 3)
    assert pixels.size > 0
    return ""


@pytest.mark.filterwarnings("error")
def test_every_file_cut_short_is_refused_and_nothing_is_printed(
    files: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, data in files.items():
        assert outcome(tmp_path / "whole", data) == "", name
        whole = len(data) - _SPARE.get(name, 0)
        for length in [*range(0, min(whole, 160), 7), *range(160, whole, 61), whole - 1]:
            assert outcome(tmp_path / "x", data[:length]), (name, length)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("error")
def test_flipped_bytes_give_an_image_or_one_line_and_nothing_is_printed(
    files: dict[str, bytes], tmp_path: Path, rng: np.random.Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    for data in files.values():
        for _ in range(60):
            damaged = bytearray(data)
            early = rng.random() < 0.6
            for at in rng.integers(0, min(len(data), 300) if early else len(data), rng.integers(1, 5)):
                damaged[at] = rng.integers(256) if early else damaged[at] ^ (1 << rng.integers(8))
            outcome(tmp_path / "x", bytes(damaged))
    assert capfd.readouterr() == ("", "")


def test_a_process_without_pytest_stays_silent_where_decoders_are_known_to_talk(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    # pytest takes over logging and warnings, so that only a process of its own shows what a user would see.
    samples = bytearray(files["tiff"])
    at = samples.index(struct.pack("<HHLH", 277, 3, 1, 3)) + 8
    samples[at : at + 2] = struct.pack("<H", 60000)  # logged by Pillow
    odd = files["png 16 colour"]
    chunk = b"sBITx"
    odd = odd[:33] + b"\0\0\0\1" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + odd[33:]  # printed by libpng
    exif = _pillow(_COLOUR, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x09\0")  # a warning of Pillow's
    bare = files["dicom"].replace(b"\x28\0\x50\x10DS", b"\x28\0\x50\x10IS")  # a warning of pydicom's
    for name, data in {"samples": bytes(samples), "odd": odd, "exif": exif, "bare": bare}.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import sys; from pathlib import Path; from imaging_ft.errors import ImageError\n"
        "from imaging_ft.image import read_image\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(read_image(Path(name)).shape)\n"
        "    except ImageError: print('refused')"
    )
    names = [str(tmp_path / name) for name in ("samples", "odd", "exif", "bare")]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["refused", "(18, 23, 3)", "(18, 23, 3)", "(18, 23, 1)"]
    assert done.stderr == ""


def test_damage_inside_the_pixels_is_seen(files: dict[str, bytes], tmp_path: Path) -> None:
    deflate = bytearray(files["tiff deflate"])
    deflate[20:60] = bytes(40)
    assert "damaged" in outcome(tmp_path / "strip.tif", bytes(deflate))
    tall = bytearray(files["tiff"])
    at = tall.index(struct.pack("<HHLL", 257, 4, 1, 18)) + 8
    tall[at : at + 4] = struct.pack("<L", 400)
    assert "strips or tiles that cover it" in outcome(tmp_path / "tall.tif", bytes(tall))


def test_a_strip_that_reaches_beyond_the_file_is_seen(files: dict[str, bytes], tmp_path: Path) -> None:
    tiff = bytearray(files["tiff palette"])
    at = tiff.index(struct.pack("<HHLL", 273, 4, 1, 8)) + 8
    tiff[at : at + 4] = struct.pack("<L", len(tiff) - 20)
    message = outcome(tmp_path / "x.tif", bytes(tiff))
    assert "the TIFF is truncated" in message
    assert "bytes of pixels are missing; get a fresh copy of it" in message


def test_a_damaged_checksum_of_a_png_is_seen(files: dict[str, bytes], tmp_path: Path) -> None:
    data = bytearray(files["png"])
    data[data.index(b"IDAT") + 30] ^= 1
    assert "checksum" in outcome(tmp_path / "x.png", bytes(data))


def _refused(path: Path, message: str) -> None:
    with pytest.raises(ImageError) as failure:
        read_image(path)
    assert str(failure.value).startswith(f"{path}: {message}"), str(failure.value)


def test_several_pages_and_animations_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (9, 8), colour) for colour in ("red", "green", "blue")]
    for kind, what in (("TIFF", "TIFF with several pages"), ("WEBP", "WebP with an animation")):
        pages[0].save(tmp_path / kind, kind, save_all=True, append_images=pages[1:])
        _refused(tmp_path / kind, f"a {what} (3) is not supported yet; save one image a file")
    pages[0].save(tmp_path / "PNG", "PNG", save_all=True, append_images=pages[1:])
    _refused(tmp_path / "PNG", "a PNG with an animation (3) is not supported yet; save one image a file")


@pytest.mark.parametrize(("dtype", "what"), [(np.float32, "float"), (np.int32, "32-bit or signed")])
def test_float_and_32_bit_pixels_are_refused(dtype: Any, what: str, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 5), dtype)).save(tmp_path / "x.tif")
    _refused(tmp_path / "x.tif", f"{what} pixels are not supported; scale them to 0-65535 and save as 16-bit TIFF")


def test_a_tiff_of_64_bit_floats_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.tif"), np.zeros((4, 5), np.float64))
    _refused(tmp_path / "x.tif", "the TIFF header is truncated, damaged, or of an unsupported kind;")


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (60_000, 60_000)])
def test_over_100_megapixels_is_refused_before_decoding(width: int, height: int, tmp_path: Path) -> None:
    png = bytearray(_pillow(_GRAY, "PNG"))
    png[16:24] = struct.pack(">LL", width, height)
    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    bmp = bytearray(_pillow(_GRAY, "BMP"))
    bmp[18:26] = struct.pack("<ll", width, height)
    tiff = bytearray(_pillow(_GRAY, "TIFF"))
    for tag, old, new in ((256, 23, width), (257, 18, height)):
        at = tiff.index(struct.pack("<HHLL", tag, 4, 1, old))
        tiff[at : at + 12] = struct.pack("<HHLL", tag, 4, 1, new)
    jpeg = bytearray(_pillow(_COLOUR, "JPEG"))
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", height, width)
    for name, data in {"png": png, "bmp": bmp, "tiff": tiff, "jpeg": jpeg}.items():
        (tmp_path / name).write_bytes(data)
        begun = time.monotonic()
        _refused(tmp_path / name, "over 100 megapixels")
        assert time.monotonic() - begun < 1


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels_is_refused(width: int, height: int, tmp_path: Path) -> None:
    png = bytearray(_pillow(_GRAY, "PNG"))
    png[16:24] = struct.pack(">LL", width, height)
    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    bmp = bytearray(_pillow(_GRAY, "BMP"))
    bmp[18:26] = struct.pack("<ll", width, height)
    for name, data in {"png": png, "bmp": bmp}.items():
        (tmp_path / name).write_bytes(data)
        _refused(tmp_path / name, f"zero-sized: the header says {width} x {height} pixels;")


def test_threads_read_at_once_and_the_process_is_left_as_it_was(files: dict[str, bytes], tmp_path: Path) -> None:
    before = list(warnings.filters), OPENCV_LOG.getLogLevel()
    failures: list[str] = []

    def work(part: int) -> None:
        for name in ("png 16 colour", "tiff lzw", "dicom", "jpeg"):
            path = tmp_path / f"{part} {name}"
            if outcome(path, files[name]) or not outcome(path, files[name][:-20]):
                failures.append(name)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (list(warnings.filters), OPENCV_LOG.getLogLevel()) == before
