"""Look-alikes of three kinds of threat, flat in the xy plane around the origin. Lengths in cm.

They have the outline, the material and the cavities that a radiograph shows, and nothing that works.
"""

from collections.abc import Callable

import numpy as np

from imaging_ft.data.sample.geometry import Cylinder, Prism, Solid, Vector, box, rotation
from imaging_ft.data.sample.materials import ALUMINIUM, BRASS, PLASTIC, STEEL

Random = np.random.RandomState


def handgun(draw: Random) -> list[Solid]:
    """Return a pistol: hollow slide, bored barrel, frame, trigger guard, grip with a magazine."""
    size = draw.uniform(0.88, 1.06)
    length, grip = draw.uniform(16.5, 19.0) * size, draw.uniform(9.5, 11.0) * size
    polymer = draw.randint(2) == 0
    frame = 2 * PLASTIC if polymer else ALUMINIUM
    back = -length / 2
    slant = rotation(roll=draw.uniform(10, 18))
    guard = (back + 7.2 * size, 3.0 * size, 0.0)

    def in_grip(shape: Prism | Cylinder, mu: float, down: float, turn: np.ndarray) -> Solid:
        x, y, z = slant @ np.array([0.0, down, 0.0])
        return Solid(shape, mu, (float(x) + back + 3.6 * size, float(y) + 1.6 * size, float(z)), slant @ turn)

    flat, lying = np.eye(3), rotation(yaw=90)
    solids = [
        Solid(box(length, 2.8 * size, 2.4), STEEL),
        Solid(box(length - 1.0, 2.0 * size, 1.9), -STEEL),
        Solid(box(4.0, 0.9, 1.0), STEEL, (back + 3.0, -0.4, 0.0)),
        Solid(Cylinder(0.75, 0.75, 0.3 * length), STEEL, (0.18 * length, -0.2, 0.0), lying),
        Solid(Cylinder(0.45, 0.45, 0.3 * length), -STEEL, (0.18 * length, -0.2, 0.0), lying),
        Solid(box(0.78 * length, 1.3 * size, 2.2), frame, (-0.08 * length, 2.0 * size, 0.0)),
        Solid(box(0.5 * length, 0.4, 0.5), STEEL, (-0.1 * length, 1.8 * size, 0.0)),
        Solid(Cylinder(2.5 * size, 2.0 * size, 0.7), frame + 0.5 * STEEL, guard),
        Solid(Cylinder(2.0 * size, 1.55 * size, 0.7), -frame - 0.5 * STEEL, guard),
        Solid(box(0.5, 2.4, 0.6), STEEL, (guard[0] - 0.3, guard[1] - 0.2, 0.0), rotation(roll=-15)),
        in_grip(box(4.4 * size, grip, 2.8), frame, grip / 2, flat),
        in_grip(box(2.9 * size, grip, 1.9), STEEL, grip / 2 + 0.3, flat),
        in_grip(box(2.6 * size, grip - 0.4, 1.7), -STEEL, grip / 2 + 0.3, flat),
    ]
    for place in range(draw.randint(4, 7)):
        solids.append(in_grip(Cylinder(0.5, 0.5, 1.2 * size), 0.6 * BRASS, 1.6 + 1.15 * place, lying))
    return [solid.moved(flat, (0.0, -4.0 * size, 0.0)) for solid in solids]


def blade(draw: Random) -> list[Solid]:
    """Return a knife: a spine and a thin edge with a point, a tang, a riveted handle, often holes."""
    length, width = draw.uniform(14.0, 16.5), draw.uniform(4.2, 5.2)
    thick, grip = draw.uniform(0.5, 0.7), draw.uniform(8.5, 10.0)
    top, middle, bottom = -width / 2, 0.0, width / 2
    neck = length * draw.uniform(0.62, 0.78)
    spine = ((0.0, top), (neck, top), (length, middle), (0.0, middle))
    edge = ((0.0, middle), (length, middle), (neck, bottom), (0.6, bottom))
    solids = [
        Solid(Prism(spine, thick / 2), STEEL),
        Solid(Prism(edge, thick / 4), STEEL),
        Solid(box(grip, 0.5 * width, thick), STEEL, (-grip / 2, -0.1 * width, 0.0)),
        Solid(box(grip, 0.8 * width, 2.0), 1.5 * PLASTIC, (-grip / 2, -0.05 * width, 0.0)),
        Solid(box(0.6, 1.3 * width, 1.4), STEEL, (-0.3, 0.0, 0.0)),
    ]
    for part in (0.25, 0.55, 0.85):
        rivet: Vector = (-grip * part, -0.1 * width, 0.0)
        solids.append(Solid(Cylinder(0.35, 0.35, 1.0), BRASS, rivet))
    for place in range(draw.randint(0, 4)):
        hole: Vector = (2.5 + 2.4 * place, 0.6 * top, 0.0)
        solids.append(Solid(Cylinder(0.55, 0.55, thick / 2), -STEEL, hole))
    return [solid.moved(np.eye(3), (-(length - grip) / 2, 0.0, 0.0)) for solid in solids]


def star(draw: Random) -> list[Solid]:
    """Return a throwing star: four to eight points around a hub with a hole."""
    points, radius = draw.randint(4, 9), draw.uniform(5.5, 7.5)
    inner, thick = radius * draw.uniform(0.34, 0.46), draw.uniform(0.4, 0.6)
    step = np.pi / points
    near, far = (inner * np.cos(step), inner * np.sin(step)), radius
    kite = ((0.0, 0.0), (float(near[0]), float(-near[1])), (far, 0.0), (float(near[0]), float(near[1])))
    solids = [Solid(Prism(kite, thick / 2), STEEL, turn=rotation(roll=360 * p / points)) for p in range(points)]
    hub = draw.uniform(0.3, 0.42) * inner + 0.3
    solids.append(Solid(Cylinder(hub, hub, thick / 2), -STEEL))
    return solids


THREATS: dict[str, Callable[[Random], list[Solid]]] = {"handgun": handgun, "blade": blade, "star": star}
