"""The host programs, made ready to run: installed or built once, outside the checkout; skipped where they can't be."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.export.hosts_browser import CHROMIUM, show

SOURCE = Path(__file__).parents[2] / "export" / "hosts"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imaging-ft-tests"
KINDS = ("python", "node", "browser", "cpp-onnxruntime", "cpp-opencv")
SECONDS = 240


@dataclass(frozen=True)
class Answer:
    """What a host said of a model and of images."""

    code: int
    said: dict[str, tuple[str, float]]
    """Label and probability by the image's path."""
    errors: list[str]
    """A line for each thing that went wrong."""


Host = Callable[[Path, Sequence[Path]], Answer]
"""Takes a model and images."""


def ready(kind: str, folder: Path) -> Host:
    """Return a host that is ready to run, from a copy in `folder`; skips, with the reason, where it can't be."""
    hosts = Path(shutil.copytree(SOURCE, folder / "hosts"))
    if kind == "python":
        return _program([sys.executable, str(hosts / "python" / "predict.py")])
    if kind == "node":
        _install(hosts / "node")
        return _program(["node", str(hosts / "node" / "predict.mjs")])
    if kind == "browser":
        return _browser(browser(hosts))
    return _program([str(_built(hosts, kind))])


def browser(hosts: Path) -> Path:
    """Return the folder of the page, with its runtime beside it."""
    if CHROMIUM is None:
        pytest.skip("not run here: chromium is not installed (Debian: apt install chromium)")
    _install(hosts / "browser")
    return hosts


def _program(command: list[str]) -> Host:
    def run(model: Path, images: Sequence[Path]) -> Answer:
        done = subprocess.run(
            [*command, str(model), *map(str, images)], capture_output=True, text=True, timeout=SECONDS
        )
        said: dict[str, tuple[str, float]] = {}
        for line in done.stdout.splitlines():
            path, label, probability, time = line.split("\t")
            assert re.fullmatch(r"\d+\.\d ms", time), line
            said[path] = (label, float(probability))
        return Answer(done.returncode, said, done.stderr.splitlines())

    return run


def _browser(hosts: Path) -> Host:
    """A page has no exit code: what it shows stands for it."""

    def run(model: Path, images: Sequence[Path]) -> Answer:
        opened, *shown = show(hosts, [model, *[path for path in images if path.exists()]])
        errors = [one["error"] for one in (opened, *shown) if one["error"]]
        errors += [f"{path}: no such image file" for path in images if not path.exists()]
        said = {
            str(path): (one["label"].replace(", ", "|"), one["probability"])
            for path, one in zip([path for path in images if path.exists()], shown, strict=True)
            if one["label"] is not None
        }
        code = 0 if not errors else 1 if "self-test failed" in errors[0] else 2
        return Answer(code, said, errors)

    return run


def _install(package: Path) -> None:
    """Put a package's libraries into it, from the cache or the npm registry."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("not run here: node and npm are not installed (Debian: apt install nodejs npm)")

    def install(made: Path) -> None:
        for name in ("package.json", ".npmrc"):
            shutil.copy(package / name, made)
        command = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=60000"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True, timeout=SECONDS)
        if done.returncode != 0:
            why = [line for line in done.stderr.splitlines() if line.strip()]
            pytest.skip(f"not run here: npm install failed: {why[0] if why else 'no reason given'}")

    cached = _cached(package.name, [package / "package.json", package / ".npmrc"], install)
    (package / "node_modules").symlink_to(cached / "node_modules")


def _built(hosts: Path, kind: str) -> Path:
    """Return the program of a C++ host, from the cache or compiled."""
    if shutil.which("cmake") is None:
        pytest.skip("not run here: cmake is not installed (Debian: apt install cmake g++)")
    options: list[str] = []
    if kind == "cpp-onnxruntime":
        roots = [Path(root) for root in (os.environ.get("ORT_ROOT"), "/usr/local", "/usr") if root]
        header = [Path("include") / part / "onnxruntime_cxx_api.h" for part in ("", "onnxruntime")]
        root = next((root for root in roots for one in header if (root / one).is_file()), None)
        if root is None:
            pytest.skip("not run here: no onnxruntime headers (set ORT_ROOT to a release of it)")
        options = [f"-DORT_ROOT={root}"]

    def build(made: Path) -> None:
        configure = ["cmake", "-S", str(hosts / kind), "-B", str(made), *options]
        done = subprocess.run(configure, capture_output=True, text=True, timeout=SECONDS)
        missing = re.search(r"OpenCVConfig\.cmake|JSON_INCLUDE_DIR|CMAKE_CXX_COMPILER", done.stderr)
        if missing and done.returncode != 0:
            pytest.skip(
                f"not run here: {kind} lacks {missing[0]} (Debian: apt install g++ libopencv-dev nlohmann-json3-dev)"
            )
        assert done.returncode == 0, done.stderr
        done = subprocess.run(["cmake", "--build", str(made)], capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr

    sources = sorted([*(hosts / kind).iterdir(), *(hosts / "cpp").iterdir()])
    return _cached(kind, sources, build, *options) / "predict"


def _cached(name: str, sources: Sequence[Path], make: Callable[[Path], None], *more: str) -> Path:
    """Return a folder that `make` has filled, once for what the sources hold; never one that is half done."""
    digest = hashlib.sha256("\0".join(more).encode())
    for path in sources:
        digest.update(path.read_bytes())
    kept = CACHE / f"{name}-{digest.hexdigest()[:16]}"
    if not kept.is_dir():
        made = CACHE / f".{kept.name}-{os.getpid()}"
        made.mkdir(parents=True)
        try:
            make(made)
            if not kept.is_dir():
                made.rename(kept)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return kept
