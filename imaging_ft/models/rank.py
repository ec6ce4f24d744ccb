"""Which backbone's features fit a data set, measured on its training and validation images without training."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from imaging_ft.data import Prepared, Sample, input_spec, load_images, prepare
from imaging_ft.data.draws import units_of
from imaging_ft.data.folds import folds as deal_folds
from imaging_ft.errors import DataError, WeightsError
from imaging_ft.models.at_hand import AtHand, weights_at_hand
from imaging_ft.models.catalogue import CURATED, at_hand_names
from imaging_ft.models.factory import NONE, PRETRAINED, Classifier, create
from imaging_ft.models.features import embed, pick_device
from imaging_ft.models.scores import log_me, nearest_neighbours, probe_folds, spread_of_difference
from imaging_ft.models.weights import EMBEDDED
from imaging_ft.preprocess import IMAGENET_MEAN, IMAGENET_STD
from imaging_ft.types import Floats, Ints, Levels, Split, Task, Track, silent

RANDOM = "random"
"""The embedded architecture with random weights: what pretraining has to beat."""
FOLDS = 5
_TIMED = 16


@dataclass(frozen=True)
class Ranked:
    """How one candidate's features fit."""

    name: str
    """As --model takes it, or `random`."""
    weights: str
    """`pretrained`, `none`, or a path: as `--set weights=` takes it."""
    probe: float
    """Mean over folds of a linear probe's balanced accuracy."""
    spread: float
    """Standard deviation over folds."""
    folds: tuple[float, ...]
    log_me: float
    neighbours: float
    """Balanced accuracy of the nearest neighbours' vote."""
    milliseconds: float
    """A forward pass, for one image of a batch."""
    features: int


@dataclass(frozen=True)
class Ranking:
    """The candidates, best first, and what to make of it."""

    dataset: str
    images: int
    groups: int
    """How many independent units (groups, or else different files) the images come from."""
    size: int
    rows: tuple[Ranked, ...]
    left_out: tuple[tuple[str, str], ...]
    """Name and reason of candidates that could not be scored."""
    alike: tuple[str, ...]
    """The best and every pretrained candidate whose distance from it lies within the spread over folds."""
    take: str
    """The fastest of those that are alike."""
    take_weights: str
    note: str
    """Why the folds are not by group; empty where they are."""
    better_than_random: bool
    """Whether the best one's lead over random weights is beyond the spread."""


@dataclass(frozen=True)
class _Data:
    """The images that candidates are scored on."""

    name: str
    levels: Levels
    targets: Floats
    folds: Ints
    units: tuple[str, ...]
    multilabel: bool
    note: str


def rank_models(
    dataset: str,
    candidates: Sequence[str] | None = None,
    *,
    size: int = 160,
    images: int = 3000,
    download: bool = False,
    device: str = "auto",
    seed: int = 0,
    split_seed: int = 0,
    skip_bad: bool = False,
    track: Track = silent,
) -> Ranking:
    """Return candidates by how well their frozen features fit a data set's training and validation images.

    A candidate is a model's name, or NAME=WEIGHTS with the path of a state dict, the folder of an earlier run,
    or `none`; the default is every model whose weights are at hand, with `download` the curated ones too. At
    most `images` images are looked at; test images never are. Raises DataError, WeightsError (also where no
    candidate is left), DeviceError.
    """
    pick_device(device)
    chosen = [_parse(text) for text in candidates] if candidates else _default(download=download)
    data = _data(dataset, size=size, images=images, seed=seed, split_seed=split_seed, skip_bad=skip_bad, track=track)
    rows: list[Ranked] = []
    left_out: list[tuple[str, str]] = []
    for name, weights in [*dict.fromkeys(chosen), (RANDOM, NONE)]:
        try:
            if weights == PRETRAINED and not download and weights_at_hand(name) is AtHand.DOWNLOAD:
                left_out.append((name, "weights not at hand; --download fetches them"))
                continue
            model = _create(name, weights, size, seed)
        except WeightsError as error:
            left_out.append((name, str(error)))
            continue
        rows.append(_score(name, weights, model, data, device, track))
    if not any(row.name != RANDOM for row in rows):
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out)
        raise WeightsError(f"no candidate's weights can be had: {reasons}")
    return _ranking(data, rows, left_out, size)


def _default(*, download: bool) -> list[tuple[str, str]]:
    names = [*at_hand_names(), *(CURATED if download else ())]
    return [(name, PRETRAINED) for name in dict.fromkeys(names)]


def _parse(text: str) -> tuple[str, str]:
    name, _, weights = text.strip().partition("=")
    if not name or name == RANDOM:
        raise WeightsError(f"--models {text!r}: write NAME or NAME=WEIGHTS; random is always added")
    return (name if "/" in name else f"timm/{name}"), weights or PRETRAINED


