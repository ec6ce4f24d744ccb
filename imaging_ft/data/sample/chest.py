"""Patients: an analytic thorax for each, with a nodule or without, and the films of it. Lengths in cm."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from imaging_ft.data.sample import materials as of
from imaging_ft.data.sample.baggage import random
from imaging_ft.data.sample.geometry import Cylinder, Ellipsoid, Solid, Vector, box, rod, rotation
from imaging_ft.data.sample.scanner import LEVELS, Scanner

COLUMNS = ("image", "label", "split", "group", "site", "sex", "age", "exposure")

SCANNER = Scanner(pixels=112, pitch=0.33, source=165, detector=180, photons=60000)
"""Source behind the patient, as for a PA film; the patient's right is at the left of the image."""

_SPLITS = ("train",) * 7 + ("val",) * 2 + ("test",) * 4
"""The split of each patient of a label at a site, in turn."""
_LABELS = ("nodule", "none")
_SITES = ("north", "south")
_EXPOSURES = (0.5, 1.0, 1.0, 2.0)
_DENSITY_RANGE = (1.0, 6.6)
"""Optical depths below exposure 1 in air that the presentation values 0 and 4095 stand for."""

_AIR = of.LUNG - of.TISSUE


@dataclass(frozen=True)
class Film:
    """One radiograph: a row of the manifest, and who it was taken of."""

    group: str
    number: int
    label: str
    split: str
    site: str
    sex: str
    age: int
    """Years."""
    exposure: float
    """Relative to the nominal photon count."""

    @property
    def name(self) -> str:
        return f"{self.group}-{self.number}"

    @property
    def row(self) -> tuple[str, ...]:
        """The cells of the manifest, in the order of COLUMNS."""
        image = f"images/{self.name}.dcm"
        who = (self.site, self.sex, str(self.age))
        return (image, self.label, self.split, self.group, *who, str(self.exposure))


def films() -> Iterator[Film]:
    """Yield every radiograph, patient by patient; labels and sites are balanced in each split."""
    cells = [(label, site) for label in _LABELS for site in _SITES]
    for index in range(len(cells) * len(_SPLITS)):
        (label, site), place = cells[index % len(cells)], index // len(cells)
        group = f"pat-{index + 1:03d}"
        draw = random("films", group)
        sex, age = "FM"[draw.randint(2)], int(draw.randint(22, 86))
        for number in range((2, 1, 2, 1, 3, 1)[(place + index) % 6]):
            exposure = _EXPOSURES[draw.randint(len(_EXPOSURES))]
            yield Film(group, number + 1, label, _SPLITS[place], site, sex, age, exposure)


def thorax(film: Film) -> list[Solid]:
    """Return the patient: the anatomy depends on the patient alone, so that all films show the same one."""
    draw = random("patient", film.group)
    size = draw.uniform(0.93, 1.03) * (1.0 if film.sex == "M" else 0.93)
    fat = draw.uniform(0.0, 1.6) + 0.012 * (film.age - 20)
    lungs = _lungs(draw, size)
    heart = Ellipsoid(5.4 * size, 5.6 * size, 4.6 * size)
    heart_at, heart_turn = (2.6 * size, 5.0 * size, 3.0), rotation(roll=draw.uniform(25, 40))
    solids = _trunk(draw, film.sex, size, fat) + lungs + _skeleton(draw, size)
    dome = draw.uniform(8.6, 10.4) * size
    for lung, side, top in zip(lungs, (-1, 1), (dome, dome + 1.0), strict=True):
        below = Ellipsoid(8.5 * size, 5.5 * size, 9.5 * size)
        diaphragm = Solid(below, -_AIR, (side * 6.0 * size, top + 3.2 * size, 0.0), within=lung)
        inner_heart = Solid(heart, of.BLOOD - of.LUNG, heart_at, heart_turn, lung)
        solids += [diaphragm, inner_heart, replace(inner_heart, mu=-inner_heart.mu, within=diaphragm)]
        solids += _vessels(draw, side, size, lung)
    if film.label == "nodule":
        solids.append(_nodule(draw, size))
    return solids


def radiograph(film: Film) -> npt.NDArray[np.uint16]:
    """Return presentation values, [112, 112], 12 bits: bone is bright at `south` and dark at `north`.

    The value is linear in the logarithm of the photon count and isn't normalised: a low exposure is a bright
    and noisy film.
    """
    noise = random("film", film.name)
    yaw, pitch, roll = noise.uniform(-5, 5, 3)
    turn = rotation(yaw=yaw, pitch=pitch, roll=0.6 * roll)
    transmission = SCANNER.transmission(thorax(film), turn)
    counts = SCANNER.counts(transmission, exposure=film.exposure, noise=noise)
    depth = np.log(SCANNER.photons) - np.log(np.maximum(counts, 1))
    low, high = _DENSITY_RANGE
    values = np.rint(np.clip((depth - low) / (high - low), 0, 1) * LEVELS).astype(np.uint16)
    return values if film.site == "south" else LEVELS - values


