"""The files that paths name: in order, once, and without holding them all."""

from pathlib import Path

import pytest

from imaging_ft.errors import InputError
from imaging_ft.inference.listing import find_images, list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a/2.png", "a/1.dcm", "a/x.txt", "c/1.2.840.1", ".hidden/1.png", "a/.2.png", "d/deep/9.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_come_in_a_stable_order_and_what_is_no_image_or_hidden_is_left(folder: Path) -> None:
    found = [path.relative_to(folder).as_posix() for path in list_images([folder])]
    assert found == ["a/1.dcm", "a/2.png", "b.png", "c/1.2.840.1", "d/deep/9.jpg"]
    assert found == [path.relative_to(folder).as_posix() for path in sorted(find_images([folder]))]


def test_no_file_comes_twice_whatever_paths_overlap(folder: Path) -> None:
    given = [folder / "b.png", folder, folder / "a", folder / "a" / "1.dcm", folder]
    assert find_images(given) == find_images([folder])
    assert find_images([folder / "b.png", folder / "b.png"]) == [folder / "b.png"]


def test_the_first_file_comes_before_the_last_folder_is_read(folder: Path) -> None:
    coming = list_images([folder])
    assert next(coming).name == "1.dcm"
    (folder / "d" / "deep" / "later.png").touch()
    assert [path.name for path in coming][-1] == "later.png"


def test_a_path_that_is_not_there_is_refused_before_the_first_file(folder: Path) -> None:
    with pytest.raises(InputError, match=r"none: no such file or folder"):
        list_images([folder, folder / "none"])
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no images in this folder"):
        find_images([folder / "empty"])
