"""A recipe's transforms as a tree: which condition families stand in it, and how to hold out or favour some.

An entry is `{name: parameters}`; the parameters of a group hold the list `transforms`. Every function returns a
new tree and leaves the one it is given alone.
"""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imaging_ft.augment.conditions import CONDITIONS
from imaging_ft.augment.quiet import A
from imaging_ft.catalog import suggest
from imaging_ft.errors import ConfigError

Entry = dict[str, dict[str, Any]]

CLUTTER = "clutter"
"""The family of `Clutter`, which no condition can be: it needs other images."""

_CHOICES = ("OneOf", "SomeOf")
"""Groups that draw some of their members. In OneOf a member's p is its weight; SomeOf draws evenly."""

_SAME_AS: dict[str, tuple[str, ...]] = {
    "Rotate": ("roll",),
    "SafeRotate": ("roll",),
    "Affine": ("roll",),
    "ShiftScaleRotate": ("roll",),
    "Perspective": ("yaw", "pitch"),
    "RandomGamma": ("tube_voltage", "dense_shield"),
    "RandomBrightnessContrast": ("window_shift", "over_exposure"),
    "GaussNoise": ("rician_noise", "dose_noise"),
    "ISONoise": ("low_light",),
    "ShotNoise": ("low_dose", "low_light"),
    "MultiplicativeNoise": ("speckle",),
    "GaussianBlur": ("defocus",),
    "Blur": ("defocus",),
    "MedianBlur": ("defocus",),
    "Defocus": ("defocus",),
    "MotionBlur": ("motion",),
    "ImageCompression": ("compression",),
    "Downscale": ("distance",),
    "CoarseDropout": ("occlusion",),
    "Erasing": ("occlusion",),
    "RandomShadow": ("shadow",),
    "RandomFog": ("fog",),
    "RandomSunFlare": ("glare",),
    "Illumination": ("illumination_gradient", "vignette"),
    "HEStain": ("stain",),
}
"""Which conditions a transform of albumentations practises, so that a report can say so."""

_ALIKE: tuple[frozenset[str], ...] = (
    frozenset({"roll", "position_roll"}),
    frozenset({"window_shift", "window_centre"}),
    frozenset({"illumination_gradient", "depth_gain"}),
    frozenset({"defocus", "distance"}),
    frozenset({"fog", "haze"}),
    frozenset({"grid_lines", "spike"}),
)
"""Conditions that are one change of the image: who practises one has practised the others."""

_TURNS = {"Affine": "rotate", "ShiftScaleRotate": "rotate_limit"}
"""Transforms of which only one parameter turns the image: without it, the rest stays."""


def practised(transforms: Iterable[Entry]) -> set[str]:
    """Return the conditions that images under a tree of transforms meet."""
    return {family for name, parameters in walk(transforms) for family in _practises(name, parameters)} - {CLUTTER}


def families(transforms: Iterable[Entry], *, channels: int | None = None) -> tuple[str, ...]:
    """Return the families whose odds can be set, in the order in which they stand.

    For images of a number of channels, those that don't take it are left out.
    """
    found = (_family(name, parameters) for name, parameters in walk(transforms))
    known = dict.fromkeys(family for family in found if family is not None)
    return tuple(name for name in known if channels is None or name == CLUTTER or channels in CONDITIONS[name].channels)


def without(transforms: Iterable[Entry], names: Iterable[str], *, where: str) -> tuple[Entry, ...]:
    """Return the tree with no transform that practises one of the families, nor one that is alike.

    Raises ConfigError where a name is neither a condition's nor `clutter`.
    """
    out: set[str] = set()
    for name in names:
        _check_known(name, sorted((*CONDITIONS, CLUTTER)), where=f"{where}: held out")
        out.add(name)

    def kept(name: str, parameters: dict[str, Any], _: str | None) -> dict[str, Any] | None:
        if not out.intersection(_practises(name, parameters)):
            return parameters
        turn = _TURNS.get(name)
        if turn is None:
            return None
        return {key: value for key, value in parameters.items() if key != turn} | (
            {turn: 0} if name == "ShiftScaleRotate" else {}  # which turns by itself where it isn't told not to
        )

    return _rewritten(transforms, kept)


def weighted(transforms: Iterable[Entry], odds: Mapping[str, float], *, where: str) -> tuple[Entry, ...]:
    """Return the tree with each family's odds multiplied by its factor, 1 where none is named.

    Within OneOf the weight against the other members is multiplied; elsewhere p becomes f p / (1 − p + f p).
    A factor of 0 takes the family out. Raises ConfigError where a family doesn't stand in the tree, or a factor is
    negative or not finite.
    """
    entries = tuple(transforms)
    known = families(entries)
    for family, factor in odds.items():
        _check_known(family, sorted(known), where=f"{where}: odds")
        if not (math.isfinite(factor) and factor >= 0):
            raise ConfigError(f"{where}: the odds of {family} are {factor}; give a factor of 0 or more")

    def scaled(name: str, parameters: dict[str, Any], group: str | None) -> dict[str, Any] | None:
        factor = odds.get(_family(name, parameters) or "", 1.0)
        if factor == 0:
            return None
        if factor == 1:
            return parameters
        p = _p(name, parameters)
        if group == "OneOf":
            return parameters | {"p": p * factor}  # a weight, brought back to at most 1 with its neighbours
        return parameters | {"p": p * factor / (1 - p + p * factor)}

    return _rewritten(entries, scaled)