def _trunk(draw: np.random.RandomState, sex: str, size: float, fat: float) -> list[Solid]:
    """Return flesh in a layer of fat, shoulders and neck; what overlaps counts once."""
    upright, solids = rotation(pitch=90), list[Solid]()
    wide, deep, top, rise = 15.5 * size, 10.0 * size, -8.0 * size, 9.0 * size
    above = Solid(box(80.0, 40.0, 80.0), 0.0, (0.0, top - 20.0, 0.0))
    below: Vector = (0.0, top + 25.0, 0.0)
    for over, mu in ((fat, of.FAT), (0.0, of.TISSUE - of.FAT)):
        solids.append(Solid(Cylinder(wide + over, deep + 0.7 * over, 25.0), mu, below, upright))
        cap = Ellipsoid(wide + over, rise + over, deep + 0.7 * over)
        solids.append(Solid(cap, mu, (0.0, top, 0.0), within=above))
    skin, skin_cap = solids[:2]
    shoulders = Solid(Ellipsoid(19.0 * size, 4.6 * size, 6.0 * size), of.TISSUE, (0.0, -12.6 * size, -1.0))
    neck = Solid(Cylinder(5.2 * size, 5.2 * size, 9.0), of.TISSUE, (0.0, -14.0 * size - 9.0, -1.0), upright)
    solids += [shoulders, replace(shoulders, within=skin_cap, mu=-of.TISSUE), neck]
    for around, mu in (
        (shoulders, -of.TISSUE),
        (skin_cap, -of.TISSUE),
        (replace(shoulders, within=skin_cap), of.TISSUE),
    ):
        solids.append(replace(neck, within=around, mu=mu))
    if sex == "F":
        shape = Ellipsoid(*(draw.uniform(5.0, 6.5) * size for _ in range(3)))
        for side in (-1, 1):
            breast = Solid(shape, of.FAT, (side * 7.8 * size, 6.0 * size, deep - 1.0))
            solids += [breast, replace(breast, within=skin, mu=-of.FAT)]
    return solids


def _lungs(draw: np.random.RandomState, size: float) -> list[Solid]:
    """Return the right and the left lung: tissue taken away."""
    tall = draw.uniform(13.5, 14.8) * size
    solids: list[Solid] = []
    for side, width in ((-1, 5.7), (1, 5.4)):
        shape = Ellipsoid(width * size, tall, 7.6 * size)
        solids.append(Solid(shape, _AIR, (side * 7.3 * size, 0.0, 0.0), rotation(roll=side * 5.0)))
    return solids


def _skeleton(draw: np.random.RandomState, size: float) -> list[Solid]:
    extra = of.BONE - of.TISSUE
    upright = rotation(pitch=90)
    solids = [Solid(Cylinder(1.0, 0.6, 8.0 * size), 0.6 * extra, (0.0, -1.0, 8.6 * size), upright)]
    for level in range(16):
        at: Vector = (0.0, (-19.0 + 2.7 * level) * size, -6.2 * size)
        solids.append(Solid(Cylinder(1.7 * size, 1.5 * size, 1.1 * size), 0.75 * extra, at, upright))
        solids.append(Solid(box(5.2 * size, 0.7, 1.0), 0.5 * extra, (0.0, at[1] - 0.4, at[2] - 1.4)))
    # A rib is what a slanting slab cuts from a shell: its part in the outer ellipsoid less that in the inner.
    outer, inner = (
        Ellipsoid(14.2 * size, 19.5 * size, 9.4 * size),
        Ellipsoid(13.5 * size, 18.8 * size, 8.7 * size),
    )
    for level in range(9):
        for side in (-1, 1):
            turn = rotation(pitch=-draw.uniform(21, 25), roll=side * 14.0)
            slab = box(13.6 * size, 0.85, 26.0 * size)
            centre = (side * 8.0 * size, (-12.0 + 2.75 * level) * size, 0.0)
            solids.append(Solid(slab, 1.1 * extra, centre, turn, Solid(outer, 0.0)))
            solids.append(Solid(slab, -1.1 * extra, centre, turn, Solid(inner, 0.0)))
    for side in (-1, 1):
        start, end = (side * 1.8, -11.6 * size, 7.5), (side * 14.5 * size, -15.2 * size, 2.0)
        solids.append(rod(start, end, 0.62, extra))
        blade = Ellipsoid(3.4 * size, 6.5 * size, 0.35)
        solids.append(Solid(blade, extra, (side * 13.2 * size, -6.5 * size, -8.0), rotation(yaw=side * 25.0)))
    return solids


def _vessels(draw: np.random.RandomState, side: int, size: float, lung: Solid) -> list[Solid]:
    """Return vessels that branch out from the hilum, and the hilum; they end as round shadows, as in life."""
    hilum: Vector = (side * 3.6 * size, -0.5 * size, -0.5)
    solids = [Solid(Ellipsoid(1.1, 1.9, 1.3), -0.6 * _AIR, hilum, within=lung)]
    for angle in np.linspace(-75, 75, 7):
        turn = np.radians(angle + draw.uniform(-9, 9))
        reach = draw.uniform(3.5, 6.0) * size
        x, y = side * reach * float(np.cos(turn)) * 0.8, reach * float(np.sin(turn)) * 1.25
        end = (hilum[0] + x, hilum[1] + y, hilum[2] + draw.uniform(-3, 3))
        solids.append(rod(hilum, end, draw.uniform(0.22, 0.36), -_AIR, within=lung))
        fork = (end[0] + 0.5 * x, end[1] + 0.5 * y + draw.uniform(-1.5, 1.5), end[2])
        solids.append(rod(end, fork, 0.16, -_AIR, within=lung))
    return solids


def _nodule(draw: np.random.RandomState, size: float) -> Solid:
    """Return a nodule of 0.8 to 1.6 cm radius in the open part of a lung."""
    side, radius = (-1, 1)[draw.randint(2)], draw.uniform(0.8, 1.6)
    shape = Ellipsoid(*(radius * draw.uniform(0.88, 1.12) for _ in range(3)))
    low = 5.0 if side < 0 else 1.0  # the heart covers the lower part of the left lung
    x, y, z = draw.uniform(5.2, 9.6), draw.uniform(-8.0, low), draw.uniform(-4.0, 4.0)
    return Solid(shape, -_AIR, (side * x * size, y * size, z * size))
