"""Condition suites: what a report is measured under, read from YAML."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Self

from pydantic import Field, model_validator

from imaging_ft import catalog
from imaging_ft.augment.conditions.base import Condition, seeded, to_float, to_pixels
from imaging_ft.augment.conditions.registry import condition
from imaging_ft.config import Frozen
from imaging_ft.errors import ConfigError
from imaging_ft.types import Axis, Pixels

Severity = Annotated[int, Field(ge=1, le=5)]


class Suite(Frozen):
    """Which conditions a report measures, at which severities, and which pairs of axes."""

    name: str
    title: str = ""
    conditions: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of conditions."""
    severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    grid: tuple[Axis, Axis] | None = (Axis.LIGHTING, Axis.ANGLE)
    """Every condition of the one axis is also laid over every condition of the other, at `grid_severities`."""
    grid_severities: Annotated[tuple[Severity, ...], Field(min_length=1)] = (1, 3, 5)
    """Those of them that are among the severities; where none is, all severities."""
    grid_conditions: tuple[str, ...] | None = None
    """The conditions that the grid is made of, where it would grow too long; null: all of the two axes."""
    seed: int = 0

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        doubled = [name for name in self.conditions if self.conditions.count(name) > 1]
        if doubled:
            raise ValueError(f"conditions: {doubled[0]!r} stands twice; name each condition once")
        for name, found in (("severities", self.severities), ("grid_severities", self.grid_severities)):
            rising = sorted(set(found))
            if list(found) != rising:
                raise ValueError(f"{name} {list(found)} must rise, each once; write {rising}")
        if self.grid is not None and self.grid[0] == self.grid[1]:
            raise ValueError(f"grid: {self.grid[0].value!r} stands twice; name two axes, or write grid: null")
        strange = [name for name in self.grid_conditions or () if name not in self.conditions]
        if strange:
            raise ValueError(f"grid_conditions: {strange[0]!r} is not among the conditions; add it there")
        return self

    def members(self) -> list[Condition]:
        """Return the conditions; raises ConfigError where a name is unknown."""
        return [condition(name, where=f"condition suite {self.name}") for name in self.conditions]

    def settings(self, *, channels: int | None = None) -> list["Setting"]:
        """Return every setting that is measured, clean first, then single conditions, then the grid.

        For images of a number of channels, those conditions that don't take it are left out.
        """
        members = [member for member in self.members() if channels is None or channels in member.channels]
        single = [Setting(((member, severity),)) for member in members for severity in self.severities]
        return [Setting(()), *single, *self._pairs(members)]

    def _pairs(self, members: list[Condition]) -> Iterator["Setting"]:
        if self.grid is None:
            return
        crossed = self.conditions if self.grid_conditions is None else self.grid_conditions
        members = [member for member in members if member.name in crossed]
        first, second = ([member for member in members if member.axis == axis] for axis in self.grid)
        levels = [level for level in self.grid_severities if level in self.severities] or list(self.severities)
        for one, two in product(first, second):
            for severity_one, severity_two in product(levels, levels):
                yield Setting(((one, severity_one), (two, severity_two)))


@dataclass(frozen=True)
class Setting:
    """Conditions that are applied to an image together; none is the clean image."""

    parts: tuple[tuple[Condition, int], ...]

    @property
    def conditions(self) -> dict[str, int | str]:
        """Condition name to severity."""
        return {part.name: severity for part, severity in self.parts}

    @property
    def axes(self) -> list[str]:
        """The axis of each condition."""
        return [part.axis.value for part, _ in self.parts]

    def apply(self, pixels: Pixels, *, sample_id: str, seed: int, window: tuple[int, int] | None = None) -> Pixels:
        """Return stored pixels under the conditions, in the same dtype, shape and bytes for the same seed.

        Whatever changes the view comes before what changes the light and the sensor, as it does in a scene.
        `window` holds the stored values that are shown as black and white; without it the full scale is.
        Raises ConfigError where a condition doesn't take images of so many channels.
        """
        for part, _ in self.parts:
            if pixels.shape[2] not in part.channels:
                counts = " or ".join(str(count) for count in part.channels)
                raise ConfigError(
                    f"condition {part.name}: takes images of {counts} channels, not {pixels.shape[2]};"
                    " leave it out of the suite"
                )
        if not self.parts:
            return pixels
        image = to_float(pixels, window=window)
        order = list(Axis)
        for part, severity in sorted(self.parts, key=lambda part: order.index(part[0].axis)):
            rng = seeded(seed, sample_id, part.name, severity)
            image = part.apply(image, part.value(severity), rng)
        return to_pixels(image, pixels.dtype, window=window)


def usual_suite(channels: int) -> str:
    """Return the suite, and the recipe of the same name, for images of which only their channels are known."""
    return "camera" if channels == 3 else "radiograph"


def load_suite(name: str) -> Suite:
    """Return the built-in suite of a name, or the one in a YAML file; raises ConfigError."""
    path = catalog.find(name, on="augmentations/conditions")
    suite = Suite.from_yaml(path)
    for member in suite.conditions:
        condition(member, where=str(path))
    return suite
