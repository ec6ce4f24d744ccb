"""PNG, JPEG, TIFF, BMP and WebP: every depth and colour comes back as it was written."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from imaging_ft.errors import ImageError
from imaging_ft.image import read_image

Rng = np.random.Generator
GRAY, COLOUR = (23, 37, 1), (23, 37, 3)
ORIENTATION = 0x0112

COMPRESSIONS = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773}


def write(path: Path, pixels: Any, *params: int) -> Path:
    """Write [height, width, 1 or 3 or 4] by OpenCV, which knows 16-bit colour."""
    order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
    assert cv2.imwrite(str(path), np.ascontiguousarray(pixels[:, :, order]), list(params))
    return path


def random(rng: Rng, shape: tuple[int, ...], dtype: Any) -> Any:
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def same(path: Path, expected: Any) -> None:
    pixels = read_image(path)
    assert pixels.dtype == expected.dtype
    assert pixels.shape == expected.shape
    assert np.array_equal(pixels, expected)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("shape", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_a_lossless_file_keeps_its_depth_and_values(
    suffix: str, dtype: Any, shape: tuple[int, ...], tmp_path: Path, rng: Rng
) -> None:
    pixels = random(rng, shape, dtype)
    same(write(tmp_path / f"x{suffix}", pixels), pixels)


@pytest.mark.parametrize("shape", [GRAY, COLOUR], ids=["gray", "colour"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_tiff_is_read_in_any_common_compression(
    compression: str, dtype: Any, shape: tuple[int, ...], tmp_path: Path, rng: Rng
) -> None:
    pixels = random(rng, shape, dtype)
    params = (cv2.IMWRITE_TIFF_COMPRESSION, COMPRESSIONS[compression])
    same(write(tmp_path / "x.tiff", pixels, *params), pixels)


@pytest.mark.parametrize(("kind", "options"), [("BMP", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_bmp_and_lossless_webp_keep_colour(kind: str, options: dict[str, Any], tmp_path: Path, rng: Rng) -> None:
    pixels = random(rng, COLOUR, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x", kind, **options)
    same(tmp_path / "x", pixels)


def test_a_gray_bmp_stays_gray(tmp_path: Path, rng: Rng) -> None:
    pixels = random(rng, GRAY, np.uint8)
    same(write(tmp_path / "x.bmp", pixels), pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_lossy_file_is_what_pillow_decodes(kind: str, tmp_path: Path, rng: Rng) -> None:
    smooth = np.add.outer(np.arange(40) * 3, np.arange(60) * 2)[..., None] + np.array([0, 9, 18])
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "x", kind, quality=95)
    pixels = read_image(tmp_path / "x")
    with Image.open(tmp_path / "x") as image:
        assert np.array_equal(pixels, np.asarray(image))
    assert np.abs(pixels.astype(int) - smooth.astype(np.uint8)).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
def test_colour_stays_three_channels_even_where_they_are_equal(suffix: str, tmp_path: Path, rng: Rng) -> None:
    pixels = np.repeat(random(rng, GRAY, np.uint8), 3, axis=2)
    same(write(tmp_path / f"x{suffix}", pixels), pixels)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_expanded_to_black_and_white(kind: str, tmp_path: Path, rng: Rng) -> None:
    bits = rng.random((23, 37)) < 0.5
    Image.fromarray(bits).save(tmp_path / "x", kind)
    same(tmp_path / "x", np.where(bits, 255, 0).astype(np.uint8)[..., None])


@pytest.mark.parametrize("options", [{"compression": "group4"}, {"compression": "group4", "tiffinfo": {262: 0}}])
def test_a_fax_tiff_is_black_where_it_says_black(options: dict[str, Any], tmp_path: Path, rng: Rng) -> None:
    bits = rng.random((23, 37)) < 0.5
    Image.fromarray(bits).save(tmp_path / "x", "TIFF", **options)
    with Image.open(tmp_path / "x") as image:
        same(tmp_path / "x", np.asarray(image.convert("L"))[..., None])


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})],
    ids=["png", "tiff", "tiff-lzw", "bmp"],
)
def test_a_palette_becomes_rgb(kind: str, options: dict[str, Any], tmp_path: Path, rng: Rng) -> None:
    image = Image.fromarray(random(rng, COLOUR, np.uint8)).convert("P", palette=Image.Palette.ADAPTIVE)
    image.save(tmp_path / "x", kind, **options)
    same(tmp_path / "x", np.asarray(image.convert("RGB")))


def test_a_white_is_zero_tiff_of_16_bits_is_turned_round(tmp_path: Path, rng: Rng) -> None:
    pixels = random(rng, GRAY, np.uint16)
    Image.fromarray(pixels[..., 0]).save(tmp_path / "x.tif", tiffinfo={262: 0})
    same(tmp_path / "x.tif", np.uint16(65535) - pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16], ids=["8", "16"])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_alpha_is_dropped_where_it_is_opaque_and_refused_where_not(
    suffix: str, dtype: Any, tmp_path: Path, rng: Rng
) -> None:
    pixels = random(rng, (23, 37, 4), dtype)
    pixels[..., 3] = np.iinfo(dtype).max
    same(write(tmp_path / f"x{suffix}", pixels), pixels[..., :3])
    pixels[5, 7, 3] -= 1
    with pytest.raises(ImageError, match="has transparent pixels; flatten it"):
        read_image(write(tmp_path / f"x{suffix}", pixels))


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "L", "RGB"])
def test_each_way_a_png_can_be_transparent_is_seen(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    if mode == "LA":
        Image.new("LA", (5, 4), (9, 255)).save(path)
        same(path, np.full((4, 5, 1), 9, np.uint8))
        Image.new("LA", (5, 4), (9, 254)).save(path)
    elif mode in {"P", "PA"}:
        image = Image.new("P", (5, 4), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        image.save(path, transparency=0)
        assert read_image(path)[0, 0].tolist() == [10, 20, 30]
        image.save(path, transparency=1 if mode == "P" else b"\xff\x80")
    else:
        colour = 9 if mode == "L" else (9, 8, 7)
        image = Image.new(mode, (5, 4), colour)
        image.save(path, transparency=3 if mode == "L" else (3, 3, 3))
        assert read_image(path)[0, 0].tolist() == np.atleast_1d(colour).tolist()
        image.save(path, transparency=colour)
    with pytest.raises(ImageError, match="has transparent pixels"):
        read_image(path)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_transparent_colour_of_a_16_bit_png_is_seen(channels: int, tmp_path: Path) -> None:
    pixels = np.full((4, 5, channels), 1000, np.uint16)
    data = write(tmp_path / "x.png", pixels).read_bytes()
    for key, opaque in ((1001, True), (1000, False)):
        chunk = b"tRNS" + key.to_bytes(2, "big") * channels
        crc = zlib.crc32(chunk).to_bytes(4, "big")
        (tmp_path / "x.png").write_bytes(data[:33] + (len(chunk) - 4).to_bytes(4, "big") + chunk + crc + data[33:])
        if opaque:
            same(tmp_path / "x.png", pixels)
        else:
            with pytest.raises(ImageError, match="has transparent pixels"):
                read_image(tmp_path / "x.png")


def test_gray_with_opaque_alpha_at_16_bits_keeps_16(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    gray = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    path.write_bytes(_gray_alpha_png(gray, 65535))
    same(path, gray[..., None])
    path.write_bytes(_gray_alpha_png(gray, 65534))
    with pytest.raises(ImageError, match="has transparent pixels"):
        read_image(path)


def _gray_alpha_png(gray: Any, alpha: int) -> bytes:

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))

    both = np.stack([gray, np.full_like(gray, alpha)], axis=2).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in both)
    head = struct.pack(">LLBBBBB", gray.shape[1], gray.shape[0], 16, 4, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_to_rgb(kind: str, tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "x", kind)
    red = read_image(tmp_path / "x")[8, 8].astype(int)
    assert red[0] > 240
    assert red[1:].max() < 15


def upright(orientation: int, stored: Any) -> Any:
    """Put each stored pixel where EXIF says: 0th row and 0th column, by the standard's own table."""
    row, column = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    height, width = stored.shape[:2]
    swapped = row in {"left", "right"}
    shown = np.empty((width, height, *stored.shape[2:]) if swapped else stored.shape, stored.dtype)
    for i in range(height):
        for j in range(width):
            down, across = (j, i) if swapped else (i, j)
            last_down, last_across = shown.shape[0] - 1, shown.shape[1] - 1
            vertical, horizontal = (column, row) if swapped else (row, column)
            y = last_down - down if vertical == "bottom" else down
            x = last_across - across if horizontal == "right" else across
            shown[y, x] = stored[i, j]
    return shown


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_8_bit_image_is_turned_upright(kind: str, orientation: int, tmp_path: Path, rng: Rng) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(random(rng, (7, 11, 3), np.uint8))
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
    image.save(tmp_path / "x", kind, exif=exif, **options.get(kind, {}))
    image.save(tmp_path / "plain", kind, **options.get(kind, {}))
    same(tmp_path / "x", upright(orientation, read_image(tmp_path / "plain")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_16_bit_image_is_turned_upright(channels: int, orientation: int, tmp_path: Path, rng: Rng) -> None:
    pixels = random(rng, (7, 11, channels), np.uint16)
    for compression in ("none", "deflate"):
        write(tmp_path / "x.tif", pixels, cv2.IMWRITE_TIFF_COMPRESSION, COMPRESSIONS[compression])
        tiff = tmp_path / "x.tif"
        tiff.write_bytes(_with_orientation(tiff.read_bytes(), orientation))
        same(tiff, upright(orientation, pixels))
    data = write(tmp_path / "x.png", pixels).read_bytes()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    crc = zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "x.png").write_bytes(data[:33] + (len(chunk) - 4).to_bytes(4, "big") + chunk + crc + data[33:])
    same(tmp_path / "x.png", upright(orientation, pixels))


def _with_orientation(data: bytes, orientation: int) -> bytes:
    """Return a little-endian TIFF with an Orientation entry put into its one directory, moved to the end."""
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(count)]
    entries = [entry for entry in entries if int.from_bytes(entry[:2], "little") != ORIENTATION]
    entries.append(ORIENTATION.to_bytes(2, "little") + b"\x03\0\x01\0\0\0" + orientation.to_bytes(4, "little"))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    directory = len(entries).to_bytes(2, "little") + b"".join(entries) + b"\0\0\0\0"
    padded = data + b"\0" * (len(data) % 2)
    return padded[:4] + len(padded).to_bytes(4, "little") + padded[8:] + directory


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_outside_the_standard_changes_nothing(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.new("L", (11, 7), 5).save(tmp_path / "x.png", exif=exif)
    same(tmp_path / "x.png", np.full((7, 11, 1), 5, np.uint8))


def test_a_damaged_exif_block_leaves_the_pixels_as_they_are(tmp_path: Path) -> None:
    Image.new("L", (11, 7), 5).save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xffrubbish")
    assert read_image(tmp_path / "x.jpg").shape == (7, 11, 1)


def test_a_colour_profile_does_not_change_a_16_bit_image_or_print(
    tmp_path: Path, rng: Rng, capfd: pytest.CaptureFixture[str]
) -> None:
    pixels = random(rng, COLOUR, np.uint16)
    data = write(tmp_path / "x.png", pixels).read_bytes()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    donor = tmp_path / "donor.png"
    Image.new("RGB", (2, 2)).save(donor, icc_profile=profile[:-9] + b"corrupted")
    other = donor.read_bytes()
    at = other.index(b"iCCP") - 4
    end = at + 12 + int.from_bytes(other[at : at + 4], "big")
    (tmp_path / "x.png").write_bytes(data[:33] + other[at:end] + data[33:])
    same(tmp_path / "x.png", pixels)
    assert capfd.readouterr() == ("", "")


def test_the_first_picture_of_a_phone_photo_is_read(tmp_path: Path) -> None:
    photo, preview = Image.new("RGB", (32, 24), (200, 0, 0)), Image.new("RGB", (8, 6))
    photo.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[preview])
    assert read_image(tmp_path / "x.jpg").shape == (24, 32, 3)