def only(transforms: Iterable[Entry], family: str, *, where: str) -> tuple[Entry, ...]:
    """Return the tree in which one family is always drawn and no other is, in the recipe's scene.

    Groups that choose among families hold this one alone, or fall away. What belongs to no family stays as it is,
    and so does clutter. Raises ConfigError where the family doesn't stand in the tree.
    """
    entries = tuple(transforms)
    _check_known(family, sorted(families(entries)), where=where)
    return tuple(_alone(entries, family))


def alike(name: str) -> set[str]:
    """Return the conditions that are practised together with one, itself among them."""
    return {name}.union(*(kind for kind in _ALIKE if name in kind))


def walk(transforms: Iterable[Entry]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and parameters of every transform and group, in the order in which they stand."""
    for entry in transforms:
        for name, parameters in entry.items():
            yield name, parameters
            yield from walk(parameters.get("transforms", []))


def _practises(name: str, parameters: Mapping[str, Any]) -> set[str]:
    if name == "Clutter":
        return {CLUTTER}
    if name == "Condition":
        return alike(str(parameters.get("name")))
    if name == "Affine" and not parameters.get("rotate"):
        return set()
    if name == "ShiftScaleRotate" and parameters.get("rotate_limit") == 0:
        return set()
    return set().union(*(alike(family) for family in _SAME_AS.get(name, ())))


def _family(name: str, parameters: Mapping[str, Any]) -> str | None:
    """Return the family that a transform is, or None for a group and for what does more than one thing."""
    if name == "Clutter":
        return CLUTTER
    if name == "Condition":
        return str(parameters.get("name"))
    if name in _TURNS:  # they shift and scale as well
        return None
    same = _SAME_AS.get(name, ())
    return same[0] if len(same) == 1 else None


def _p(name: str, parameters: Mapping[str, Any]) -> float:
    """Return a transform's p: as written, or its default."""
    own = {"Condition": 1.0, "Clutter": 0.8, "Dihedral": 1.0}
    default = own[name] if name in own else inspect.signature(getattr(A, name).__init__).parameters["p"].default
    return float(parameters.get("p", default))


def _rewritten(transforms: Iterable[Entry], change: Any, group: str | None = None) -> tuple[Entry, ...]:
    """Return a tree with `change(name, parameters, group)` made to every transform; None takes it out."""
    found: list[Entry] = []
    for entry in transforms:
        for name, parameters in entry.items():
            if "transforms" in parameters:
                inner = _rewritten(parameters["transforms"], change, name)
                if inner:
                    found.append({name: _regrouped(name, parameters, inner)})
                continue
            changed = change(name, parameters, group)
            if changed is not None:
                found.append({name: changed})
    return tuple(_normalised(found) if group == "OneOf" else found)


def _regrouped(name: str, parameters: dict[str, Any], inner: Sequence[Entry]) -> dict[str, Any]:
    changed = parameters | {"transforms": list(inner)}
    if name == "SomeOf" and isinstance(parameters.get("n"), int):
        changed["n"] = min(parameters["n"], len(inner))
    return changed


def _normalised(members: list[Entry]) -> list[Entry]:
    """Return members of a choice with weights of at most 1, which albumentations asks of every p."""
    top = max((_p(name, parameters) for entry in members for name, parameters in entry.items()), default=1.0)
    if top <= 1:
        return members
    return [
        {name: parameters | {"p": _p(name, parameters) / top} for name, parameters in entry.items()}
        for entry in members
    ]


def _alone(transforms: Iterable[Entry], family: str) -> Iterator[Entry]:
    for entry in transforms:
        for name, parameters in entry.items():
            inner = parameters.get("transforms")
            if inner is None:
                own = _family(name, parameters)
                if own == family:
                    yield {name: parameters | {"p": 1.0}}
                elif own in {None, CLUTTER}:
                    yield entry
            elif family in families(inner):
                members = [member for member in inner if name not in _CHOICES or family in families([member])]
                kept = list(_alone(members, family))
                yield {name: _regrouped(name, parameters, kept) | {"p": 1.0} | ({"n": 1} if name == "SomeOf" else {})}
            elif not set(families(inner)) - {CLUTTER}:
                yield entry


def _check_known(name: str, known: list[str], *, where: str) -> None:
    if name not in known:
        raise ConfigError(f"{where}: no condition family {name!r}; {suggest(name, known)}")
