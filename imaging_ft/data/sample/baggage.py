"""Suitcases: what lies in each, from where it is seen, and which split it belongs to. Lengths in cm."""

from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from imaging_ft.data.sample import materials as of
from imaging_ft.data.sample.clutter import METAL, OTHER
from imaging_ft.data.sample.geometry import Ellipsoid, Solid, Vector, box, moved, rod, rotation
from imaging_ft.data.sample.scanner import Scanner
from imaging_ft.data.sample.threats import THREATS

COLUMNS = ("image", "label", "split", "group", "yaw", "pitch", "roll", "exposure", "scanner")

SCANNERS = {
    "A": Scanner(pixels=128, pitch=0.39, source=85, detector=115, photons=2500, gain=0.92),
    "B": Scanner(pixels=128, pitch=0.45, source=62, detector=96, photons=5000, gain=0.86),
}

_SPLITS = ("train",) * 12 + ("val",) * 3 + ("test",) * 7
"""The split of each bag of a class, in turn."""
_LABELS = ("handgun", "blade", "star", "none")
_EXPOSURES = (0.25, 0.5, 1.0, 2.0)
_VIEWS = 3
_INSIDE = (31.0, 22.0, 12.0)


@dataclass(frozen=True)
class BagView:
    """One radiograph: a row of the manifest, and how to take it."""

    group: str
    number: int
    label: str
    split: str
    yaw: int
    """Degrees, as the other two angles: the suitcase is turned by roll · pitch · yaw in the scanner."""
    pitch: int
    roll: int
    exposure: float
    """Relative to the scanner's nominal photon count."""
    scanner: str

    @property
    def name(self) -> str:
        return f"{self.group}-{self.number}"

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of the manifest, in the order of COLUMNS."""
        angles = (str(self.yaw), str(self.pitch), str(self.roll))
        image = f"images/{self.name}.png"
        return (image, self.label, self.split, self.group, *angles, str(self.exposure), self.scanner)


def views() -> Iterator[BagView]:
    """Yield every radiograph, bag by bag; classes, splits, scanners and exposures are balanced."""
    for index in range(len(_LABELS) * len(_SPLITS)):
        group, label = f"bag-{index + 1:03d}", _LABELS[index % len(_LABELS)]
        place = index // len(_LABELS)
        draw = random("views", group)
        for number in range(_VIEWS):
            yield BagView(
                group=group,
                number=number + 1,
                label=label,
                split=_SPLITS[place],
                yaw=int(draw.randint(-35, 36)) if number else int(draw.randint(-5, 6)),
                pitch=int(draw.randint(-25, 26)) if number else int(draw.randint(-5, 6)),
                roll=int(draw.randint(-30, 31)) if number else int(draw.randint(-5, 6)),
                exposure=_EXPOSURES[(place // 2 + number) % len(_EXPOSURES)],
                scanner="AB"[(place + index) % 2],
            )


def suitcase(group: str, label: str) -> list[Solid]:
    """Return a suitcase with clutter and, unless the label is `none`, one threat; the same one every time."""
    draw = random("bag", group)
    things: list[list[Solid]] = []
    if label in THREATS:
        things.append(THREATS[label](draw))
    metals, others = sorted(METAL), sorted(OTHER)
    # A bag without a threat gets one more metal thing, so that brightness alone tells nothing.
    for choice in draw.permutation(len(metals))[: 1 + (label not in THREATS)]:
        things.append(METAL[metals[choice]](draw))
    for choice in draw.permutation(len(others))[: 2 + draw.randint(2)]:
        things.append(OTHER[others[choice]](draw))
    return _case(draw) + _packed(things, draw)


def radiograph(view: BagView) -> npt.NDArray[np.uint16]:
    """Return the image, [128, 128]: the detector's 12 bits, moved to the top of 16."""
    scanner = SCANNERS[view.scanner]
    turn = rotation(yaw=view.yaw, pitch=view.pitch, roll=view.roll)
    transmission = scanner.transmission(suitcase(view.group, view.label), turn)
    counts = scanner.counts(transmission, exposure=view.exposure, noise=random("noise", view.name))
    return scanner.linear(counts) << np.uint16(4)


def random(*purpose: str) -> np.random.RandomState:
    """Return the generator for one purpose; numpy has frozen the streams of RandomState."""
    return np.random.RandomState(crc32("/".join(purpose).encode()))


def _packed(things: list[list[Solid]], draw: np.random.RandomState) -> list[Solid]:
    """Return the things turned at random and laid in three layers, apart where there is room."""
    solids: list[Solid] = []
    taken: list[tuple[float, float, int, float]] = []
    for thing in things:
        corners = np.concatenate([solid.corners() for solid in thing])
        reach = float(np.sqrt((corners[:, :2] ** 2).sum(axis=1).max()))
        best, spot = -np.inf, (0.0, 0.0, 0)
        for _ in range(24):
            free_x, free_y = max(_INSIDE[0] / 2 - 0.8 * reach, 2), max(_INSIDE[1] / 2 - 0.8 * reach, 1.5)
            x, y, layer = (
                draw.uniform(-free_x, free_x),
                draw.uniform(-free_y, free_y),
                int(draw.randint(-1, 2)),
            )
            room = min(
                (np.hypot(x - a, y - b) - 0.8 * (reach + r) * (1.0 if layer == c else 0.8) for a, b, c, r in taken),
                default=0.0,
            )
            if room > best:
                best, spot = room, (x, y, layer)
        taken.append((*spot, reach))
        tilt = rotation(yaw=draw.uniform(-10, 10), pitch=draw.uniform(-10, 10), roll=draw.uniform(-180, 180))
        over = rotation(yaw=180.0 * draw.randint(2))
        solids += moved(thing, tilt @ over, (spot[0], spot[1], 3.7 * spot[2]))
    return solids


def _case(draw: np.random.RandomState) -> list[Solid]:
    """Return a plastic shell with a metal frame, a telescopic handle, wheels, and folded clothes."""
    x, y, z = _INSIDE
    solids = [Solid(box(x + 0.8, y + 0.8, z + 0.8), of.PLASTIC), Solid(box(x, y, z), -of.PLASTIC)]
    handle = (0.0, 0.0, z / 2 - 0.7)
    for side in (-1, 1):
        solids.append(Solid(box(x - 1, 1.0, 0.6), 0.5 * of.ALUMINIUM, (0.0, side * 5.0, handle[2])))
        solids.append(rod((x / 2 + 0.4, side * y / 2.4, 3), (x / 2 + 0.4, side * y / 2.4, 5), 1.8, of.RUBBER))
        edge: Vector = (0.0, side * (y / 2 + 0.2), 0.0)
        solids.append(Solid(box(x, 0.5, 0.5), of.ALUMINIUM, edge))
    for _ in range(5):
        heap = Ellipsoid(*(draw.uniform(low, 2 * low) for low in (5.0, 4.0, 2.5)))
        centre = (draw.uniform(-x / 4, x / 4), draw.uniform(-y / 5, y / 5), draw.uniform(-2, 2))
        solids.append(Solid(heap, of.CLOTH, centre, rotation(roll=draw.uniform(0, 180))))
    return solids