def _create(name: str, weights: str, size: int, seed: int) -> Classifier:
    if weights != NONE:
        return create(name, classes=2, weights=weights, size=size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create(EMBEDDED if name == RANDOM else name, classes=2, weights=NONE, size=size)


def _data(
    dataset: str,
    *,
    size: int,
    images: int,
    seed: int,
    split_seed: int,
    skip_bad: bool,
    track: Track,
) -> _Data:
    data = prepare(dataset, seed=split_seed, skip_bad=skip_bad, decode=frozenset({Split.TRAIN, Split.VAL}), track=track)
    data, note = _foldable(data, seed)
    fold_of = _folds(data, seed)
    pool = tuple(sample for sample in data.samples if sample.id in fold_of)
    pool = _thinned(pool, fold_of, images, seed)
    spec = input_spec(data, height=size, width=size, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    loaded = load_images(data, pool, spec, track=track, what="loading images")
    units = units_of(pool, data.hashes)
    return _Data(
        data.card.name,
        loaded.levels,
        loaded.targets,
        np.array([fold_of[sample.id] for sample in pool]),
        tuple(units[sample.id] for sample in pool),
        data.card.task is Task.MULTILABEL,
        note,
    )


def _foldable(data: Prepared, seed: int) -> tuple[Prepared, str]:
    """Return data that can be dealt to folds, and an empty note; or the data without its groups, and why."""
    try:
        deal_folds(data, 2, seed=seed)
    except DataError:
        if all(sample.group is None for sample in data.samples):
            raise
        ungrouped = tuple(replace(sample, group=None) for sample in data.samples)
        note = (
            "a class stands in one group alone, so images of one group are on both sides of a fold: the scores are"
            " higher than on new groups, and only their order means something"
        )
        return replace(data, samples=ungrouped), note
    return data, ""


def _folds(data: Prepared, seed: int) -> dict[str, int]:
    """Return the fold of each training and validation image by its id: five, or as many as the groups allow."""
    for count in range(FOLDS, 1, -1):
        try:
            dealt = deal_folds(data, count, seed=seed)
        except DataError:
            if count == 2:
                raise
            continue
        return {sample.id: fold for fold, part in enumerate(dealt) for sample in part.of(Split.VAL)}
    raise RuntimeError("no folds were dealt")


def _thinned(pool: tuple[Sample, ...], fold_of: dict[str, int], most: int, seed: int) -> tuple[Sample, ...]:
    """Return at most about so many samples, the same share of each class in each fold, at least two of each."""
    if len(pool) <= most:
        return pool
    share = most / len(pool)
    rng = np.random.default_rng(seed)
    strata: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for index, sample in enumerate(pool):
        strata.setdefault((fold_of[sample.id], sample.labels or (sample.label,)), []).append(index)
    kept: list[int] = []
    for key in sorted(strata):
        members = strata[key]
        kept += rng.permutation(members)[: max(2, round(share * len(members)))].tolist()
    return tuple(pool[index] for index in sorted(kept))


def _score(name: str, weights: str, model: Classifier, data: _Data, device: str, track: Track) -> Ranked:
    features = embed(model, data.levels, device=device, track=track, what=name)
    probed = probe_folds(features, data.targets, data.folds, multilabel=data.multilabel)
    return Ranked(
        name=name,
        weights=weights,
        probe=float(probed.mean()),
        spread=float(probed.std(ddof=1)),
        folds=tuple(probed.tolist()),
        log_me=log_me(features, data.targets),
        neighbours=nearest_neighbours(features, data.targets, data.units, multilabel=data.multilabel),
        milliseconds=_time(lambda: embed(model, data.levels[:_TIMED], device=device, cache=False))
        / min(_TIMED, len(data.levels)),
        features=features.shape[1],
    )


def _time(work: Callable[[], object]) -> float:
    """Return milliseconds of the fastest of a few passes; the first ones find cold caches and waking threads."""

    def passes() -> Iterator[float]:
        for _ in range(5):
            start = time.perf_counter()
            work()
            yield (time.perf_counter() - start) * 1000

    return min(passes())


def _ranking(data: _Data, rows: list[Ranked], left_out: list[tuple[str, str]], size: int) -> Ranking:
    ordered = sorted(rows, key=lambda row: (-row.probe, row.milliseconds))
    trained = [row for row in ordered if row.name != RANDOM]
    best = trained[0]
    alike = [row for row in trained if row is best or _within(best, row)]
    take = min(alike, key=lambda row: row.milliseconds)
    floor = next(row for row in rows if row.name == RANDOM)
    return Ranking(
        dataset=data.name,
        images=len(data.levels),
        groups=len(set(data.units)),
        size=size,
        rows=tuple(ordered),
        left_out=tuple(left_out),
        alike=tuple(row.name for row in alike),
        take=take.name,
        take_weights=take.weights,
        note=data.note,
        better_than_random=best.probe > floor.probe and not _within(best, floor),
    )


def _within(first: Ranked, second: Ranked) -> bool:
    difference, needed = spread_of_difference(np.array(first.folds), np.array(second.folds))
    return abs(difference) <= needed
