"""The shape of the repository: what may be imported where, what is pinned, what lies in which folder."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "imaging_ft"
MODULES = sorted(PACKAGE.rglob("*.py"))

HEAVY = ["torch", "timm", "monai", "albumentations", "onnxruntime", "cv2", "polars", "matplotlib"]
BUILD_TOWER = ["torch", "torchvision", "timm", "monai", "albumentations", "lightning_fabric"]
RUN_TOWER = [
    "imaging_ft.inference",
    "imaging_ft.report",
    "imaging_ft.augment.conditions",
    "imaging_ft.bundle",
    "imaging_ft.preprocess",
    "imaging_ft.image",
    "imaging_ft.data",
]
IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.]+")
# Folders of somebody's machine; a relative path or an address that holds the same word doesn't match.
FOLDERS = ["work", "home", "root", "Users"]
HOME = re.compile(rf"(?<![\w.~}}-])/(?:{'|'.join(FOLDERS)})/\w|\b[A-Z]:\\Users\b")


def _imported_after(program: str, *arguments: str) -> set[str]:
    """Return the top-level modules that a fresh interpreter holds after running the program."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _project() -> dict[str, list[str]]:
    """Return the requirements of pyproject.toml by extra; the base install's under an empty name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def _pins() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _repository_files() -> list[Path]:
    """Return the files that git tracks, or would track once they are added."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files are tracked is not known")
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def test_the_command_line_imports_nothing_heavy() -> None:
    program = "import imaging_ft.cli, sys; assert 'torch' not in sys.modules; print(*sys.modules)"
    assert not _imported_after(program).intersection(HEAVY)


def test_the_run_tower_never_imports_the_build_towers_libraries() -> None:
    assert not _imported_after(IMPORT_ALL, *RUN_TOWER).intersection(BUILD_TOWER)


def test_the_top_level_is_the_agreed_one() -> None:
    for folder in ["imaging_ft", "datasets", "augmentations", "export", "tests", "sample_data"]:
        assert (ROOT / folder).is_dir(), folder
    assert (ROOT / "pyproject.toml").is_file()


def test_imaging_ft_is_the_only_importable_root_folder() -> None:
    others = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path != PACKAGE]
    kept_out = [path for path in others if path.name not in {"runs", "build", "dist"}]
    assert [str(found) for path in kept_out for found in path.rglob("__init__.py")] == []


def test_every_package_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in MODULES}
    parents = {parent for folder in folders for parent in folder.parents if PACKAGE in (parent, *parent.parents)}
    assert [str(folder) for folder in folders | parents if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_and_checks_without_assert(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 400, "at 400 lines a file is two files"
    asserts = [node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    assert asserts == [], "input is checked by raising; python -O drops an assert"


def test_onnxruntime_is_told_to_report_to_nobody_before_it_is_loaded() -> None:
    code = "import os, sys, imaging_ft; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"


def test_constraints_are_exact_pins_and_name_no_host() -> None:
    assert [line for line in _pins() if not PIN.fullmatch(line)] == []
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert re.search(r"^\s*(-|--)", text, flags=re.MULTILINE) is None, "an option of pip"


def test_every_requirement_that_applies_here_is_pinned_within_its_range() -> None:
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in _pins())}
    for extra, requirements in _project().items():
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate():
                version = pins.get(canonicalize_name(requirement.name))
                assert version is not None, f"{requirement.name} ({extra or 'base'}) has no pin"
                assert requirement.specifier.contains(version), f"{requirement} does not allow {version}"


def test_the_base_install_asks_for_no_library_of_the_build_tower() -> None:
    base = {canonicalize_name(Requirement(line).name) for line in _project()[""]}
    assert not base.intersection(canonicalize_name(name) for name in BUILD_TOWER)


def test_no_tracked_file_names_a_folder_of_somebodys_machine() -> None:
    found: list[str] = []
    for path in _repository_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode("utf-8", errors="replace").splitlines(), start=1):
            if HOME.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []
