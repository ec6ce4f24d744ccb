"""Training recipes: albumentations transforms and the project's own conditions, read from YAML.

A recipe lists transforms as `Name: {parameters}`, in albumentations' own names and parameters; `OneOf`,
`SomeOf` and `Sequential` hold a list `transforms`. `Condition: {name, severity, p}` is a condition of the
registry at a severity drawn uniformly from the range, so that recipe and report speak of the same things.
`Clutter: {layers, strength, p}` lays other training images over an X-ray image as transmissions, and
`Dihedral: {p}` is one of the eight flips and quarter turns (albumentations' D4, for images of any shape).
"""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import cv2
import numpy as np

from imaging_ft import catalog
from imaging_ft.augment import steer
from imaging_ft.augment.quiet import A
from imaging_ft.augment.transforms import transform, why
from imaging_ft.config import Frozen
from imaging_ft.errors import ConfigError
from imaging_ft.types import Levels

Augment = Callable[[Levels, int], Levels]
"""Levels [height, width, channels] and a seed to augmented levels of the same shape."""


class Recipe(Frozen):
    """What training does to its images."""

    name: str
    title: str = ""
    conditions: str | None = None
    """The built-in suite that measures what this recipe trains for; null: by the images' channels."""
    transforms: tuple[dict[str, dict[str, Any]], ...] = ()

    def build(
        self, clutter: Levels | None = None, *, odds: Mapping[str, float] | None = None, only: str | None = None
    ) -> Augment:
        """Return the augmentation; raises ConfigError naming the transform that can't be built.

        `clutter` [n, height, width, channels] is what `Clutter` lays over images; without it, it lays nothing.
        `odds` multiplies the odds of families, 1 where none is named (`steer.weighted`). `only` names the one
        family that is then always drawn, and no other: what a model is validated under (`steer.only`); `odds`
        have no say in it but for clutter, which is part of the scene.
        The augmentation itself raises ConfigError where a transform can't take an image, or returns one of
        another shape or dtype.
        """
        where = f"recipe {self.name}"
        entries = self.transforms
        if only is not None:
            entries = steer.only(entries, only, where=where)
            odds = {name: factor for name, factor in (odds or {}).items() if name == steer.CLUTTER != only}
        if odds:
            entries = steer.weighted(entries, odds, where=where)
        return _Augmentation(self.name, entries, clutter)

    def families(self, *, channels: int | None = None) -> tuple[str, ...]:
        """Return the condition families whose odds can be set, in the recipe's order; clutter is `clutter`.

        For images of a number of channels, those that don't take it (such as `stain` on gray) are left out.
        """
        return steer.families(self.transforms, channels=channels)

    def practised(self) -> list[str]:
        """Return the conditions that training on this recipe has met, sorted."""
        return sorted(steer.practised(self.transforms))

    def without(self, names: Iterable[str]) -> Self:
        """Return the recipe with some families held out, and with them whatever practises the same change.

        Raises ConfigError where a name is neither a condition's nor `clutter`.
        """
        kept = steer.without(self.transforms, names, where=f"recipe {self.name}")
        return self.model_copy(update={"transforms": kept})

    @property
    def lays_clutter(self) -> bool:
        """Whether the recipe has a use for images to lay over others."""
        return any(name == "Clutter" for name, _ in steer.walk(self.transforms))


class _Augmentation:
    """A recipe's pipeline; a worker process that isn't forked is sent what it's made of, and builds it anew."""

    def __init__(self, recipe: str, entries: tuple[steer.Entry, ...], clutter: Levels | None) -> None:
        self._made_of = (recipe, entries, clutter)
        self._where = f"recipe {recipe}"
        self._pipeline = A.Compose([transform(entry, clutter, recipe=recipe) for entry in entries])

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[steer.Entry, ...], Levels | None]]:
        return type(self), self._made_of

    def __call__(self, levels: Levels, seed: int) -> Levels:
        # Not set_random_seed: it gives every transform a generator of the same seed, so that all of them draw
        # alike (two flips always together, and what is drawn half of the time never beyond half its range).
        self._pipeline.set_random_state(np.random.default_rng(seed % 2**32), random.Random(seed))
        try:
            changed = self._pipeline(image=levels)["image"]
        except (ValueError, TypeError, cv2.error) as error:
            raise ConfigError(f"{self._where}: fails on an image {levels.shape}: {why(error)}") from error
        if changed.size != levels.size or changed.shape[:2] != levels.shape[:2] or changed.dtype != np.uint8:
            raise ConfigError(
                f"{self._where}: makes {changed.dtype} {changed.shape} of an image uint8 {levels.shape};"
                " leave out what changes size or type (training resizes and normalizes by itself)"
            )
        return np.ascontiguousarray(changed.reshape(levels.shape))


def load_recipe(name: str) -> Recipe:
    """Return the built-in recipe of a name, or the one in a YAML file; raises ConfigError naming the file."""
    path = catalog.find(name, on="augmentations/recipes")
    recipe = Recipe.from_yaml(path)
    try:
        recipe.build()
        suites = catalog.names("augmentations/conditions")
        if recipe.conditions is not None and recipe.conditions not in suites:
            known = catalog.suggest(recipe.conditions, suites)
            raise ConfigError(f"conditions: no built-in suite {recipe.conditions!r}; {known}")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return recipe
