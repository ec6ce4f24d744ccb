"""Findings about rows that preparing left out: earlier copies of evaluated images, and rows that can't be used."""

from collections import Counter
from collections.abc import Iterable

from imaging_ft.audit.result import Example, Finding, Severity
from imaging_ft.audit.wording import MOST_EXAMPLES, RANK, counts, label, plural, sides
from imaging_ft.data import Prepared, Problem, Sample
from imaging_ft.types import Split


def find_left_out(data: Prepared) -> Iterable[Finding]:
    """Yield what was left out: identical files in two declared splits, and bad rows (where that was asked for)."""
    pairs = copies(data)
    yield from _identical(data, pairs)
    copied = {earlier.id for earlier, _ in pairs}
    yield from _bad(data, [problem for problem in data.skipped if problem.sample.id not in copied])


def copies(data: Prepared) -> list[tuple[Sample, Sample]]:
    """Return each image that was left out as a copy, with the image of a later split that has the same bytes."""
    kept = {sample.id for sample in data.samples}
    latest: dict[str, Sample] = {}
    for sample in data.samples:
        known = latest.setdefault(data.hashes[sample.id], sample)
        if RANK[_side(sample)] > RANK[_side(known)]:
            latest[data.hashes[sample.id]] = sample
    pairs: list[tuple[Sample, Sample]] = []
    for problem in data.skipped:
        earlier = problem.sample
        later = latest.get(data.hashes.get(earlier.id, ""))
        if later is not None and earlier.id not in kept and RANK[_side(earlier)] < RANK[_side(later)]:
            pairs.append((earlier, later))
    return pairs


def _identical(data: Prepared, pairs: list[tuple[Sample, Sample]]) -> Iterable[Finding]:
    if not pairs:
        return
    hashes = {data.hashes[later.id] for _, later in pairs}
    twins = [s for s in data.samples if _side(s) is not Split.TRAIN and data.hashes[s.id] in hashes]
    found = Counter(_side(sample) for sample in twins)
    parts = [f"{found[split]} of {len(data.of(split))} {split}" for split in Split if found[split]]
    where = " and ".join(dict.fromkeys(str(_side(earlier)) for earlier, _ in pairs))
    yield Finding(
        code="identical_across_splits",
        severity=Severity.PROBLEM,
        what=f"{' and '.join(parts)} images also stand in {where}, byte for byte: as published, figures on them are"
        " memory.",
        detail=f"By class: {counts(Counter(label(sample) for sample in twins))}. Here and in training their"
        f" {len(pairs)} earlier {plural(len(pairs), 'copy', 'copies')} {plural(len(pairs), 'is', 'are')} left out; the"
        " rest was checked without them.",
        todo="Train here, or on the manifest that --write-manifest writes, which doesn't hold the copies. With other"
        " tools, delete them first (--json lists them); don't compare with figures published on this split.",
        n=len(twins),
        examples=tuple(
            Example(images=(earlier.id, later.id), note=f"{sides(earlier, later)}; the same bytes")
            for earlier, later in pairs[:MOST_EXAMPLES]
        ),
    )


def _bad(data: Prepared, problems: list[Problem]) -> Iterable[Finding]:
    if not problems:
        return
    n = len(problems)
    yield Finding(
        code="bad_rows",
        severity=Severity.LOOK,
        what=f"{n} {plural(n, 'row')} can't be used and {plural(n, 'was', 'were')} left out (--skip-bad).",
        detail=f"{n} of {n + len(data.samples)}.",
        todo="Mend them or remove them from the source: what is missing may not be missing by chance.",
        n=n,
        examples=tuple(
            Example(images=(p.sample.id or p.sample.where,), note=p.what.removeprefix(f"{p.sample.where}: "))
            for p in problems[:MOST_EXAMPLES]
        ),
    )


def _side(sample: Sample) -> Split:
    return sample.split or Split.TRAIN
