"""From a DATASET argument to checked, split samples: the one path that training and reports share."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from imaging_ft import catalog
from imaging_ft.data.card import Card, ImageFormat
from imaging_ft.data.check import decode_files, hash_files, label_conflicts, lone_classes, repeated_files
from imaging_ft.data.draws import count_units
from imaging_ft.data.manifest import load
from imaging_ft.data.samples import Dataset, Problem, Sample, classes_of, occurring
from imaging_ft.data.splits import AS_DECLARED, split_samples
from imaging_ft.errors import DataError
from imaging_ft.types import Json, Split, Task, Track, silent

_SHOWN = 20
BAD_ROWS = "bad rows were left out"


@dataclass(frozen=True)
class Prepared:
    """A data set that can be trained on or measured with."""

    card: Card
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    """The usable samples, each with a split."""
    hashes: dict[str, str]
    """Sample id to the SHA-256 of its file."""
    image: ImageFormat
    """How the images are stored: the card's word, else what was found."""
    fingerprint: str
    """SHA-256 over every usable row as declared: id, label, split, group and the file's SHA-256."""
    split_method: str
    declared: bool
    """Whether the data itself says which split a sample belongs to."""
    warnings: tuple[str, ...]
    skipped: tuple[Problem, ...]
    """Bad rows that were left out on request, and training copies of evaluated images."""

    @property
    def drawn(self) -> frozenset[Split]:
        """The splits that were drawn here, because the data doesn't declare them."""
        if not self.declared:
            return frozenset(Split)
        return frozenset() if self.split_method == AS_DECLARED else frozenset({Split.VAL})

    def of(self, split: Split) -> tuple[Sample, ...]:
        """Return the samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == split)

    def units(self, samples: tuple[Sample, ...]) -> int:
        """Return how many independent units (groups, or else different files) the samples come from."""
        return count_units(samples, self.hashes)

    def summary(self) -> Json:
        """Return what `dataset.json` holds."""
        by_split = {split.value: self._counts(self.of(split)) for split in Split}
        return {
            "name": self.card.name,
            "fingerprint": self.fingerprint,
            "task": self.card.task.value,
            "labels": list(self.labels),
            "n": len(self.samples),
            "image": self.image.model_dump(mode="json"),
            "split_method": self.split_method,
            "splits": by_split,
            "warnings": list(self.warnings),
            "skipped": [
                {"image": problem.sample.id, "row": problem.sample.row, "reason": problem.what}
                for problem in self.skipped
            ],
            "licence": self.card.licence,
            "citation": self.card.citation,
        }

    def _counts(self, samples: tuple[Sample, ...]) -> Json:
        """Return how many samples, units and images of each class; of a multi-label task, how many show none."""
        counts = Counter(name for sample in samples for name in classes_of(sample, self.card.task))
        found: Json = {
            "n": len(samples),
            "groups": self.units(samples),
            "classes": {label: counts[label] for label in self.labels},
        }
        if self.card.task is Task.MULTILABEL:
            found["none"] = sum(1 for sample in samples if not sample.labels)
        return found


def prepare(
    argument: str,
    *,
    seed: int = 0,
    skip_bad: bool = False,
    decode: frozenset[Split] = frozenset(Split),
    track: Track = silent,
) -> Prepared:
    """Return the data set that a DATASET argument names, checked and split.

    Every file is hashed; the images of the splits in `decode` are also decoded. The split is drawn before
    decoding, so that it is the same whichever splits are decoded. Raises DataError with a line for each bad
    row, unless `skip_bad` leaves them out.
    """
    if not 0 <= seed < 2**32:
        raise DataError(f"split seed {seed}: must be a whole number from 0 to {2**32 - 1}")
    dataset = load(argument, track=track)
    task = dataset.card.task
    hashed = hash_files(dataset.samples, track)
    usable = _without(dataset.samples, hashed.problems)
    problems = [*dataset.problems, *hashed.problems]
    for rule in (
        lambda samples: label_conflicts(samples, hashed.hashes),
        repeated_files,
        lambda samples: lone_classes(samples, task),
    ):
        found = rule(usable)
        problems += found
        usable = _without(usable, found)
    if problems and not skip_bad:
        # It will be refused: decode now, so that one message holds all that is wrong.
        problems += decode_files(usable, dataset.card.image, track).problems
        raise _refusal(dataset, problems)
    labels = _labels(dataset, usable)
    splitting = split_samples(usable, hashed.hashes, seed=seed, task=task)
    wanted = tuple(sample for sample in splitting.samples if sample.split in decode)
    decoded = decode_files(wanted, dataset.card.image, track)
    if decoded.problems and not skip_bad:
        raise _refusal(dataset, decoded.problems)
    problems += decoded.problems
    samples = _without(splitting.samples, decoded.problems)
    _refuse_missing(dataset, samples, labels, decode)
    warnings = [*dataset.notes, *splitting.warnings]
    if problems:
        warnings.append(f"{len(problems)} {BAD_ROWS}; dataset.json lists them")
    return Prepared(
        card=dataset.card,
        labels=labels,
        samples=samples,
        hashes=hashed.hashes,
        image=dataset.card.image or decoded.found,
        fingerprint=_fingerprint(usable, hashed.hashes),
        split_method=splitting.method,
        declared=any(sample.split is not None for sample in usable),
        warnings=tuple(warnings),
        skipped=(*problems, *splitting.left_out),
    )


def _without(samples: tuple[Sample, ...], problems: tuple[Problem, ...]) -> tuple[Sample, ...]:
    bad = {(problem.sample.id, problem.sample.row) for problem in problems}
    return tuple(sample for sample in samples if (sample.id, sample.row) not in bad)


def _refusal(dataset: Dataset, problems: Sequence[Problem]) -> DataError:
    """Return the error that lists bad rows, in the manifest's order."""
    ordered = sorted(problems, key=lambda problem: (problem.sample.row or 0, problem.sample.id))
    lines = [str(problem) for problem in ordered[:_SHOWN]]
    if len(ordered) > _SHOWN:
        lines.append(f"… and {len(ordered) - _SHOWN} more (imaging-ft data check --skip-bad --json lists all)")
    count = f"{len(ordered)} bad row{'s' if len(ordered) > 1 else ''}"
    total = len(dataset.samples) + len(dataset.problems)
    lines.append(f"{count} of {total} in {dataset.card.name}; mend them, or leave them out with --skip-bad")
    return DataError("\n".join(lines))


