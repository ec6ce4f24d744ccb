"""The page in a real browser: it fits a phone, asks for nothing, and needs no script."""

import re
import shutil
import subprocess
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from imaging_ft.report.page import render_page, write_page
from imaging_ft.report.result import Report
from tests.report.rich import pictures, rich_report
from tests.report.test_page import fake_report

CHROMIUM = next((found for name in ("chromium", "chromium-browser") if (found := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)")
CHROMIUM_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
)


def chromium(profile: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    assert CHROMIUM is not None
    command = [CHROMIUM, *CHROMIUM_OPTIONS, f"--user-data-dir={profile}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@needs_chromium
@pytest.mark.parametrize("report", [fake_report(), rich_report()], ids=["few parts", "all parts"])
def test_a_phone_shows_the_page_without_scrolling_sideways(report: Report, tmp_path: Path) -> None:
    write_page(report, tmp_path / "index.html", pictures(report))
    probe = tmp_path / "probe.html"
    probe.write_text(
        '<iframe id="f" src="index.html" style="width:390px;height:844px;border:0"></iframe><p id="out"></p>'
        "<script>onload = () => { const page = document.getElementById('f').contentDocument;"
        "page.querySelectorAll('details').forEach(one => one.open = true);"
        "const root = page.documentElement; document.getElementById('out').textContent ="
        " `width ${root.scrollWidth} height ${root.scrollHeight}`; }</script>",
        encoding="utf-8",
    )
    done = chromium(tmp_path / "profile", "--dump-dom", probe.as_uri())
    found = re.search(r"width (\d+) height (\d+)", done.stdout)
    assert found is not None, done.stderr
    assert int(found[1]) <= 390
    assert int(found[2]) > 2000


class Recorder(BaseHTTPRequestHandler):
    """A proxy that answers one page, whatever the host, and remembers what it was asked for."""

    page = b""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Security-Policy", "sandbox")  # no script runs, as where JavaScript is switched off
        self.end_headers()
        self.wfile.write(self.page if "report.test" in self.path else b"")

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_error(502)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@needs_chromium
def test_a_browser_asks_for_nothing_but_the_page_and_shows_it_without_scripts(tmp_path: Path) -> None:
    report = rich_report()
    Recorder.page, Recorder.asked[:] = render_page(report, pictures(report)).encode(), []
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        done = chromium(
            tmp_path / "profile",
            f"--proxy-server=http://127.0.0.1:{proxy.server_port}",
            *("--enable-logging=stderr", "--window-size=1280,900"),
            *(f"--screenshot={tmp_path / 'page.png'}", "http://report.test/index.html"),
        )
        proxy.shutdown()
    # Some builds of the browser ask its maker for updates and the time, whatever page they show.
    asked = [path for path in Recorder.asked if not re.search(r"\.google(apis)?\.com[:/]", path)]
    assert asked == ["http://report.test/index.html"]
    assert "CONSOLE" not in done.stderr
    shown = np.asarray(Image.open(tmp_path / "page.png").convert("L"))
    assert shown.std() > 10
