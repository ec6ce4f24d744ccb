"""DICOM tags as columns: what is taken, in which words, and that nothing about who the patient is leaves the file."""

import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging_ft.errors import ImageError
from imaging_ft.image import TAGS, read_tags

# pydicom says so when the tests write what the standard doesn't allow.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Invalid value for VR:UserWarning", "ignore:The value length:UserWarning"
)

Write = Callable[..., Path]
PIXELS = np.zeros((4, 4), np.uint16)


@pytest.fixture
def tags_of(write_dicom: Write) -> Callable[..., dict[str, str]]:
    """Return a function that gives the columns of a DICOM file with the tags given."""
    return lambda **tags: read_tags(write_dicom(PIXELS, **tags))


Tags = Callable[..., dict[str, str]]


def test_the_tags_of_an_acquisition_become_columns(tags_of: Tags) -> None:
    found = tags_of(
        Modality="DX",
        Manufacturer="ACME Imaging ",
        ManufacturerModelName="Ray 9",
        ViewPosition="PA",
        BodyPartExamined="CHEST",
        KVP="117.50",
        Exposure="3",
        PatientSex="F",
        PatientAge="045Y",
    )
    assert found == {
        "modality": "DX",
        "manufacturer": "ACME Imaging",
        "manufacturer_model": "Ray 9",
        "view_position": "PA",
        "body_part": "CHEST",
        "kvp": "117.5",
        "exposure_mas": "3",
        "sex": "F",
        "age_band": "40-59",
    }
    assert list(found) == list(TAGS)


def test_nothing_that_identifies_is_returned(tags_of: Tags) -> None:
    secret = "SECRET1"
    found = tags_of(
        Manufacturer="ACME",
        PatientAge="045Y",
        PatientBirthDate="19790101",
        StudyDate="20240102",
        **dict.fromkeys(
            ["PatientName", "PatientID", "StationName", "InstitutionName", "AccessionNumber", "DeviceSerialNumber"],
            secret,
        ),
    )
    assert found == {"manufacturer": "ACME", "age_band": "40-59"}


def test_a_file_without_the_tags_gives_nothing(tags_of: Tags) -> None:
    assert tags_of() == {}
    assert tags_of(Manufacturer="", KVP="", PatientAge="", ViewPosition="") == {}


def test_the_first_of_several_values_counts(tags_of: Tags) -> None:
    assert tags_of(ViewPosition=["PA", "LL"], KVP=["80", "120"]) == {"view_position": "PA", "kvp": "80"}


def test_codes_are_upper_case_so_that_spellings_are_one_value(tags_of: Tags) -> None:
    assert tags_of(ViewPosition="pa", PatientSex="f") == {"view_position": "PA", "sex": "F"}


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("000D", "0-17"),
        ("011M", "0-17"),
        ("215M", "0-17"),
        ("216M", "18-39"),
        ("017Y", "0-17"),
        ("018Y", "18-39"),
        ("040Y", "40-59"),
        ("059Y", "40-59"),
        ("79Y", "60-79"),
        ("080Y", "80+"),
        ("130Y", "80+"),
        ("999Y", None),
        ("45", None),
        ("Y045", None),
        ("45 Y", None),
        ("-45Y", None),
        ("abc", None),
    ],
)
def test_an_age_is_a_band_of_years_and_a_malformed_one_is_left_out(age: str, band: str | None, tags_of: Tags) -> None:
    assert tags_of(PatientAge=age).get("age_band") == band


def test_an_exposure_in_micro_ampere_seconds_serves_where_the_whole_one_is_missing_or_0(tags_of: Tags) -> None:
    assert tags_of(ExposureInuAs="2500") == {"exposure_mas": "2.5"}
    assert tags_of(Exposure="0", ExposureInuAs="400") == {"exposure_mas": "0.4"}
    assert tags_of(Exposure="5", ExposureInuAs="5200") == {"exposure_mas": "5"}


def test_a_fraction_that_was_written_into_a_whole_number_is_read(
    make_dicom: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(make_dicom(PIXELS, Exposure="1234").replace(b"1234", b"2.50"))
    assert read_tags(path) == {"exposure_mas": "2.5"}


@pytest.mark.parametrize("bad", [b"-120", b"0000", b"volt", b"\xff\xfe12", b"nan ", b"inf ", b"    "])
def test_a_malformed_number_is_left_out_and_the_other_tags_stay(
    bad: bytes, make_dicom: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(make_dicom(PIXELS, KVP="9876", PatientSex="M").replace(b"9876", bad))
    assert read_tags(path) == {"sex": "M"}


def test_text_longer_than_its_kind_allows_is_left_out(tags_of: Tags) -> None:
    assert tags_of(ViewPosition="P" * 17, Manufacturer="A" * 65, PatientSex="FEMALE") == {}


def test_control_characters_become_spaces(make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(make_dicom(PIXELS, Manufacturer="ACME-INC").replace(b"ACME-INC", b"ACME\nINC"))
    assert read_tags(path) == {"manufacturer": "ACME INC"}


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + bytes(200), b"x" * 132 + b"DICM"])
def test_any_other_file_gives_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert read_tags(path) == {}


def test_a_data_set_without_preamble_gives_nothing(make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(make_dicom(PIXELS, Manufacturer="ACME")[132:])
    assert read_tags(path) == {}


def test_the_pixels_are_not_needed(make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    data = make_dicom(np.zeros((64, 64), np.uint16), Manufacturer="ACME")
    path = tmp_path / "x.dcm"
    path.write_bytes(data[:-8000])
    assert read_tags(path) == {"manufacturer": "ACME"}


def test_a_deflated_data_set_is_not_inflated(make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    plain = make_dicom(PIXELS, Manufacturer="ACME", syntax="1.2.840.10008.1.2.1")
    start = plain.index(b"\x08\x00\x16\x00")  # the data set's first element, after the file meta group
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    meta = plain[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    meta = meta.replace(b"UI\x14\x001.2.840.10008.1.2.1.99", b"UI\x16\x001.2.840.10008.1.2.1.99")
    length = int.from_bytes(meta[140:144], "little") + 2
    path = tmp_path / "x.dcm"
    path.write_bytes(
        meta[:140] + length.to_bytes(4, "little") + meta[144:] + squeeze.compress(plain[start:]) + squeeze.flush()
    )
    assert read_tags(path) == {}


def test_a_header_cut_off_is_refused_in_one_line(make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(make_dicom(PIXELS)[:152])
    with pytest.raises(ImageError) as refusal:
        read_tags(path)
    message = str(refusal.value)
    assert message.startswith(f"{path}: the DICOM header is damaged (")
    assert message.endswith("get a fresh copy of the file")
    assert "\n" not in message


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "none.dcm"
    with pytest.raises(ImageError) as refusal:
        read_tags(path)
    assert (
        str(refusal.value) == f"{path}: can't be read (No such file or directory); check the path and its permissions"
    )


def test_damaged_headers_give_tags_or_are_refused(make_dicom: Callable[..., bytes], tmp_path: Path, rng: Any) -> None:
    data = make_dicom(PIXELS, Manufacturer="ACME", KVP="80", PatientAge="045Y", PatientSex="F", ViewPosition="PA")
    path = tmp_path / "x.dcm"
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(132, len(data) - PIXELS.nbytes, 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        with suppress(ImageError):
            assert read_tags(path).keys() <= TAGS.keys()