def _labels(dataset: Dataset, usable: tuple[Sample, ...]) -> tuple[str, ...]:
    labels = dataset.card.labels or occurring(usable, dataset.card.task)
    if len(labels) < 2:
        found = f"only {labels[0]!r}" if labels else "none"
        raise DataError(f"{dataset.card.name}: two or more classes are needed, but there is {found}")
    for name in dataset.card.positive:
        if name not in labels:
            raise DataError(f"{dataset.card.name}: positive: {name!r}; {catalog.suggest(name, list(labels))}")
    if dataset.card.task == "binary" and len(labels) != 2:
        raise DataError(f"{dataset.card.name}: a binary task has two classes, but there are {len(labels)}")
    return labels


def _refuse_missing(
    dataset: Dataset, samples: tuple[Sample, ...], labels: tuple[str, ...], decode: frozenset[Split]
) -> None:
    in_train = [sample for sample in samples if sample.split is Split.TRAIN]
    if not in_train or Split.TRAIN not in decode:
        return
    task = dataset.card.task
    train = {name for sample in in_train for name in classes_of(sample, task)}
    for sample in samples:
        for name in classes_of(sample, task):
            if name not in train:
                raise DataError(
                    f"{sample.where}: class {name!r} stands in {sample.split} but not in train, which has:"
                    f" {', '.join(sorted(train))}"
                )
    for label in labels:
        if label not in train:
            raise DataError(f"{dataset.card.name}: class {label!r} has no sample in train")


def _fingerprint(samples: tuple[Sample, ...], hashes: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.id):
        fields = (sample.id, sample.label, sample.split or "", sample.group or "", hashes[sample.id])
        digest.update("\t".join(fields).encode() + b"\n")
    return digest.hexdigest()
