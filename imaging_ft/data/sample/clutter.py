"""What else is in a suitcase, each thing flat in the xy plane around the origin. Lengths in cm."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from imaging_ft.data.sample import materials as of
from imaging_ft.data.sample.geometry import Cylinder, Ellipsoid, Solid, box, rod, rotation

Random = np.random.RandomState
_UPRIGHT = rotation(pitch=90)


def bottle(draw: Random) -> list[Solid]:
    """Return a bottle of plastic, glass or aluminium, partly full of water."""
    radius, height = draw.uniform(2.6, 3.6), draw.uniform(14.0, 19.0)
    wall, mu = [(0.15, of.PLASTIC), (0.35, of.GLASS), (0.15, of.ALUMINIUM)][draw.randint(3)]
    full = draw.uniform(0.3, 0.95) * (height - 2 * wall)
    bore = radius - wall
    return [
        Solid(Cylinder(radius, radius, height / 2), mu, turn=_UPRIGHT),
        Solid(Cylinder(bore, bore, height / 2 - wall), -mu, turn=_UPRIGHT),
        Solid(Cylinder(bore, bore, full / 2), of.WATER, (0.0, (height - full) / 2 - wall, 0.0), _UPRIGHT),
        Solid(Cylinder(1.4, 1.4, 1.2), 1.5 * of.PLASTIC, (0.0, -height / 2 - 1.0, 0.0), _UPRIGHT),
    ]


def book(draw: Random) -> list[Solid]:
    """Return a book of 2 to 4 cm."""
    return [Solid(box(draw.uniform(11, 15), draw.uniform(16, 21), draw.uniform(2, 4)), of.PAPER)]


def shoe(draw: Random) -> list[Solid]:
    """Return a shoe: a rubber sole and heel, a hollow leather upper, a steel shank."""
    length = draw.uniform(20, 24)
    upper = Ellipsoid(0.46 * length, 4.2, 3.6)
    return [
        Solid(Ellipsoid(0.5 * length, 4.8, 1.2), of.RUBBER, (0.0, 0.0, 3.4)),
        Solid(box(6.0, 6.0, 1.5), of.RUBBER, (-0.33 * length, 0.0, 3.6)),
        Solid(upper, of.LEATHER),
        Solid(Ellipsoid(0.46 * length - 0.4, 3.8, 3.2), -of.LEATHER),
        Solid(box(0.4 * length, 1.2, 0.12), of.STEEL, (-0.1 * length, 0.0, 3.0)),
    ]


def cable(draw: Random) -> list[Solid]:
    """Return a copper cable in a loose polygon with a plug."""
    corners, radius = draw.randint(7, 11), draw.uniform(3.0, 5.0)
    angles = np.linspace(0, draw.uniform(4.5, 6.0), corners)
    reach = radius * draw.uniform(0.7, 1.15, corners)
    at = [(float(r * np.cos(t)), float(r * np.sin(t)), 0.0) for r, t in zip(reach, angles, strict=True)]
    copper = [rod(a, b, 0.16, of.COPPER) for a, b in pairwise(at)]
    return [*copper, Solid(box(3.0, 2.0, 1.4), of.PLASTIC, at[0]), Solid(box(1.6, 0.5, 0.4), of.BRASS, at[0])]


def coins(draw: Random) -> list[Solid]:
    """Return a handful of coins."""
    solids: list[Solid] = []
    for level in range(draw.randint(4, 9)):
        x, y, radius = draw.uniform(-3, 3), draw.uniform(-3, 3), draw.uniform(0.8, 1.3)
        tilt = rotation(yaw=draw.uniform(-40, 40), pitch=draw.uniform(-40, 40))
        solids.append(Solid(Cylinder(radius, radius, 0.1), of.COPPER, (x, y, 0.3 * level - 1.0), tilt))
    return solids


def power_bank(draw: Random) -> list[Solid]:
    """Return a battery pack: lithium cells side by side in a plastic case, and a circuit board."""
    cells = draw.randint(3, 7)
    width = 1.9 * cells
    solids = [
        Solid(box(width + 0.8, 8.4, 2.4), of.PLASTIC),
        Solid(box(width, 0.8, 0.3), of.COPPER, (0, -3.8, 0)),
    ]
    for place in range(cells):
        centre = (1.9 * (place - (cells - 1) / 2), 0.3, 0.0)
        solids.append(Solid(Cylinder(0.9, 0.9, 3.2), of.CELL, centre, _UPRIGHT))
    return solids


def umbrella(draw: Random) -> list[Solid]:
    """Return a folded umbrella: a steel rod, ribs around it, cloth, a plastic handle."""
    half, spread = draw.uniform(9, 11), 0.9
    solids = [
        rod((-half, 0, 0), (half, 0, 0), 0.3, 0.4 * of.STEEL),
        rod((half, 0, 0), (half + 4, 0, 0), 1.2, 0.2),
    ]
    for turn in np.linspace(0, 2 * np.pi, 6, endpoint=False):
        y, z = float(np.cos(turn)), float(np.sin(turn))
        far = (half - 3, 1.5 * spread * y, 1.5 * spread * z)
        solids.append(rod((-half + 1, 0.5 * y, 0.5 * z), far, 0.1, 0.6 * of.STEEL))
    return [*solids, Solid(Ellipsoid(half, 2.2, 2.2), 2 * of.CLOTH)]


def wrench(draw: Random) -> list[Solid]:
    """Return a ring spanner of steel: a bar with a ring at each end."""
    half = draw.uniform(4.0, 5.5)
    solids = [Solid(box(2 * half - 2.4, 1.3, 0.5), of.STEEL)]
    for side, radius in ((-half, 1.8), (half, 1.5)):
        solids.append(Solid(Cylinder(radius, radius, 0.4), of.STEEL, (side, 0, 0)))
        solids.append(Solid(Cylinder(0.6 * radius, 0.6 * radius, 0.4), -of.STEEL, (side, 0, 0)))
    return solids


def charger(draw: Random) -> list[Solid]:
    """Return a mains adapter: an iron-cored transformer with copper windings in a plastic case."""
    x, y = draw.uniform(5, 7), draw.uniform(4, 5.5)
    return [
        Solid(box(x + 1, y + 1, 4), of.PLASTIC),
        Solid(box(x - 1, y - 1, 0.8), of.STEEL),
        Solid(Cylinder(1.5, 1.5, 1.2), 0.6 * of.COPPER, turn=_UPRIGHT),
        Solid(box(0.5, 1.8, 0.3), of.BRASS, (-1, -y / 2 - 1.2, 0)),
        Solid(box(0.5, 1.8, 0.3), of.BRASS, (1, -y / 2 - 1.2, 0)),
    ]


def thermos(draw: Random) -> list[Solid]:
    """Return a double-walled steel flask, partly full."""
    radius, height = draw.uniform(2.8, 3.5), draw.uniform(15, 19)
    solids = [Solid(Cylinder(1.9, 1.9, 1.5), 1.5 * of.PLASTIC, (0, -height / 2 - 1.3, 0), _UPRIGHT)]
    for outer in (radius, radius - 0.5):
        solids.append(Solid(Cylinder(outer, outer, height / 2), of.STEEL, turn=_UPRIGHT))
        solids.append(Solid(Cylinder(outer - 0.06, outer - 0.06, height / 2 - 0.06), -of.STEEL, turn=_UPRIGHT))
    inner, full = radius - 0.56, draw.uniform(0.3, 0.9) * height
    return [*solids, Solid(Cylinder(inner, inner, full / 2), of.WATER, (0, (height - full) / 2, 0), _UPRIGHT)]


def dryer(draw: Random) -> list[Solid]:
    """Return a hair dryer: a plastic barrel with a motor and a heating coil, and a handle at an angle."""
    lean, fan = rotation(roll=draw.uniform(5, 15)), rotation(yaw=90)
    solids = [
        Solid(Cylinder(3.4, 3.4, 7.0), of.PLASTIC, turn=fan),
        Solid(Cylinder(3.1, 3.1, 7.0), -of.PLASTIC, turn=fan),
        Solid(Cylinder(1.3, 1.3, 1.8), 0.4 * of.COPPER, (-3.0, 0, 0), fan),
        Solid(Cylinder(2.0, 2.0, 2.2), 0.08 * of.STEEL, (2.5, 0, 0), fan),
        Solid(box(3.2, 9.5, 3.0), 1.5 * of.PLASTIC, (-4.6, 7.0, 0), lean),
        Solid(box(2.4, 9.5, 2.2), -1.5 * of.PLASTIC, (-4.6, 7.0, 0), lean),
        Solid(box(1.4, 2.5, 1.0), of.BRASS / 4, (-4.4, 6.0, 0), lean),
    ]
    return [solid.moved(np.eye(3), (1.5, -4.0, 0.0)) for solid in solids]


def discs(draw: Random) -> list[Solid]:
    """Return a toothless wheel of aluminium with a hole and four lightening bores: a spool, a reel, a hub."""
    radius, thick = draw.uniform(4.0, 6.0), draw.uniform(0.8, 1.6)
    solids = [
        Solid(Cylinder(radius, radius, thick), of.ALUMINIUM),
        Solid(Cylinder(0.9, 0.9, thick), -of.ALUMINIUM),
    ]
    for turn in range(4):
        x, y = 0.62 * radius * np.cos(turn * np.pi / 2), 0.62 * radius * np.sin(turn * np.pi / 2)
        solids.append(Solid(Cylinder(0.8, 0.8, thick), -of.ALUMINIUM, (float(x), float(y), 0)))
    return solids


METAL: dict[str, Callable[[Random], list[Solid]]] = {
    "wrench": wrench,
    "charger": charger,
    "thermos": thermos,
    "umbrella": umbrella,
    "discs": discs,
    "power_bank": power_bank,
}
OTHER: dict[str, Callable[[Random], list[Solid]]] = {
    "bottle": bottle,
    "book": book,
    "shoe": shoe,
    "cable": cable,
    "coins": coins,
    "dryer": dryer,
}
