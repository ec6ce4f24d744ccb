"""Formats told apart by content, and names that claim another one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import imaging_ft.image
from imaging_ft.errors import ImageError
from imaging_ft.image import SUFFIXES, check_suffix, is_image_name, may_be_image, read_image, sniff

FORMATS = {"png": "PNG", "jpeg": "JPEG", "tiff": "TIFF", "bmp": "BMP", "webp": "WebP"}


@pytest.mark.parametrize("kind", FORMATS)
def test_a_format_is_told_by_content_whatever_the_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "no_suffix"
    Image.new("L", (5, 4), 9).save(path, FORMATS[kind])
    assert sniff(path) == kind
    assert read_image(path).shape == ((4, 5, 3) if kind == "webp" else (4, 5, 1))
    check_suffix(path)


def test_dicom_is_told_by_its_prefix_or_by_how_a_data_set_starts(
    tmp_path: Path, make_dicom: Callable[..., bytes]
) -> None:
    path = tmp_path / "x"
    data = make_dicom(np.arange(20, dtype=np.uint16).reshape(4, 5))
    for start in (0, 132, data.index(b"\x08\x00\x16\x00")):
        path.write_bytes(data[start:])
        assert sniff(path) == "dicom"
        assert np.array_equal(read_image(path)[..., 0].ravel(), np.arange(20)), start


def test_an_implicit_data_set_without_meta_group_is_read(tmp_path: Path, make_dicom: Callable[..., bytes]) -> None:
    path = tmp_path / "x"
    data = make_dicom(np.arange(20, dtype=np.uint16).reshape(4, 5), syntax="1.2.840.10008.1.2")
    path.write_bytes(data[data.index(b"\x08\x00\x16\x00") :])
    assert sniff(path) == "dicom"
    assert np.array_equal(read_image(path)[..., 0].ravel(), np.arange(20))


def test_what_is_no_image_is_refused_in_one_line(tmp_path: Path) -> None:
    def message(path: Path) -> str:
        with pytest.raises(ImageError) as failure:
            sniff(path)
        with pytest.raises(ImageError) as again:
            read_image(path)
        assert str(failure.value) == str(again.value)
        assert str(failure.value).startswith(f"{path}: ")
        assert "\n" not in str(failure.value)
        return str(failure.value).removeprefix(f"{path}: ")

    assert message(tmp_path / "gone.png").startswith("no such file;")
    assert message(tmp_path).startswith("a folder, not an image file;")
    empty = tmp_path / "empty.png"
    empty.write_bytes(b"")
    assert message(empty).startswith("the file is empty (0 bytes);")
    for content in (b"\0", b"label,path\n1,2\n" * 20, b"\0" * 4000, b"GIF89a" + b"\0" * 90, b"\x08\x00"):
        text = tmp_path / "text.png"
        text.write_bytes(content)
        assert message(text).startswith("the content is unreadable: not a PNG,")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert message(pipe).startswith("not a regular file;")


def test_a_suffix_that_names_another_format_is_refused_with_the_right_name(
    tmp_path: Path, make_dicom: Callable[..., bytes]
) -> None:
    path = tmp_path / "x.png"
    Image.new("L", (5, 4)).save(path, "JPEG")
    with pytest.raises(ImageError) as failure:
        check_suffix(path)
    assert str(failure.value) == f"{path}: content is JPEG, name says PNG; rename it to x.jpg"
    dicom = tmp_path / "y.TIF"
    dicom.write_bytes(make_dicom(np.zeros((2, 2), np.uint8)))
    with pytest.raises(ImageError, match=r"content is DICOM, name says TIFF; rename it to y\.dcm$"):
        check_suffix(dicom)
    webp = tmp_path / "z.ima"
    Image.new("L", (5, 4)).save(webp, "WEBP")
    with pytest.raises(ImageError, match=r"content is WebP, name says DICOM; rename it to z\.webp$"):
        check_suffix(webp)
    with pytest.raises(ImageError, match="no such file"):
        check_suffix(tmp_path / "gone.png")


@pytest.mark.parametrize("name", ["a.dcm", "a.DICOM", "a.ima", "a", "1.2.840.10008.5"])
def test_a_dicom_file_may_bear_its_suffixes_none_or_a_uid(
    name: str, tmp_path: Path, make_dicom: Callable[..., bytes]
) -> None:
    path = tmp_path / name
    path.write_bytes(make_dicom(np.zeros((2, 2), np.uint8)))
    check_suffix(path)


def test_names_of_images_are_known_in_any_case() -> None:
    assert all(is_image_name(Path("a" + suffix)) for suffix in SUFFIXES)
    assert is_image_name(Path("scan.PNG"))
    assert is_image_name(Path("scan.old.Jpeg"))
    assert not any(is_image_name(Path(name)) for name in ("png", ".png", "a.gif", "a.txt", "a", "a.png.zip"))


def test_a_dicom_file_without_a_suffix_or_named_by_its_uid_may_be_an_image() -> None:
    assert all(may_be_image(Path(name)) for name in ("IM0001", "1.2.840.10008.5", "a.dcm", "b.PNG"))
    assert not any(may_be_image(Path(name)) for name in ("notes.txt", "manifest.csv", "a.1b"))


def test_the_public_face_is_complete_and_its_import_light() -> None:
    assert sorted(imaging_ft.image.__all__) == sorted(
        {
            "SUFFIXES",
            "TAGS",
            "check_suffix",
            "decode_image",
            "is_image_name",
            "may_be_image",
            "read_image",
            "read_tags",
            "sniff",
        }
    )
    heavy = "{'cv2', 'pydicom', 'PIL', 'torch'} & set(sys.modules)"
    code = f"import sys, imaging_ft.image; sys.exit(str({heavy}) if {heavy} else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
