"""Samples made of several images: mixup and AugMix.

Both work on one sample at a time, and draw all that they need from the sample's own seed. So it makes no difference
which worker process, which machine or which start of a resumed run makes a sample: it is the same one. (Mixing within
a batch, as is usual, would depend on how the batches were dealt out.)
"""

import numpy as np
import numpy.typing as npt

from imaging_ft.augment.recipe import Augment
from imaging_ft.data import Images
from imaging_ft.types import Floats, Levels

_MIXUP, _AUGMIX = 1, 2
"""Beside the seed, so that mixup and AugMix of one sample draw independently."""


class Mixer:
    """Makes the training sample of an index and a seed."""

    def __init__(self, images: Images, augment: Augment, *, mixup: float = 0.0, augmix: bool = False) -> None:
        """Take α of mixup's Beta distribution (0: none), and whether samples are AugMix's mixtures."""
        self._images = images
        self._augment = augment
        self._mixup = mixup
        self._augmix = augmix

    def __call__(self, index: int, seed: int) -> tuple[Levels, npt.NDArray[np.float32]]:
        """Return levels [height, width, channels] and the target [classes] of a sample.

        With mixup (Zhang et al. 2018), both are λ of this image and 1 − λ of another one, drawn from all images, with
        λ ~ Beta(α, α). Of λ and 1 − λ this image gets the larger: pairs are as likely either way round, and each image
        then leads one sample an epoch.
        """
        levels, target = self._one(index, seed), self._images.targets[index]
        if not self._mixup:
            return levels, target.copy()
        rng = np.random.default_rng((seed, _MIXUP))
        share = float(rng.beta(self._mixup, self._mixup))
        share = max(share, 1 - share)
        partner = int(rng.integers(len(self._images)))
        other = self._one(partner, int(rng.integers(2**32)))
        mixed = share * levels.astype(np.float32) + (1 - share) * other.astype(np.float32)
        return _rounded(mixed), share * target + (1 - share) * self._images.targets[partner]

    def _one(self, index: int, seed: int) -> Levels:
        levels = self._images.levels[index]
        return augmix(self._augment, levels, seed) if self._augmix else self._augment(levels, seed)


def augmix(
    augment: Augment, levels: Levels, seed: int, *, width: int = 3, depth: int = 1, alpha: float = 1.0
) -> Levels:
    """Return AugMix's mixture of an image [height, width, channels] and `width` augmented versions of it.

    Hendrycks et al. 2020, algorithm 1: the versions are averaged with weights from Dirichlet(α), and that average is
    mixed with the image by a share from Beta(α, α). A version is the recipe applied 1 to `depth` times. The paper
    chains up to three single operations; a recipe is such a chain already, and twice over it would leave the range
    that it holds to be sound.

    The paper's second half, a Jensen-Shannon term that holds the predictions for the image and two mixtures together,
    is left out: it passes three images through the network for every one, and so triples what a step costs.
    """
    rng = np.random.default_rng((seed, _AUGMIX))
    weights = rng.dirichlet(np.full(width, alpha))
    share = float(rng.beta(alpha, alpha))
    mixture = np.zeros(levels.shape, np.float32)
    for weight in weights.tolist():
        version = levels
        for _ in range(int(rng.integers(1, depth + 1))):
            version = augment(version, int(rng.integers(2**32)))
        mixture += weight * version
    return _rounded((1 - share) * levels.astype(np.float32) + share * mixture)


def _rounded(image: Floats) -> Levels:
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
