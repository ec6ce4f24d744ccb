"""Archives unpacked with nothing taken on trust: every name, kind, size and count is checked first."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path
from typing import IO, Literal

from imaging_ft.config import reason
from imaging_ft.data.places import in_words
from imaging_ft.errors import ArchiveError, DataError
from imaging_ft.types import Track, silent

_BLOCK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError, RuntimeError)
"""What zipfile and tarfile raise for an archive that is damaged, encrypted or packed in an unknown way."""


@dataclass(frozen=True)
class Limits:
    """What an archive may grow to."""

    files: int = 5_000_000
    bytes: int = 500 * 10**9
    ratio: float = 100.0
    """Unpacked size over the archive's size; images hardly shrink, so more is a bomb or a mistake."""
    small: int = 100 * 10**6
    """Archives that unpack to at most this may have any ratio."""


@dataclass(frozen=True)
class _Entry:
    name: str
    size: int
    is_folder: bool
    refusal: str
    """Why the entry is refused whatever its name is; empty where it's a plain file or folder."""


def unpack(
    archive: Path, folder: Path, kind: Literal["zip", "tar"], *, limits: Limits | None = None, track: Track = silent
) -> int:
    """Unpack an archive into a folder and return how many files it held; files of the same name are replaced.

    Refused, with nothing written of that archive: absolute names and names with `..` (zip slip), backslashes and
    drives, links, device files and pipes, encrypted files, and what goes beyond the limits or the free disk. Raises
    DataError in one line that names the archive and the entry; ArchiveError where the archive is at fault.
    """
    limits = limits or Limits()
    try:
        entries = list(_entries(archive, kind, limits))
        _refuse(archive, folder, entries, limits)
        written = 0
        files = sum(1 for entry in entries if not entry.is_folder)
        for name, source in track(_open_files(archive, kind), f"unpacking {archive.name}", files):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            written += _copy(source, target, limits.bytes - written, archive)
        for entry in entries:
            if entry.is_folder:
                (folder / entry.name).mkdir(parents=True, exist_ok=True)
    except _DAMAGE as error:
        raise ArchiveError(f"{archive}: damaged or not {kind}: {reason(error)}; get it again") from error
    except OSError as error:
        raise DataError(f"{archive}: can't be unpacked into {folder}: {reason(error)}") from error
    return files


def _entries(archive: Path, kind: str, limits: Limits) -> Iterator[_Entry]:
    """Yield what the archive's own listing says; a listing longer than the limit is not read to its end."""
    if kind == "zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                yield _Entry(info.filename, info.file_size, info.is_dir(), _zip_refusal(info))
        return
    total = 0
    allowed = max(limits.small, int(limits.ratio * archive.stat().st_size))
    with tarfile.open(archive, "r:*") as opened:
        for number, member in enumerate(opened, start=1):
            yield _Entry(member.name, member.size, member.isdir(), _tar_refusal(member))
            total += member.size  # a compressed tar is unpacked to be listed, so the limits hold while listing too
            if number > limits.files or total > min(limits.bytes, allowed):
                return


def _zip_refusal(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return "is a link" if kind == stat.S_IFLNK else "is no plain file"
    return "is encrypted" if info.flag_bits & 0x1 else ""


def _tar_refusal(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "is a link"
    if member.issparse() or not (member.isreg() or member.isdir()):
        return "is no plain file"
    try:
        tarfile.data_filter(member, "/unpacked-here")  # Python's own judgement, beside ours
    except tarfile.FilterError as error:
        return f"is refused ({reason(error)})"
    return ""


def _name_refusal(name: str) -> str:
    parts = name.rstrip("/").split("/")
    if not name.strip("/") or name.startswith("/") or any(part in {"", ".."} for part in parts):
        return "has a name that leads out of the folder"
    if any(character in name for character in "\\:\0") or any(ord(character) < 32 for character in name):
        return "has a name with a character that no file of a data set has"
    return ""


def _refuse(archive: Path, folder: Path, entries: list[_Entry], limits: Limits) -> None:
    for entry in entries:
        name = entry.name.removeprefix("./") if entry.name != "./" else "."
        why = entry.refusal or ("" if entry.is_folder and name in {".", ""} else _name_refusal(name))
        if why:
            raise ArchiveError(f"{archive}: not unpacked: the entry {entry.name!r} {why}")
    total = sum(entry.size for entry in entries)
    if len(entries) > limits.files:
        raise ArchiveError(f"{archive}: not unpacked: it holds more than {limits.files} files")
    if total > limits.bytes:
        raise ArchiveError(f"{archive}: not unpacked: it would fill {in_words(total)} or more")
    packed = max(1, archive.stat().st_size)
    if total > limits.small and total > limits.ratio * packed:
        raise ArchiveError(f"{archive}: not unpacked: {packed} bytes would become {total}, as an archive bomb's do")
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DataError(
            f"{archive}: unpacking needs {in_words(total)}, but {in_words(free)} are free in {folder};"
            " make room, or choose another disk with --into"
        )


def _open_files(archive: Path, kind: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield each file's name and content, in the archive's order; all of them were judged before."""
    if kind == "zip":
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.is_dir():
                    with opened.open(info) as source:
                        yield info.filename, source
        return
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            source = opened.extractfile(member) if member.isreg() else None
            if source is not None:
                with source:
                    yield member.name, source


def _copy(source: IO[bytes], target: Path, allowed: int, archive: Path) -> int:
    """Write a file's content and return its size; the archive's own word for its size isn't relied on."""
    written = 0
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            written += len(block)
            if written > allowed:
                raise ArchiveError(f"{archive}: unpacking stopped: {target.name} is larger than the archive says")
            file.write(block)
    return written
