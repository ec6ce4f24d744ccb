"""Solids whose intersection with a ray is known in closed form. Lengths are centimetres, angles degrees.

Axes: x to the right of the image, y down it, z away from the source.
A shape stands at the origin of its own frame; a solid is a shape with a pose and an attenuation coefficient.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Vector = tuple[float, float, float]

_SIGNS = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


class Shape(Protocol):
    """A convex body around its own origin."""

    @property
    def extent(self) -> Vector:
        """Half the sides of a box around the origin that holds the body, in cm."""
        ...

    def interval(self, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
        """Return where each ray enters and leaves, in cm along it; leaving before entering is a miss.

        `origin` is [3]; `direction` is [3, ...], of unit length.
        """
        ...


@dataclass(frozen=True)
class Ellipsoid:
    """(x/a)² + (y/b)² + (z/c)² <= 1."""

    a: float
    b: float
    c: float

    @property
    def extent(self) -> Vector:
        return self.a, self.b, self.c

    def interval(self, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
        return _quadric(origin, direction, (self.a, self.b, self.c))


@dataclass(frozen=True)
class Cylinder:
    """(x/a)² + (y/b)² <= 1 and |z| <= half."""

    a: float
    b: float
    half: float

    @property
    def extent(self) -> Vector:
        return self.a, self.b, self.half

    def interval(self, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
        side = _quadric(origin[:2], direction[:2], (self.a, self.b))
        return _both(side, _slab(origin[2], direction[2], self.half))


@dataclass(frozen=True)
class Prism:
    """A convex polygon in the xy plane, corners in order of turning from x to y, extruded to |z| <= half."""

    corners: tuple[tuple[float, float], ...]
    half: float

    @property
    def extent(self) -> Vector:
        return max(abs(x) for x, _ in self.corners), max(abs(y) for _, y in self.corners), self.half

    def interval(self, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
        found = _slab(origin[2], direction[2], self.half)
        for (x0, y0), (x1, y1) in zip(self.corners, self.corners[1:] + self.corners[:1], strict=True):
            nx, ny = y1 - y0, x0 - x1  # the outward normal of this side
            gap = nx * (x0 - origin[0]) + ny * (y0 - origin[1])
            found = _both(found, _half_space(gap, nx * direction[0] + ny * direction[1]))
        return found


def box(x: float, y: float, z: float) -> Prism:
    """Return a box of the given full lengths, centred."""
    return Prism(((-x / 2, -y / 2), (x / 2, -y / 2), (x / 2, y / 2), (-x / 2, y / 2)), z / 2)


@dataclass(frozen=True)
class Solid:
    """A shape of one material somewhere in space.

    Where solids overlap their coefficients add, so that a hole is a solid of negative `mu` inside another.
    """

    shape: Shape
    mu: float
    """Linear attenuation coefficient, 1/cm."""
    centre: Vector = (0.0, 0.0, 0.0)
    turn: Floats = field(default_factory=lambda: np.eye(3))
    """Rotation matrix [3, 3] from the shape's frame to the scene's."""
    within: "Solid | None" = None
    """Only the part inside this other solid counts, and inside what that one is within; its `mu` doesn't."""

    def path(self, origin: Floats, direction: Floats) -> Floats:
        """Return the length in cm of each ray inside the solid; `direction` [3, ...] is of unit length."""
        enter, leave = self._interval(origin, direction)
        return np.maximum(leave - enter, 0.0)

    def corners(self) -> Floats:
        """Return the corners of a box, turned with the shape, that holds the solid: [8, 3]."""
        return np.array(self.centre) + (_SIGNS * np.array(self.shape.extent)) @ self.turn.T

    def moved(self, turn: Floats, shift: Vector = (0.0, 0.0, 0.0)) -> "Solid":
        """Return the solid turned about the origin and then shifted."""
        x, y, z = turn @ np.array(self.centre)
        centre = (float(x) + shift[0], float(y) + shift[1], float(z) + shift[2])
        within = None if self.within is None else self.within.moved(turn, shift)
        return replace(self, centre=centre, turn=turn @ self.turn, within=within)

    def _interval(self, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
        back = self.turn.T
        turned = np.stack([row[0] * direction[0] + row[1] * direction[1] + row[2] * direction[2] for row in back])
        found = self.shape.interval(back @ (origin - np.array(self.centre)), turned)
        return found if self.within is None else _both(found, self.within._interval(origin, direction))


def rotation(*, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Floats:
    """Return Rz(roll) · Rx(pitch) · Ry(yaw), [3, 3]: about the upright, the horizontal axis, and the beam."""
    cy, cp, cr = np.cos(np.radians([yaw, pitch, roll]))
    sy, sp, sr = np.sin(np.radians([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_z @ about_x @ about_y


def moved(solids: list[Solid], turn: Floats, shift: Vector = (0.0, 0.0, 0.0)) -> list[Solid]:
    """Return the solids turned about the origin as one rigid body, and then shifted."""
    return [solid.moved(turn, shift) for solid in solids]


def rod(a: Vector, b: Vector, radius: float, mu: float, *, within: Solid | None = None) -> Solid:
    """Return a round rod from `a` to `b`."""
    start, end = np.array(a), np.array(b)
    length = float(np.sqrt(((end - start) ** 2).sum()))
    axis = (end - start) / length
    helper: Floats = np.array([1.0, 0.0, 0.0]) if abs(axis[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    side = np.cross(helper, axis)
    side /= np.sqrt((side**2).sum())
    turn = np.stack([side, np.cross(axis, side), axis], axis=1).astype(np.float64)
    x, y, z = ((start + end) / 2).tolist()
    return Solid(Cylinder(radius, radius, length / 2), mu, (x, y, z), turn, within)


def _quadric(origin: Floats, direction: Floats, axes: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return the interval of rays inside sum (p_i / axes_i)² <= 1, from the roots of a quadratic."""
    zero = np.zeros(direction.shape[1:])
    square, cross, rest = zero + 1e-30, zero, -1.0
    for start, slope, axis in zip(origin, direction, axes, strict=True):
        square = square + (slope / axis) ** 2
        cross = cross + start * slope / axis**2
        rest = rest + (start / axis) ** 2
    inside = cross**2 - square * rest
    half = np.sqrt(np.maximum(inside, 0.0))
    missed = inside <= 0.0
    return np.where(missed, np.inf, (-cross - half) / square), np.where(missed, -np.inf, (-cross + half) / square)


def _half_space(gap: float, slope: Floats) -> tuple[Floats, Floats]:
    """Return the interval of t with slope · t <= gap."""
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(slope == 0.0, np.inf if gap >= 0 else -np.inf, gap / slope)
    return np.where(slope < 0.0, at, -np.inf), np.where(slope < 0.0, np.inf, at)


def _slab(start: float, slope: Floats, half: float) -> tuple[Floats, Floats]:
    """Return the interval of t with |start + slope · t| <= half."""
    return _both(_half_space(half - start, slope), _half_space(half + start, -slope))


def _both(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    return np.maximum(one[0], other[0]), np.minimum(one[1], other[1])
