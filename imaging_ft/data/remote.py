"""What a card says about files on the network: where they are, and how one knows that they came whole."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from imaging_ft.config import Frozen

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Hosts that plain http may name: nothing leaves this machine."""


def refused_url(url: str) -> str:
    """Return why a URL may not be downloaded from, or an empty text: https alone, and http on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        return f"{url!r} is no URL: {error}"
    if parts.scheme not in {"http", "https"} or not host:
        return f"{url!r} is no https:// URL"
    if parts.scheme == "http" and host not in LOOPBACK:
        return f"{url!r} is not encrypted, so anyone on the way can change what arrives; write https://"
    if parts.username is not None or parts.password is not None:
        return "a user name or password stands in the URL; a card is no place for secrets"
    return ""


class Remote(Frozen):
    """One file to download, and what becomes of it."""

    url: str
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    """Of the file's bytes, as hexadecimal text."""
    md5: Annotated[str | None, Field(pattern=r"^[0-9a-f]{32}$")] = None
    """Where the publisher gives only this. It shows damage; against a forger it is weak, and https has to do."""
    bytes: Annotated[int | None, Field(ge=1)] = None
    """The file's size; null where it isn't published."""
    unpack: Literal["none", "zip", "tar"] = "none"
    """none keeps the file; zip and tar (also .tar.gz, .tar.bz2, .tar.xz) unpack it and delete the archive."""
    into: str = ""
    """The folder, relative to the root, that receives the file or the archive's content."""
    name: str = ""
    """The file's name; empty: the last part of the URL."""

    @field_validator("url")
    @classmethod
    def _may_be_downloaded(cls, url: str) -> str:
        why = refused_url(url)
        if why:
            raise ValueError(why)
        return url

    @field_validator("into", "name")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        parts = PurePosixPath(value).parts
        if value.startswith("/") or ".." in parts or re.search(r'[\\:*?"<>|\x00-\x1f]', value):
            raise ValueError("must be a plain relative name with forward slashes, without '..'")
        return value

    @model_validator(mode="after")
    def _can_be_checked(self) -> Self:
        if self.sha256 is None and self.md5 is None:
            raise ValueError(f"{self.url}: no sha256 (or md5, where the publisher gives only that)")
        if not self.file_name or self.file_name != PurePosixPath(self.file_name).name or self.file_name[0] == ".":
            raise ValueError(f"{self.url}: does not end in a file's name; add name: FILE")
        return self

    @property
    def file_name(self) -> str:
        """The name under which the file is stored."""
        return self.name or unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def checksum(self) -> tuple[Literal["sha256", "md5"], str]:
        """The strongest checksum that is known: its algorithm and its value."""
        return ("sha256", self.sha256) if self.sha256 is not None else ("md5", self.md5 or "")


class Variant(Frozen):
    """What differs in another form of a card's images."""

    download: tuple[Remote, ...]
    npz: str | None = None
