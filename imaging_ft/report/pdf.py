"""The page on paper: printed to PDF by a Chromium that is installed."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from imaging_ft.config import reason
from imaging_ft.errors import InputError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
VARIABLE = "IMAGING_FT_CHROMIUM"
"""The environment variable that names another browser."""
TIMEOUT = 120.0
"""Seconds that printing may take."""

_OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    # The page asks for nothing; this holds the browser itself, too: no name resolves.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--no-pdf-header-footer",
)


def find_browser() -> str:
    """Return the path of a Chromium, Chrome or Edge; raises InputError where none is found."""
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise InputError(f"{VARIABLE}={named}: no program there; name the Chromium, Chrome or Edge to print with")
        return found
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise InputError(
            f"the PDF needs a browser, and none of {', '.join(BROWSERS)} is on PATH; install one (Debian: apt install"
            f" chromium), name one in {VARIABLE}, or print index.html from any browser"
        )
    return found


def write_pdf(page: Path, out: Path) -> None:
    """Print a page to a PDF file, headless, without network and with a profile of its own.

    Raises InputError where no browser is found, or where it fails or takes longer than two minutes.
    """
    browser = find_browser()
    temporary = out.with_name(f"{out.stem}.{os.getpid()}.part.pdf")
    with tempfile.TemporaryDirectory(prefix="imaging_ft-", ignore_cleanup_errors=True) as profile:
        # Root has no sandbox in Chromium; the page holds no script.
        root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        command = [browser, *_OPTIONS, *root, f"--user-data-dir={profile}", f"--print-to-pdf={temporary.resolve()}"]
        try:
            _run([*command, page.resolve().as_uri()], browser)
            if not temporary.is_file() or temporary.read_bytes()[:5] != b"%PDF-":
                raise InputError(f"{browser}: printed no PDF to {out}; try another browser with {VARIABLE}")
            temporary.replace(out)
        except OSError as error:
            raise InputError(f"{out}: the PDF can't be written: {reason(error)}") from error
        finally:
            temporary.unlink(missing_ok=True)


def _run(command: list[str], browser: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{browser}: printed nothing within {TIMEOUT:g} s; try another browser with {VARIABLE}"
        ) from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise InputError(f"{browser}: exit code {done.returncode} while printing{why}; try another with {VARIABLE}")
