"""The cone-beam scanner: from solids to expected transmission, photon counts and detector values."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging_ft.data.sample.geometry import Floats, Solid, moved

LEVELS = 4095
"""The largest value of the 12-bit detectors."""


@dataclass(frozen=True)
class Scanner:
    """A point source and a flat square detector; the scene's origin lies between them on the beam's axis."""

    pixels: int
    """Rows and columns of the detector."""
    pitch: float
    """Side of a pixel, cm."""
    source: float
    """Source to origin, cm."""
    detector: float
    """Source to detector, cm."""
    photons: float
    """Mean count of a pixel in air at exposure 1."""
    gain: float = 0.9
    """Fraction of full scale that air reaches at exposure 1."""

    def depth(self, solids: list[Solid], turn: Floats) -> Floats:
        """Return the optical depth, sum of mu · l over the solids, of 2x2 rays a pixel: [2·pixels, 2·pixels].

        `turn` rotates the scene about the origin before it is projected; it must lie beyond the source.
        the rays in the shadow of a solid's bounding box are looked at. Depths are at least 0.
        """
        along = (np.arange(2 * self.pixels) + 0.5 - self.pixels) * self.pitch / 2
        origin = np.array([0.0, 0.0, -self.source])
        x, y = np.broadcast_arrays(along[None, :], along[:, None])
        rays = np.stack([x, y, np.full_like(x, self.detector)]) / np.sqrt(x**2 + y**2 + self.detector**2)
        total = np.zeros(x.shape)
        for solid in moved(solids, turn):
            corners = solid.corners()
            shadow = corners[:, :2] * self.detector / (corners[:, 2:] + self.source)
            columns, rows = (
                slice(*np.searchsorted(along, [low, high]))
                for low, high in zip(shadow.min(axis=0), shadow.max(axis=0), strict=True)
            )
            total[rows, columns] += solid.mu * solid.path(origin, rays[:, rows, columns])
        return np.maximum(total, 0.0)

    def transmission(self, solids: list[Solid], turn: Floats) -> Floats:
        """Return the expected I/I0 of each pixel, [pixels, pixels], in (0, 1].

        Beer-Lambert, I = I0 · exp(-sum mu · l), for each of 2x2 rays; the mean is taken over intensities, as
        a pixel does, not over depths.
        """
        fine = np.exp(-self.depth(solids, turn))
        return (fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4

    def counts(self, transmission: Floats, *, exposure: float, noise: np.random.RandomState) -> npt.NDArray[np.int64]:
        """Return photon counts, Poisson with mean photons · exposure · I/I0 rounded to whole photons.

        The rounding makes the counts the same on machines whose exp and sqrt differ in the last bit.
        """
        mean = np.rint(self.photons * exposure * transmission)
        return noise.poisson(mean).astype(np.int64)

    def linear(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
        """Return 12-bit values proportional to the counts, clipped where the detector saturates."""
        values = np.rint(counts * (self.gain * LEVELS / self.photons))
        return np.minimum(values, LEVELS).astype(np.uint16)
