"""Whether the class can be told from an image's style (size, margins, light, sharpness), whatever it shows.

Style is mostly how an image was taken. Where it tells the class, a network may learn the one for the other (shortcut
learning: Geirhos et al. 2020; for radiographs DeGrave et al. 2021), and fail on images of another source. Validation
drawn from the same images doesn't show it. It can also be of the thing itself (a large object is a bright image): that
is for a person to say.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import ExtraTreesClassifier

from imaging_ft.audit.labels import balanced_accuracy, folds
from imaging_ft.audit.measure import Measures
from imaging_ft.audit.result import Style
from imaging_ft.data import Prepared
from imaging_ft.data.images import targets
from imaging_ft.types import Floats, Ints, Split, Task, Track

STRONG = 0.5
"""Share of the way from chance to perfect from which style is a finding."""
_LEAST = 50
"""Training images below which chance alone could look like a finding."""
_LEAST_SETS = 20
"""Sets of images held together below which it could: slices of one patient tell no more than one of them."""
REASON = (
    f"it takes single labels, {_LEAST} training images in {_LEAST_SETS} groups, and classes that can be learned and"
    " held out by turns"
)
"""What it takes, where it isn't measured."""
_MOST = 20_000
"""Training images that are looked at; of more, about so many at random, of each class its share or `_LEAST`."""
_TREES = 100
_LEAF = 3
"""Images in a leaf: one that stands alone says nothing of a class."""
_LEAVES = 1000
"""Of a tree, so that many classes don't take gigabytes."""


def kinds(found: Measures) -> dict[str, npt.NDArray[np.float64]]:
    """Return the measures [n, some] of style by kind."""
    height, width = found.sizes[:, 0].astype(np.float64), found.sizes[:, 1].astype(np.float64)
    return {
        "size and shape": np.stack([np.log(height * width), np.log(width / height)], axis=1),
        "empty margins": found.margins,
        "brightness and contrast": np.stack([found.brightness, found.contrast, found.low, found.high], axis=1),
        "sharpness": found.sharpness[:, None],
    }


def style(data: Prepared, found: Measures, units: Mapping[str, Ints], *, seed: int, track: Track) -> Style | None:
    """Return how well style tells classes apart; None where that can't be measured.

    `units` names ways to hold images [n] together, the strictest first; the first one is taken with which every fold
    learns every class. It can't be measured for multi-label tasks, with fewer than 50 training images or 20 sets of
    images held together, nor where a class is a single group in all of them.
    """
    kept = np.flatnonzero([sample.split is not Split.TEST for sample in data.samples])
    if data.card.task is Task.MULTILABEL or len(kept) < _LEAST:
        return None
    every = np.asarray(targets(data.samples, data.labels, data.card.task).argmax(axis=1), np.int64)
    kept = share_of(kept, every[kept], seed=seed)
    truth = every[kept]
    if len(np.unique(truth)) < 2:
        return None
    ways = ((name, unit[kept], folds(truth, unit[kept], seed=seed)) for name, unit in units.items())
    way = next((way for way in ways if way[2]), None)
    if way is None:
        return None
    held_together, unit, parts = way
    sets = len(np.unique(unit))
    if sets < _LEAST_SETS:
        return None
    alone = {name: values[kept] for name, values in kinds(found).items()}
    together = np.concatenate(list(alone.values()), axis=1)
    predicted, *by_kind = (
        _told(values, truth, parts, seed=seed)
        for values in track([together, *alone.values()], "telling classes by style", 1 + len(alone))
    )
    scores = {name: balanced_accuracy(truth, told) for name, told in zip(alone, by_kind, strict=True)}
    present = np.unique(truth).tolist()
    return Style(
        n=len(kept),
        sets=sets,
        folds=held_together,
        balanced_accuracy=balanced_accuracy(truth, predicted),
        chance=1 / len(present),
        sensitivity={data.labels[index]: float((predicted[truth == index] == index).mean()) for index in present},
        alone=dict(sorted(scores.items(), key=lambda item: -item[1])),
    )


def share_of(places: Ints, truth: Ints, *, seed: int) -> Ints:
    """Return about `_MOST` of some places, a random share of each class; all of them where there are no more."""
    if len(places) <= _MOST:
        return places
    draw = np.random.default_rng(seed)
    chosen: list[Ints] = []
    for index in np.unique(truth):
        of_class = places[truth == index]
        count = min(len(of_class), max(_LEAST, round(len(of_class) * _MOST / len(places))))
        chosen.append(draw.choice(of_class, count, replace=False))
    return np.sort(np.concatenate(chosen))


def _told(values: Floats, truth: Ints, parts: list[tuple[Ints, Ints]], *, seed: int) -> Ints:
    """Return the class [n] that trees tell for each image, trained on the folds that it isn't in."""
    predicted = np.zeros(len(truth), np.int64)
    for learned, held in parts:
        trees = ExtraTreesClassifier(
            _TREES, min_samples_leaf=_LEAF, max_leaf_nodes=_LEAVES, class_weight="balanced", random_state=seed
        )
        predicted[held] = trees.fit(values[learned], truth[learned]).predict(values[held])
    return predicted
