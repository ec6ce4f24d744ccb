"""One fixed manifest that every method trains and is measured on: the same images, the same splits."""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imaging_ft.config import to_yaml
from imaging_ft.data import Prepared, Sample, load, prepare
from imaging_ft.training.run import write_text
from imaging_ft.types import Split

_LEAST = 2
"""Training images that every class keeps, however small the share."""


@dataclass(frozen=True)
class Frozen:
    """A card that names every image with its split, and the data set it describes."""

    card: Path
    data: Prepared


def freeze(dataset: str, folder: Path, *, fraction: float, seed: int, limit_test: int | None) -> Frozen:
    """Write a card and a manifest of a data set with its splits as `imaging-ft train` draws them, and return both.

    Of the training images a share is kept (`share_of`); validation and test are the same for every share. Groups
    that stand on two sides (where validation can't be grouped) are left out of the manifest, which would refuse them.
    """
    prepared = prepare(dataset)
    root = load(dataset).root.resolve()
    train = share_of(prepared.of(Split.TRAIN), fraction, seed=seed)
    test = prepared.of(Split.TEST)
    if limit_test is not None and limit_test < len(test):
        test = _spread(test, limit_test)
    chosen = [*train, *prepared.of(Split.VAL), *test]
    sides: dict[str, set[Split | None]] = defaultdict(set)
    for sample in chosen:
        if sample.group:
            sides[sample.group].add(sample.split)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "split", "group"])
        for sample in chosen:
            group = sample.group if sample.group and len(sides[sample.group]) == 1 else ""
            writer.writerow([sample.id, sample.label, sample.split, group])
    card = prepared.card.model_copy(
        update={
            "root": str(root),
            "subfolder": "",
            "layout": "manifest",
            "manifest": str(manifest.resolve()),
            "columns": {},
            "image_path": None,
            "npz": None,
            "labels": prepared.labels,
            "label_columns": None,
            "none": None,
            "ignore": None,
            "group": None,
            "image": prepared.image,
            "download": (),
            "get": None,
            "variants": {},
        }
    )
    path = folder / "card.yaml"
    write_text(path, to_yaml(card))
    return Frozen(path, prepare(str(path)))


def share_of(samples: Sequence[Sample], fraction: float, *, seed: int) -> tuple[Sample, ...]:
    """Return a share of the samples, the same of every class, group after group in a seeded order.

    With few images a user has few patients or series, so whole groups are taken, and only the last one of a class is
    cut. A smaller share is part of every larger one of the same seed. Raises ValueError where the share isn't
    above 0 and at most 1.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"a share of {fraction} of the training images: give one above 0 and at most 1")
    if fraction == 1:
        return tuple(samples)
    by_label: dict[str, dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in sorted(samples, key=lambda sample: sample.id):
        by_label[sample.label][sample.group or sample.id].append(sample)
    kept: set[str] = set()
    for label, groups in sorted(by_label.items()):
        generator = np.random.default_rng((seed, *label.encode()))
        names = sorted(groups)
        ordered: list[Sample] = []
        for index in generator.permutation(len(names)).tolist():
            members = groups[names[index]]
            ordered += [members[position] for position in generator.permutation(len(members)).tolist()]
        wanted = max(_LEAST, round(fraction * len(ordered)))
        kept.update(sample.id for sample in ordered[:wanted])
    return tuple(sample for sample in samples if sample.id in kept)


def _spread(samples: Sequence[Sample], count: int) -> tuple[Sample, ...]:
    """Return about `count` samples, spread evenly over each class; at least one of each."""
    share = count / len(samples)
    by_label: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: sample.id):
        by_label[sample.label].append(sample)
    kept: list[Sample] = []
    for members in by_label.values():
        positions = np.linspace(0, len(members) - 1, max(1, round(share * len(members)))).round().astype(int)
        kept += [members[position] for position in positions.tolist()]
    return tuple(kept)
