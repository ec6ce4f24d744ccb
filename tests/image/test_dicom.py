"""DICOM files: stored bits, the display pipeline against pydicom's own, and each refusal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID

from imaging_ft.errors import ImageError
from imaging_ft.image import read_image

Write = Callable[..., Path]
Rng = np.random.Generator


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as failure:
        read_image(path)
    message = str(failure.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_gray_is_one_channel_of_display_values_on_the_full_16_bit_scale(write_dicom: Write) -> None:
    stored = np.array([[0, 1000, 2048], [3000, 4094, 4095]], np.uint16)
    pixels = read_image(write_dicom(stored, BitsStored=12, WindowCenter="2048", WindowWidth="4096"))
    assert pixels.dtype == np.uint16
    assert pixels.flags.c_contiguous
    assert pixels.shape == (2, 3, 1)
    assert pixels[..., 0].tolist() == [[0, 16004, 32776], [48011, 65519, 65535]]


def test_a_ct_slice_worked_by_hand(write_dicom: Write) -> None:
    # Signed, slope 2, intercept -1024; stored 512, 532, 612 are 0, 40, 200 HU. Window 40, 400 (LINEAR):
    # ((HU - 39.5) / 399 + 0.5) * 65535 gives 26279.7, 32849.6, 59129.3; -1000 HU is black, 1000 HU white.
    stored = np.array([[12, 512, 532, 612, 1012]], np.int16)
    tags = {"RescaleSlope": "2", "RescaleIntercept": "-1024", "WindowCenter": "40", "WindowWidth": "400"}
    assert read_image(write_dicom(stored, **tags))[0, :, 0].tolist() == [0, 26280, 32850, 59129, 65535]


def test_the_first_of_several_windows_is_used(write_dicom: Write, rng: Rng) -> None:
    stored = rng.integers(0, 4096, (9, 8), dtype=np.uint16)
    several = {"WindowCenter": ["900", "2000"], "WindowWidth": ["700", "4000"]}
    first = {"WindowCenter": "900", "WindowWidth": "700"}
    pixels = read_image(write_dicom(stored, **several))
    assert np.array_equal(pixels, read_image(write_dicom(stored, **first)))


@pytest.mark.parametrize("missing", ["WindowCenter", "WindowWidth", "both", "empty"])
def test_without_a_whole_window_the_range_of_the_stored_bits_is_shown(missing: str, write_dicom: Write) -> None:
    stored = np.array([[0, 1, 1023]], np.uint16)
    tags: dict[str, Any] = {"WindowCenter": "5", "WindowWidth": "2"}
    tags = {name: "" if missing == "empty" else value for name, value in tags.items() if name != missing}
    tags = {} if missing == "both" else tags
    path = write_dicom(stored, BitsStored=10, RescaleSlope="3", RescaleIntercept="7", **tags)
    assert read_image(path)[0, :, 0].tolist() == [0, 64, 65535]


def test_monochrome1_is_the_inverse_of_monochrome2(write_dicom: Write, rng: Rng) -> None:
    stored = rng.integers(0, 4096, (9, 8), dtype=np.uint16)
    for tags in ({}, {"WindowCenter": "900", "WindowWidth": "700"}):
        dark = read_image(write_dicom(stored, BitsStored=12, **tags)).astype(int)
        path = write_dicom(stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1", **tags)
        assert (dark + read_image(path) == 65535).all()


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8], ids=["int16", "uint16", "uint8"])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"], ids=["implicit", "explicit"])
def test_pixels_agree_with_pydicoms_own_pipeline(
    syntax: str, kind: Any, function: str | None, write_dicom: Write, rng: Rng
) -> None:
    bits = 8 if kind == np.uint8 else 12
    low = -2048 if kind == np.int16 else 0
    stored = rng.integers(low, low + (1 << bits), (21, 13)).astype(kind)
    tags: dict[str, Any] = {"BitsStored": bits, "RescaleSlope": "1.5", "RescaleIntercept": "-100"}
    tags |= {"WindowCenter": "60.5", "WindowWidth": "200"} | ({"VOILUTFunction": function} if function else {})
    path = write_dicom(stored, syntax=syntax, **tags)
    agree(read_image(path), path)


def agree(pixels: Any, path: Path) -> None:
    """Check that display values are pydicom's own, brought from its output range to 0..65535."""
    dataset = pydicom.dcmread(path)
    theirs = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset).astype(float)
    ours = pixels[..., 0].astype(float)
    slope, offset = np.polyfit(theirs.ravel(), ours.ravel(), 1)
    assert slope > 0
    assert np.abs(slope * theirs + offset - ours).max() <= 1.0
    order = np.argsort(theirs, axis=None, kind="stable")
    assert (np.diff(ours.ravel()[order]) >= -1e-9).all()


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_luts_agree_with_pydicoms_own(vr: str, write_dicom: Write, lut_sequence: Callable[..., Any], rng: Rng) -> None:
    stored = rng.integers(0, 256, (21, 13), dtype=np.uint8)
    curve = (np.arange(200) ** 2 // 10).tolist()
    path = write_dicom(stored, VOILUTSequence=lut_sequence(20, 12, curve, vr=vr))
    agree(read_image(path), path)
    assert read_image(path).min() == 0
    path = write_dicom(stored, ModalityLUTSequence=lut_sequence(20, 16, curve, vr=vr))
    agree(read_image(path), path)


def test_a_voi_lut_goes_before_a_window(write_dicom: Write, lut_sequence: Callable[..., Any]) -> None:
    stored = np.array([[0, 1, 2]], np.uint8)
    tags = {"VOILUTSequence": lut_sequence(0, 8, [255, 51, 0]), "WindowCenter": "1", "WindowWidth": "2"}
    assert read_image(write_dicom(stored, **tags))[0, :, 0].tolist() == [65535, 13107, 0]


def test_a_lut_that_starts_below_zero_is_read(write_dicom: Write, lut_sequence: Callable[..., Any]) -> None:
    stored = np.array([[-3, -2, -1, 0]], np.int16)
    path = write_dicom(stored, ModalityLUTSequence=lut_sequence(65534, 8, [10, 20, 30]))
    assert (read_image(path)[0, :, 0] / 257).tolist() == [10, 10, 20, 30]


def test_a_lut_shorter_than_it_says_is_refused(write_dicom: Write, lut_sequence: Callable[..., Any]) -> None:
    sequence = lut_sequence(0, 8, [1, 2, 3])
    sequence[0].LUTDescriptor = [4, 0, 8]
    path = write_dicom(np.zeros((2, 2), np.uint8), VOILUTSequence=sequence)
    assert refusal(path) == "a LUT has 3 of 4 entries at 8 bits; correct or delete its sequence"


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint16, np.int16])
def test_every_stored_value_of_8_and_16_bits_keeps_its_place(kind: Any, write_dicom: Write) -> None:
    info = np.iinfo(kind)
    stored = np.arange(info.min, info.max + 1).astype(kind).reshape(16, -1)
    pixels = read_image(write_dicom(stored))
    scale = 257 if stored.itemsize == 1 else 1
    assert np.array_equal(pixels.ravel(), np.arange(stored.size) * scale)


