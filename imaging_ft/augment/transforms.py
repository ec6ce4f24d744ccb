"""From an entry of a recipe to the transform that it names, with errors that name both."""

import math
import re
import warnings
from difflib import get_close_matches
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from imaging_ft.augment.clutter import Clutter
from imaging_ft.augment.conditions import condition, to_float, to_pixels
from imaging_ft.augment.quiet import A
from imaging_ft.config import Frozen, reason
from imaging_ft.errors import ConfigError
from imaging_ft.types import Levels

_GROUPS: dict[str, type[A.BaseCompose]] = {"OneOf": A.OneOf, "SomeOf": A.SomeOf, "Sequential": A.Sequential}

_FORM = "each transform is one 'Name: {parameters}'"

_PYDANTIC = re.compile(
    r"validation errors? for .*\n(?P<parameter>\w+).*\n\s*(?P<what>.*?) \[type=.*?input_value=(?P<value>.*), input_type"
)


def transform(entry: Any, clutter: Levels | None, *, recipe: str) -> Any:
    """Return the albumentations transform of one entry; raises ConfigError naming the recipe and the entry.

    `clutter` [n, height, width, channels] is what `Clutter` lays over images; without it, it does nothing.
    """
    if not isinstance(entry, dict) or len(entry) != 1:  # those inside a group were not checked with the file
        raise ConfigError(f"recipe {recipe}: {_FORM}, not {entry!r}")
    name, parameters = next(iter(entry.items()))
    where = f"recipe {recipe}: {name}"
    if not isinstance(parameters, dict):
        raise ConfigError(f"{where}: {_FORM}, not {parameters!r}; {{}} holds none")
    if name == "Condition":
        return _condition(parameters, where=where)
    if name == "Clutter":
        return _clutter(parameters, clutter, where=where)
    if name == "Dihedral":
        return _built(_Dihedral, parameters, where)
    if name in _GROUPS:
        inner = parameters.get("transforms")
        if not isinstance(inner, list) or not inner:
            raise ConfigError(f"{where}: needs a list 'transforms'")
        members = [transform(nested, clutter, recipe=recipe) for nested in inner]
        return _built(_GROUPS[name], parameters | {"transforms": members}, where)
    kinds = _kinds()
    if name not in kinds:
        known = sorted((*kinds, *_GROUPS, "Clutter", "Condition", "Dihedral"))
        raise ConfigError(f"{where}: albumentations has no such transform; {_nearest(name, known)}")
    return _built(kinds[name], parameters, where)


def why(error: Exception) -> str:
    """Return albumentations' reason in one line; its checks are pydantic's, whose first line names nothing."""
    of_pydantic = _PYDANTIC.search(str(error))
    if of_pydantic is None:
        return " ".join(reason(error).split())
    return f"{of_pydantic['parameter']}: {of_pydantic['what']} (got {of_pydantic['value']})"


class _ConditionTransform(A.ImageOnlyTransform):
    """A condition of the registry at a severity drawn uniformly from a range, on uint8 levels.

    Images of a number of channels that the condition doesn't take stay as they are: one recipe serves both.
    """

    def __init__(self, name: str, severity: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.condition = condition(name, where="recipe")
        self.severity = severity

    def apply(self, img: Levels, severity: float, seed: int, **_: Any) -> Levels:
        if img.shape[2] not in self.condition.channels:
            return img
        rng = np.random.default_rng(seed)
        changed = self.condition.apply(to_float(img), self.condition.value(severity), rng)
        return to_pixels(changed, np.dtype(np.uint8)).astype(np.uint8, copy=False)

    def get_params(self) -> dict[str, Any]:
        return {"severity": self.py_random.uniform(*self.severity), "seed": self.py_random.getrandbits(63)}


class _Dihedral(A.ImageOnlyTransform):
    """One of the eight flips and quarter turns; of an image that isn't square, one of the four that keep its size."""

    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p=p)

    def apply(self, img: Levels, way: int, **_: Any) -> Levels:
        flipped = img[:: 1 if way & 1 else -1, :: 1 if way & 2 else -1]
        square = img.shape[0] == img.shape[1]
        return np.ascontiguousarray(flipped.transpose(1, 0, 2) if way & 4 and square else flipped)

    def get_params(self) -> dict[str, Any]:
        return {"way": self.py_random.randrange(8)}


class _ClutterParameters(Frozen):
    layers: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 3)
    strength: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.2, 1.2)
    thickest: Annotated[float, Field(gt=0)] = math.inf
    p: Annotated[float, Field(ge=0, le=1)] = 0.8

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        if self.layers[0] > self.layers[1] or self.strength[0] > self.strength[1]:
            raise ValueError("layers and strength are ranges: LOW before HIGH")
        return self


class _ConditionParameters(Frozen):
    name: str
    severity: tuple[float, float] = (0, 5)
    p: float = 1.0


def _condition(parameters: dict[str, Any], *, where: str) -> A.ImageOnlyTransform:
    values = _ConditionParameters.checked(parameters, where=where)
    low, high = values.severity
    if not 0 <= low <= high <= 5 or not 0 <= values.p <= 1:
        raise ConfigError(f"{where}: severity must rise within 0 to 5, and p lie within 0 to 1")
    condition(values.name, where=where)
    return _ConditionTransform(values.name, values.severity, values.p)


def _clutter(parameters: dict[str, Any], pool: Levels | None, *, where: str) -> A.ImageOnlyTransform:
    values = _ClutterParameters.checked(parameters, where=where)
    if pool is None or not len(pool):
        return A.NoOp(p=values.p)  # pyright: ignore[reportReturnType] - a transform that does nothing
    return Clutter(pool, layers=values.layers, strength=values.strength, thickest=values.thickest, p=values.p)


def _built(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # albumentations only warns of an unknown parameter
            return kind(**values)
    except (TypeError, ValueError, UserWarning) as error:
        raise ConfigError(f"{where}: {why(error)}") from error


def _kinds() -> dict[str, type[A.BasicTransform]]:
    """Return albumentations' transforms by name."""
    found = {name: getattr(A, name) for name in dir(A)}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, A.BasicTransform)}


def _nearest(name: str, known: list[str]) -> str:
    """Return the end of an error message; albumentations has a hundred names, too many to list."""
    close = get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else "names and parameters are albumentations' own"
