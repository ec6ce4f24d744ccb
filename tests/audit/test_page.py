"""The page: offline, escaped, small, with pictures."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from imaging_ft.audit.check import Checked, check_dataset
from imaging_ft.audit.page import refuse_folder, render_page, write_page
from imaging_ft.errors import InputError
from tests.conftest import write_dataset


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_is_one_small_offline_file_with_pictures(checked: Checked, tmp_path: Path) -> None:
    page, data = write_page(checked, tmp_path / "out")
    text = page.read_text(encoding="utf-8")
    assert len(text) < 5_000_000
    parser = _Links()
    parser.feed(text)
    assert all(link.startswith(("data:", "#")) for link in parser.links)
    assert sum(link.startswith("data:image/jpeg") for link in parser.links) > 5
    assert "<script" not in text
    jumps = [link for link in parser.links if link.startswith("#finding-")]
    assert len(jumps) == len(checked.check.findings)
    assert all(f'id="{link[1:]}"' in text for link in jumps)
    assert text.index("problems to mend") < text.index('id="findings"') < text.index('id="counts"')
    assert json.loads(data.read_text())["schema"] == "imaging_ft.check/1"
    assert text == render_page(checked)


def test_names_from_the_data_set_are_escaped(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data")
    manifest.write_text(manifest.read_text().replace(",ring,", ",<b>ring,"))
    text = render_page(check_dataset(str(manifest), fast=True))
    assert "<b>ring" not in text
    assert "&lt;b&gt;ring" in text
    assert not re.search(r"\bNone\b", text)


def test_the_page_does_not_go_among_the_class_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match="lies inside the data set"):
        refuse_folder(str(tmp_path), tmp_path / "out")
    refuse_folder(str(tmp_path), tmp_path.parent / "out")