@pytest.mark.parametrize("signed", [0, 1])
def test_unused_bits_are_masked_and_the_sign_is_extended(signed: int, write_dicom: Write, rng: Rng) -> None:
    clean = rng.integers(0, 4096, (9, 8), dtype=np.uint16)
    rubbish = rng.integers(0, 16, (9, 8), dtype=np.uint16)
    tags = {"BitsStored": 12, "PixelRepresentation": signed}
    value = clean.astype(int)
    expected = np.rint(((value ^ 2048) if signed else value) / 4095 * 65535)
    for stored, high in ((clean | rubbish << 12, 11), (clean << 4 | rubbish, 15), (clean << 2, 13)):
        pixels = read_image(write_dicom(stored.astype(np.uint16), HighBit=high, **tags))
        assert np.array_equal(pixels[..., 0], expected), high


def test_an_odd_number_of_bytes_is_padded_in_the_file_and_not_in_the_image(write_dicom: Write) -> None:
    assert read_image(write_dicom(np.arange(15, dtype=np.uint8).reshape(3, 5))).shape == (3, 5, 1)


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_is_read_by_pixel_and_by_plane(planar: int, write_dicom: Write, rng: Rng) -> None:
    colour = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    data = (np.moveaxis(colour, 2, 0) if planar else colour).tobytes()
    pixels = read_image(write_dicom(colour, PlanarConfiguration=planar, PixelData=data))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, colour)


