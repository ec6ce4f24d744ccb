"""Nothing in an archive reaches out of the folder, fills the disk, or is anything but a plain file."""

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imaging_ft.data.unpack import Limits, unpack
from imaging_ft.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder to unpack into; beside it nothing may appear but the archive."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def zipped(path: Path, entries: dict[str, bytes], *, mode: int = 0, flags: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    if flags:
        raw = bytearray(path.read_bytes())
        raw[raw.index(b"PK\x01\x02") + 8] |= flags
        path.write_bytes(bytes(raw))
    return path


def tarred(path: Path, *members: tuple[str, bytes, Callable[[tarfile.TarInfo], None]], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        for name, content, change in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            change(info)
            archive.addfile(info, io.BytesIO(content))
    return path


def plain(_info: tarfile.TarInfo) -> None:
    """Leave it a plain file."""


def kind(of: bytes, to: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname = of, to

    return change


def refused(archive: Path, folder: Path, form: str, limits: Limits | None = None) -> str:
    before = {str(path) for path in folder.parent.rglob("*")}
    with pytest.raises(DataError) as caught:
        unpack(archive, folder, form, limits=limits)  # pyright: ignore[reportArgumentType]
    assert {str(path) for path in folder.parent.rglob("*")} == before
    assert "\n" not in str(caught.value)
    assert str(archive) in str(caught.value)
    return str(caught.value)


def test_a_zip_becomes_its_files_and_folders(folder: Path, tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a/1.png": b"one", "b.png": b"two", "empty/": b""})
    assert unpack(archive, folder, "zip") == 2
    assert (folder / "a" / "1.png").read_bytes() == b"one"
    assert (folder / "empty").is_dir()
    assert unpack(archive, folder, "zip") == 2  # over what an interrupted call left


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_any_compression_becomes_its_files(folder: Path, tmp_path: Path, mode: str) -> None:
    root = ("./", b"", kind(tarfile.DIRTYPE))
    archive = tarred(tmp_path / "a.tar", root, ("./a/1.png", b"one", plain), ("b.png", b"", plain), mode=mode)
    assert unpack(archive, folder, "tar") == 2
    assert (folder / "a" / "1.png").read_bytes() == b"one"
    assert (folder / "b.png").read_bytes() == b""


NAMES = ["../evil", "a/../../evil", "/evil", "//evil", "C:evil", "a\\..\\evil", "..", "a//b", "a\nb", "../data/x"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, name: str, form: str
) -> None:
    if form == "zip":
        archive = zipped(tmp_path / "a.zip", {"good.png": b"x", name: b"evil"})
    else:
        archive = tarred(tmp_path / "a.tar", ("good.png", b"x", plain), (name, b"evil", plain))
    assert "not unpacked: the entry" in refused(archive, folder, form)


@pytest.mark.parametrize(
    ("of", "to", "what"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "is a link"),
        (tarfile.SYMTYPE, "good.png", "is a link"),
        (tarfile.LNKTYPE, "good.png", "is a link"),
        (tarfile.CHRTYPE, "", "is no plain file"),
        (tarfile.BLKTYPE, "", "is no plain file"),
        (tarfile.FIFOTYPE, "", "is no plain file"),
    ],
)
def test_links_devices_and_pipes_in_a_tar_are_refused(
    folder: Path, tmp_path: Path, of: bytes, to: str, what: str
) -> None:
    archive = tarred(tmp_path / "a.tar", ("good.png", b"x", plain), ("x", b"", kind(of, to)))
    assert what in refused(archive, folder, "tar")


@pytest.mark.parametrize(("mode", "what"), [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "is no plain file")])
def test_links_and_pipes_in_a_zip_are_refused(folder: Path, tmp_path: Path, mode: int, what: str) -> None:
    assert what in refused(zipped(tmp_path / "a.zip", {"x": b"/etc/passwd"}, mode=mode | 0o777), folder, "zip")


def test_an_encrypted_zip_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "is encrypted" in refused(zipped(tmp_path / "a.zip", {"x": b"y"}, flags=1), folder, "zip")


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_bomb_is_refused_by_its_ratio_its_size_or_its_count(folder: Path, tmp_path: Path, form: str) -> None:
    content = bytes(3_000_000)
    if form == "zip":
        archive = zipped(tmp_path / "a.zip", {"x": content, "y": content})
    else:
        archive = tarred(tmp_path / "a.tar", ("x", content, plain), ("y", content, plain))
    assert "archive bomb" in refused(archive, folder, form, Limits(small=1_000_000))
    assert "more than 1 files" in refused(archive, folder, form, Limits(files=1))
    assert "would fill" in refused(archive, folder, form, Limits(bytes=5_000_000))
    assert unpack(archive, folder, form) == 2  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("form", ["zip", "tar"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_archive_is_one_line(folder: Path, tmp_path: Path, form: str, damage: str) -> None:
    noise = bytes((index * 7919) % 251 for index in range(5000))
    good = (
        zipped(tmp_path / "a.zip", {"x": noise}) if form == "zip" else tarred(tmp_path / "a.tar", ("x", noise, plain))
    )
    raw = good.read_bytes()
    good.write_bytes({"cut": raw[: len(raw) // 2], "noise": noise, "empty": b""}[damage])
    with pytest.raises(DataError, match="damaged or not") as caught:
        unpack(good, folder, form)  # pyright: ignore[reportArgumentType]
    assert "\n" not in str(caught.value)


def test_a_file_whose_crc_is_wrong_is_found(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"cnotent"))
    with pytest.raises(DataError, match="Bad CRC-32"):
        unpack(path, folder, "zip")
