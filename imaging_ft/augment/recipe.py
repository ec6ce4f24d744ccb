"""Training recipes: albumentations transforms and the project's own conditions, read from YAML.

A recipe lists transforms as `Name: {parameters}`, in albumentations' own names and parameters; `OneOf`,
`SomeOf` and `Sequential` hold a list `transforms`. `Condition: {name, severity, p}` is a condition of the
registry at a severity drawn uniformly from the range, so that recipe and report speak of the same things.
`Clutter: {layers, strength, p}` lays other training images over an X-ray image as transmissions.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Annotated, Any, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from imaging_ft import catalog
from imaging_ft.augment.clutter import Clutter
from imaging_ft.augment.conditions import condition, to_float, to_pixels
from imaging_ft.augment.quiet import A
from imaging_ft.config import Frozen, reason
from imaging_ft.errors import ConfigError
from imaging_ft.types import Levels

_GROUPS: dict[str, type[A.BaseCompose]] = {"OneOf": A.OneOf, "SomeOf": A.SomeOf, "Sequential": A.Sequential}

_SAME_AS: dict[str, tuple[str, ...]] = {
    "Rotate": ("roll", "position_roll"),
    "SafeRotate": ("roll", "position_roll"),
    "Affine": ("roll", "position_roll"),
    "ShiftScaleRotate": ("roll", "position_roll"),
    "Perspective": ("yaw", "pitch"),
    "RandomGamma": ("tube_voltage", "dense_shield"),
    "RandomBrightnessContrast": ("window_shift", "over_exposure"),
}
"""Which conditions a transform of albumentations practises, so that a report can say so."""

_PYDANTIC = re.compile(
    r"validation errors? for .*\n(?P<parameter>\w+).*\n\s*(?P<what>.*?) \[type=.*?input_value=(?P<value>.*), input_type"
)

Augment = Callable[[Levels, int], Levels]
"""Levels [height, width, channels] and a seed to augmented levels of the same shape."""


class Recipe(Frozen):
    """What training does to its images."""

    name: str
    title: str = ""
    transforms: tuple[dict[str, dict[str, Any]], ...] = ()

    def build(self, clutter: Levels | None = None) -> Augment:
        """Return the augmentation; raises ConfigError naming the transform that can't be built.

        `clutter` [n, height, width, channels] is what `Clutter` lays over images; without it, it lays nothing.
        The augmentation itself raises ConfigError where a transform can't take an image, or returns one of
        another shape or dtype.
        """
        pipeline = A.Compose([self._transform(entry, clutter) for entry in self.transforms])

        def augment(levels: Levels, seed: int) -> Levels:
            pipeline.set_random_seed(seed % 2**32)
            try:
                changed = pipeline(image=levels)["image"]
            except (ValueError, TypeError, cv2.error) as error:
                raise ConfigError(f"recipe {self.name}: fails on an image {levels.shape}: {_why(error)}") from error
            if changed.size != levels.size or changed.shape[:2] != levels.shape[:2] or changed.dtype != np.uint8:
                raise ConfigError(
                    f"recipe {self.name}: makes {changed.dtype} {changed.shape} of an image uint8 {levels.shape};"
                    " leave out what changes size or type (training resizes and normalizes by itself)"
                )
            return np.ascontiguousarray(changed.reshape(levels.shape))

        return augment

    def practised(self) -> list[str]:
        """Return the conditions that training on this recipe has met, sorted."""
        found: set[str] = set()
        for name, parameters in _walk(self.transforms):
            if name == "Condition":
                found.add(str(parameters.get("name")))
            if name != "Affine" or parameters.get("rotate"):
                found.update(_SAME_AS.get(name, ()))
        if "roll" in found or "position_roll" in found:
            found.update(("roll", "position_roll"))  # one transform, two scales of severity
        return sorted(found)

    @property
    def lays_clutter(self) -> bool:
        """Whether the recipe has a use for images to lay over others."""
        return any(name == "Clutter" for name, _ in _walk(self.transforms))

    def _transform(self, entry: Any, clutter: Levels | None) -> Any:
        """Return the transform of one entry; those inside a group were not checked when the file was read."""
        form = "each transform is one 'Name: {parameters}'"
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ConfigError(f"recipe {self.name}: {form}, not {entry!r}")
        name, parameters = next(iter(entry.items()))
        where = f"recipe {self.name}: {name}"
        if not isinstance(parameters, dict):
            raise ConfigError(f"{where}: {form}, not {parameters!r}; {{}} holds none")
        if name == "Condition":
            return _condition_transform(parameters, where=where)
        if name == "Clutter":
            values = _ClutterParameters.checked(parameters, where=where)
            if clutter is None or not len(clutter):
                return A.NoOp(p=values.p)
            return Clutter(clutter, layers=values.layers, strength=values.strength, p=values.p)
        if name in _GROUPS:
            inner = parameters.get("transforms")
            if not isinstance(inner, list) or not inner:
                raise ConfigError(f"{where}: needs a list 'transforms'")
            return self._built(
                _GROUPS[name],
                {**parameters, "transforms": [self._transform(nested, clutter) for nested in inner]},
                where,
            )
        kinds = _transforms()
        if name not in kinds:
            known = sorted((*kinds, *_GROUPS, "Condition", "Clutter"))
            raise ConfigError(f"{where}: albumentations has no such transform; {_nearest(name, known)}")
        return self._built(kinds[name], parameters, where)

    def _built(self, kind: type[Any], values: dict[str, Any], where: str) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # albumentations only warns of an unknown parameter
                return kind(**values)
        except (TypeError, ValueError, UserWarning) as error:
            raise ConfigError(f"{where}: {_why(error)}") from error


def load_recipe(name: str) -> Recipe:
    """Return the built-in recipe of a name, or the one in a YAML file; raises ConfigError naming the file."""
    path = catalog.find(name, on="augmentations/recipes")
    recipe = Recipe.from_yaml(path)
    try:
        recipe.build()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return recipe


class _ConditionTransform(A.ImageOnlyTransform):
    """A condition of the registry at a severity drawn uniformly from a range, on uint8 levels."""

    def __init__(self, name: str, severity: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.condition = condition(name, where="recipe")
        self.severity = severity

    def apply(self, img: Levels, severity: float, seed: int, **_: Any) -> Levels:
        rng = np.random.default_rng(seed)
        changed = self.condition.apply(to_float(img), self.condition.value(severity), rng)
        return to_pixels(changed, np.dtype(np.uint8)).astype(np.uint8, copy=False)

    def get_params(self) -> dict[str, Any]:
        return {"severity": self.py_random.uniform(*self.severity), "seed": self.py_random.getrandbits(63)}


class _ClutterParameters(Frozen):
    layers: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (1, 3)
    strength: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.2, 1.2)
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


def _condition_transform(parameters: dict[str, Any], *, where: str) -> A.ImageOnlyTransform:
    values = _ConditionParameters.checked(parameters, where=where)
    low, high = values.severity
    if not 0 <= low <= high <= 5 or not 0 <= values.p <= 1:
        raise ConfigError(f"{where}: severity must rise within 0 to 5, and p lie within 0 to 1")
    condition(values.name, where=where)
    return _ConditionTransform(values.name, values.severity, values.p)


def _transforms() -> dict[str, type[A.BasicTransform]]:
    """Return albumentations' transforms by name."""
    found = {name: getattr(A, name) for name in dir(A)}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and issubclass(kind, A.BasicTransform)}


def _why(error: Exception) -> str:
    """Return albumentations' reason in one line; its checks are pydantic's, whose first line names nothing."""
    of_pydantic = _PYDANTIC.search(str(error))
    if of_pydantic is None:
        return " ".join(reason(error).split())
    return f"{of_pydantic['parameter']}: {of_pydantic['what']} (got {of_pydantic['value']})"


def _nearest(name: str, known: list[str]) -> str:
    """Return the end of an error message; albumentations has a hundred names, too many to list."""
    close = get_close_matches(str(name), known, n=1)
    return f"did you mean {close[0]!r}?" if close else "names and parameters are albumentations' own"


def _walk(transforms: Iterable[dict[str, dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for entry in transforms:
        for name, parameters in entry.items():
            yield name, parameters
            yield from _walk(parameters.get("transforms", []))