@pytest.mark.parametrize(
    ("syntax", "remedy"),
    [
        ("1.2.840.10008.1.2.1.99", "dcmconv +te IN OUT"),
        ("1.2.840.10008.1.2.2", "dcmconv +te IN OUT"),
        ("1.2.840.10008.1.2.4.50", "dcmdjpeg IN OUT"),
        ("1.2.840.10008.1.2.4.70", "dcmdjpeg IN OUT"),
        ("1.2.840.10008.1.2.4.80", "dcmdjpls IN OUT"),
        ("1.2.840.10008.1.2.4.90", "gdcmconv --raw IN OUT"),
        ("1.2.840.10008.1.2.5", "dcmdrle IN OUT"),
    ],
)
def test_a_transfer_syntax_that_is_not_read_is_named_with_the_converter(
    syntax: str, remedy: str, tmp_path: Path, make_dicom: Callable[..., bytes]
) -> None:
    # The UID is put into a plain file: the refusal must come before anything is decoded or inflated.
    plain = make_dicom(np.zeros((4, 4), np.uint8))
    old = b"UI\x14\x001.2.840.10008.1.2.1\0"
    new = syntax.encode() + b"\0" * (len(syntax) % 2)
    path = tmp_path / "x.dcm"
    path.write_bytes(plain.replace(old, b"UI" + len(new).to_bytes(2, "little") + new, 1))
    assert refusal(path) == (
        f"the transfer syntax {UID(syntax).name} ({syntax}) is not supported yet; "
        f"convert it to Explicit VR Little Endian, for example: {remedy}"
    )


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {"NumberOfFrames": "3"},
            "a multi-frame DICOM (3 frames) is not supported yet; save one frame a file",
        ),
        (
            {"PixelData": None},
            "there is no PixelData in this DICOM file: it is not an image, or was cut off; ",
        ),
        ({"Rows": 5}, "the DICOM is truncated: the pixel data has 16 bytes, and its header says 20; get a "),
        ({"Rows": 0}, "zero-sized: the header says 4 x 0 pixels; get a fresh copy of it"),
        ({"Rows": None}, "the DICOM tag Rows is missing; get a fresh copy of the file"),
        (
            {"Rows": 60000, "Columns": 60000},
            "over 100 megapixels: the header says 60000 x 60000; scale it down ",
        ),
        ({"BitsAllocated": 32, "BitsStored": 32}, "BitsAllocated 32 is not supported; convert it to 8 or 16"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "BitsAllocated 1 is not supported; convert it to 8 or 16"),
        ({"BitsStored": 9, "HighBit": 8}, "BitsStored 9 and HighBit 8 don't fit 8; correct the tags"),
        ({"HighBit": 3}, "BitsStored 8 and HighBit 3 don't fit 8; correct the tags"),
        (
            {"PhotometricInterpretation": "PALETTE COLOR"},
            "the photometric interpretation PALETTE COLOR with 1 ",
        ),
        (
            {"PhotometricInterpretation": "YBR_FULL", "SamplesPerPixel": 3},
            "the photometric interpretation YBR_FULL with 3 samples a pixel is not supported yet; convert ",
        ),
        (
            {"VOILUTFunction": "CUBIC", "WindowCenter": "5", "WindowWidth": "9"},
            "VOILUTFunction CUBIC is not known",
        ),
        (
            {"WindowCenter": "5", "WindowWidth": "0"},
            "the window (center 5.0, width 0.0, LINEAR) is not valid: ",
        ),
        (
            {"SharedFunctionalGroupsSequence": []},
            "an enhanced DICOM (functional groups) is not supported yet; ",
        ),
    ],
)
def test_what_is_not_supported_is_refused_with_the_tag_and_the_remedy(
    tags: dict[str, Any], message: str, write_dicom: Write
) -> None:
    assert refusal(write_dicom(np.zeros((4, 4), np.uint8), **tags)).startswith(message)


def test_rgb_of_16_bits_is_refused(write_dicom: Write) -> None:
    assert refusal(write_dicom(np.zeros((4, 4, 3), np.uint16))).startswith("RGB is supported with 8 unsigned bits")


def test_compressed_pixels_under_a_plain_transfer_syntax_are_refused(
    tmp_path: Path, make_dicom: Callable[..., bytes]
) -> None:
    data = make_dicom(np.zeros((4, 4), np.uint8))
    plain = b"\xe0\x7f\x10\x00OB\0\0\x10\0\0\0" + b"\0" * 16
    item = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\x04\0\0\0abcd" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    path = tmp_path / "x.dcm"
    path.write_bytes(data.replace(plain, b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + item))
    assert refusal(path).startswith("the pixel data is compressed, but the transfer syntax says it is not;")
