"""The built-in files (cards, recipes, suites, targets), in a checkout and in a wheel alike."""

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from imaging_ft.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_SHOWN = 20

Shelf = Literal["datasets", "augmentations/recipes", "augmentations/conditions", "export/targets"]

_KIND: dict[Shelf, str] = {
    "datasets": "dataset card",
    "augmentations/recipes": "augmentation recipe",
    "augmentations/conditions": "condition suite",
    "export/targets": "deployment target",
}


def shelf(name: Shelf) -> Path:
    """Return a folder of built-in files, in the wheel or beside the package in a checkout."""
    installed = _PACKAGE / "_builtin" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def names(on: Shelf) -> list[str]:
    """Return the names of the built-in files on a shelf, sorted."""
    return sorted(path.stem for path in shelf(on).glob("*.yaml"))


def find(name: str, *, on: Shelf) -> Path:
    """Return the built-in file called `name`, or the user's own file where `name` is a path to a YAML file.

    Raises ConfigError, with the nearest name, where there is neither.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ConfigError(f"no {_KIND[on]} at {path}: the file does not exist")
    built_in = shelf(on) / f"{name}.yaml"
    if built_in.parent == shelf(on) and built_in.is_file():
        return built_in
    raise ConfigError(f"no {_KIND[on]} named {name!r}; {suggest(name, names(on))}")


def suggest(wrong: str, known: list[str]) -> str:
    """Return the end of an error message that names what was probably meant, or all there is."""
    folded = {name.casefold(): name for name in reversed(known)}
    close = get_close_matches(wrong.casefold(), list(folded), n=1)
    if close:
        return f"did you mean {folded[close[0]]!r}?"
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"there are: {', '.join(known[:_SHOWN])}{more}" if known else "there are none"
