"""The PDF: printed by a real browser, and one clear line where there is none or it fails."""

import os
import re
import shutil
from pathlib import Path

import pytest

from imaging_ft.errors import InputError
from imaging_ft.report import pdf
from imaging_ft.report.page import write_page
from imaging_ft.report.pdf import BROWSERS, VARIABLE, find_browser, write_pdf
from tests.report.rich import pictures, rich_report

needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)),
    reason="no Chromium, Chrome or Edge is installed (Debian: apt install chromium)",
)
needs_shell = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for a browser")


def page(folder: Path) -> Path:
    report = rich_report()
    path = folder / "index.html"
    write_page(report, path, pictures(report))
    return path


def browser(folder: Path, script: str) -> str:
    """Write a program that stands in for a browser, and return its path."""
    path = folder / "browser"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def pages(pdf_file: Path) -> int:
    """Return how many pages a PDF has: the count at the root of its tree of pages."""
    return max(int(count) for count in re.findall(rb"/Count (\d+)", pdf_file.read_bytes()))


@needs_browser
def test_the_page_is_printed_and_what_is_folded_away_with_it(tmp_path: Path) -> None:
    printed = page(tmp_path)
    write_pdf(printed, tmp_path / "report.pdf")
    content = (tmp_path / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report.pdf"]
    less = re.sub(r"<details>.*?</details>", "", printed.read_text(encoding="utf-8"), flags=re.DOTALL)
    printed.write_text(less, encoding="utf-8")
    write_pdf(printed, tmp_path / "less.pdf")
    assert pages(tmp_path / "report.pdf") > pages(tmp_path / "less.pdf") > 5


def test_without_a_browser_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"needs a browser, and none of chromium, .* is on PATH; install one"
    ) as raised:
        write_pdf(tmp_path / "index.html", tmp_path / "report.pdf")
    assert VARIABLE in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_named_browser_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nothing"))
    with pytest.raises(InputError, match=rf"{VARIABLE}=.*nothing: no program there"):
        find_browser()


@needs_shell
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo first >&2; echo 'no display' >&2; exit 3", r"exit code 3 while printing: no display; try another"),
        ("exit 0", r"printed no PDF to .*report\.pdf"),
        ('for one in "$@"; do case $one in --print-to-pdf=*) echo junk > "${one#*=}";; esac; done', r"printed no PDF"),
        ("exec sleep 60", r"printed nothing within 0\.5 s"),
    ],
    ids=["fails", "prints nothing", "prints junk", "hangs"],
)
def test_a_browser_that_fails_leaves_the_old_pdf_and_no_half_file(
    script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, browser(tmp_path, script))
    monkeypatch.setattr(pdf, "TIMEOUT", 0.5 if "sleep" in script else 60.0)
    (tmp_path / "index.html").write_text("<p>page", encoding="utf-8")
    (tmp_path / "report.pdf").write_bytes(b"%PDF-old")
    with pytest.raises(InputError, match=said):
        write_pdf(tmp_path / "index.html", tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes() == b"%PDF-old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["browser", "index.html", "report.pdf"]


@needs_shell
def test_the_browser_gets_a_profile_of_its_own_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    script = f'printf "%s\\n" "$@" > {told}; for one in "$@"; do case $one in'
    script += ' --print-to-pdf=*) printf "%%PDF-1.4" > "${one#*=}";; esac; done'
    monkeypatch.setenv(VARIABLE, browser(tmp_path, script))
    write_pdf(tmp_path / "index.html", tmp_path / "report.pdf")
    options = told.read_text(encoding="utf-8").splitlines()
    (profile,) = [one.partition("=")[2] for one in options if one.startswith("--user-data-dir=")]
    assert not Path(profile).exists()
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in options
    assert options[-1] == (tmp_path / "index.html").as_uri()
