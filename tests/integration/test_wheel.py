"""The wheel: what is in it, and that its base install predicts and measures where there is no torch."""

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
BUILD_TOWER = ["torch", "torchvision", "timm", "monai", "albumentations", "lightning_fabric"]


class Exported(Protocol):
    """What the session's fixture `exported` holds."""

    @property
    def model(self) -> Path: ...
    @property
    def dataset(self) -> Path: ...
    @property
    def image(self) -> Path: ...


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Return the finished command, run outside the checkout and unaware of the tests' own environment."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    built = _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def host(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the programs' folder of an empty environment that holds the wheel's base install alone."""
    folder = tmp_path_factory.mktemp("host")
    made = _run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stdout + made.stderr
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = [programs / "python", "-m", "pip", "--no-input", "--disable-pip-version-check"]
    installed = _run(*pip, "install", "-q", "-c", CONSTRAINTS, wheel, cwd=folder)
    if installed.returncode != 0:
        # A tiny package tells a machine without an index from a wheel that does not install.
        probe = _run(*pip, "download", "-q", "--no-deps", "-c", CONSTRAINTS, "-d", folder, "mdurl", cwd=folder)
        if probe.returncode != 0:
            pytest.skip("no package index can be reached, so the wheel can't be installed")
        pytest.fail(installed.stdout + installed.stderr)
    yield programs
    shutil.rmtree(folder)  # over 1 GB, which pytest would keep


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _metadata(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (found for found in archive.namelist() if found.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    roots = {name.partition("/")[0] for name in _names(wheel)}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"imaging_ft"}
    modules = {str(path.relative_to(ROOT).as_posix()) for path in (ROOT / "imaging_ft").rglob("*.py")}
    assert modules <= _names(wheel)
    assert "imaging_ft/report/templates/report.html.j2" in _names(wheel)


@pytest.mark.parametrize("shelf", ["datasets", "augmentations", "export/targets"])
def test_the_wheel_holds_every_built_in_file(wheel: Path, shelf: str) -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / shelf).rglob("*.yaml")]
    assert files or shelf == "export/targets"
    assert {f"imaging_ft/_builtin/{name}" for name in files} <= _names(wheel)


def test_the_wheel_asks_for_torch_only_with_the_train_extra(wheel: Path) -> None:
    required = Parser().parsestr(_metadata(wheel, "METADATA")).get_all("Requires-Dist", [])
    torch = [line for line in required if line.startswith("torch")]
    assert torch
    assert all("extra == 'train'" in line for line in torch)
    assert "imaging-ft = imaging_ft.__main__:main" in _metadata(wheel, "entry_points.txt")


def test_the_base_install_has_no_library_of_the_build_tower(host: Path, tmp_path: Path) -> None:
    program = (
        "import importlib.util, imaging_ft, sys; print(imaging_ft.__file__);"
        "print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    )
    done = _run(host / "python", "-c", program, *BUILD_TOWER, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    place, found = done.stdout.split("\n")[:2]
    assert Path(place).is_relative_to(host.parent)
    assert found == ""


def test_the_base_install_shows_its_help(host: Path, tmp_path: Path) -> None:
    done = _run(host / "imaging-ft", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"predict", "report", "train"} <= set(done.stdout.split())


def test_the_base_install_predicts(host: Path, exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = _run(host / "imaging-ft", "predict", exported.model, exported.image, "-o", out, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    with out.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["status"] == "ok"
    assert 0.0 < float(row["probability"]) <= 1.0
    assert float(row[f"p_{row['label']}"]) == pytest.approx(float(row["probability"]))


def test_the_base_install_measures(host: Path, exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "report"
    done = _run(host / "imaging-ft", "report", exported.model, exported.dataset, "--out", out, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["schema"] == "imaging_ft.report/1"
    assert report["overall"]["n"] > 0
    assert report["cells"]
    assert (out / "index.html").stat().st_size > 0
    assert (out / "cells.csv").stat().st_size > 0


def test_the_base_install_says_what_training_needs(host: Path, exported: Exported, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = _run(host / "imaging-ft", "train", exported.dataset, "--out", run, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "imaging-ft[train]" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
