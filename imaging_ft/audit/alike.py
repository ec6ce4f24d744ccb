"""Findings about near-duplicates."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt

from imaging_ft.audit.duplicates import Pairs
from imaging_ft.audit.result import Example, Finding, Severity
from imaging_ft.audit.wording import MOST_EXAMPLES, RANK, classes_of, counts, label, plural, sides
from imaging_ft.data import Prepared
from imaging_ft.types import Ints, Split

Chosen = npt.NDArray[np.bool_]
"""[pairs]: which pairs a finding is about."""

_DROP = (
    "Leave the earlier copies out of training: in the manifest that --write-manifest writes, delete the rows in which"
    " leaks_into is filled."
)
_DRAW_ANEW = (
    "Train on the manifest that --write-manifest writes: near-duplicates share a group there, and what is drawn is"
    " drawn anew."
)
_ONE_GROUP = (
    "Go by the test split. While all images of a class are of one group, near-duplicates can't be held apart: collect"
    " a second group of each class."
)


def find_alike(data: Prepared, pairs: Pairs) -> Iterable[Finding]:
    """Yield what near-duplicates mean: across splits, with different labels, within a split."""
    samples = data.samples
    pair_of = [(samples[a], samples[b]) for a, b in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)]
    across = np.array([a.split is not b.split for a, b in pair_of], np.bool_)
    conflict = np.array([a.label != b.label for a, b in pair_of], np.bool_)
    # Where only validation was drawn here, what is measured on test doesn't suffer from it.
    drawn = data.drawn if data.declared else frozenset[Split]()
    harmless = np.array([{a.split, b.split} == {Split.TRAIN, *drawn} for a, b in pair_of], np.bool_) & across
    yield from _finding(
        data,
        pairs,
        across & ~harmless,
        code="near_duplicates_across_splits",
        severity=Severity.PROBLEM,
        what=("stands", "stand", "in two splits: what is measured is partly memory."),
        detail=_sides_and_classes,
        todo=_DROP + " Or move whole groups to one side." if data.declared else _DRAW_ANEW,
    )
    yield from _finding(
        data,
        pairs,
        harmless,
        code="near_duplicates_in_validation",
        severity=Severity.LOOK,
        what=(
            "stands",
            "stand",
            "in train and in the validation part that was drawn from it: validation figures are partly memory, test"
            " figures are not.",
        ),
        detail=_sides_and_classes,
        todo=_ONE_GROUP if "not grouped" in data.split_method else _DRAW_ANEW,
    )
    yield from _finding(
        data,
        pairs,
        conflict,
        code="label_conflicts",
        severity=Severity.PROBLEM,
        what=("carries", "carry", "different labels."),
        detail=_labels,
        todo="Look at each pair. One picture can have one truth: mend the label, or leave the pair out.",
    )
    yield from _finding(
        data,
        pairs,
        ~(across | conflict),
        code="near_duplicates",
        severity=Severity.NOTE,
        what=("stands", "stand", "within a split."),
        detail=_identical_and_grouped,
        todo="They count as several images but hold the evidence of one. In test, keep one of each; elsewhere they"
        " only weigh more.",
    )


def _finding(
    data: Prepared,
    pairs: Pairs,
    chosen: Chosen,
    *,
    code: str,
    severity: Severity,
    what: tuple[str, str, str],
    detail: Callable[[Prepared, Pairs, Chosen], str],
    todo: str,
) -> Iterable[Finding]:
    """Yield a finding about the chosen pairs, if any; `what` is its verb for one and for many, and the rest."""
    n = int(chosen.sum())
    if n:
        one, many, rest = what
        yield Finding(
            code=code,
            severity=severity,
            what=f"{n} {plural(n, 'pair')} of near-duplicates {plural(n, one, many)} {rest}",
            detail=detail(data, pairs, chosen),
            todo=todo,
            n=n,
            examples=_examples(data, pairs, chosen),
        )


def leaks(data: Prepared, pairs: Pairs) -> dict[int, Split]:
    """Return the positions of the images that have a near-duplicate in a later declared split, with the latest one.

    What was drawn here counts as train: it is drawn anew.
    """
    sides: list[Split] = []
    for sample in data.samples:
        side = sample.split or Split.TRAIN
        sides.append(Split.TRAIN if side in data.drawn else side)
    found: dict[int, Split] = {}
    for first, second in zip(pairs.first.tolist(), pairs.second.tolist(), strict=True):
        earlier, later = sorted((first, second), key=lambda place: RANK[sides[place]])
        side = sides[later]
        if sides[earlier] is not side and (earlier not in found or RANK[side] > RANK[found[earlier]]):
            found[earlier] = side
    return found


def _earlier(data: Prepared, pairs: Pairs, chosen: Chosen) -> Ints:
    """Return the positions of the images on the earlier side of the chosen pairs that cross splits."""
    rank = np.array([RANK[sample.split or Split.TRAIN] for sample in data.samples])
    first, second = pairs.first[chosen], pairs.second[chosen]
    earlier = np.where(rank[first] < rank[second], first, second)
    return np.unique(earlier[rank[first] != rank[second]])


def _places(pairs: Pairs, chosen: Chosen) -> list[tuple[int, int]]:
    return list(zip(pairs.first[chosen].tolist(), pairs.second[chosen].tolist(), strict=True))


def _sides_and_classes(data: Prepared, pairs: Pairs, chosen: Chosen) -> str:
    """Return how many pairs stand in which two splits, and of which classes the earlier images are."""
    crossed = Counter(
        " and ".join(str(side) for side in Split if side in {data.samples[a].split, data.samples[b].split})
        for a, b in _places(pairs, chosen)
    )
    earlier = _earlier(data, pairs, chosen)
    n = len(earlier)
    return f"{counts(crossed)}; {n} earlier {plural(n, 'copy', 'copies')}. {classes_of(data.samples, earlier)}."


def _labels(data: Prepared, pairs: Pairs, chosen: Chosen) -> str:
    """Return how many pairs carry which two labels."""
    both = [sorted((label(data.samples[a]), label(data.samples[b]))) for a, b in _places(pairs, chosen)]
    return f"{counts(Counter(map(' / '.join, both)))}."


def _identical_and_grouped(data: Prepared, pairs: Pairs, chosen: Chosen) -> str:
    """Return how many pairs are expected to be alike, and the classes of their images."""
    both = [(data.samples[a], data.samples[b]) for a, b in _places(pairs, chosen)]
    same = sum(data.hashes[a.id] == data.hashes[b.id] for a, b in both)
    grouped = sum(a.group is not None and a.group == b.group for a, b in both)
    images = np.union1d(pairs.first[chosen], pairs.second[chosen])
    return (
        f"{len(images)} images. {same} of the pairs are identical files, {grouped} are of one declared group."
        f" {classes_of(data.samples, images)}."
    )


def _examples(data: Prepared, pairs: Pairs, chosen: Chosen) -> tuple[Example, ...]:
    """Return the chosen pairs, the most alike first."""
    places = np.flatnonzero(chosen)
    ordered = places[np.argsort(-pairs.pixels[places], kind="stable")].tolist()
    examples: list[Example] = []
    for place in ordered[:MOST_EXAMPLES]:
        both = [data.samples[int(pairs.first[place])], data.samples[int(pairs.second[place])]]
        both.sort(key=lambda sample: RANK[sample.split or Split.TRAIN])
        note = f"{sides(*both)}; {pairs.bits[place]} of 64 bits apart, pixels {pairs.pixels[place]:.2f}"
        note += "" if np.isnan(pairs.features[place]) else f", features {pairs.features[place]:.2f}"
        examples.append(Example(images=(both[0].id, both[1].id), note=note))
    return tuple(examples)
