"""Small words and numbers that findings share."""

from collections import Counter
from collections.abc import Sequence

from imaging_ft.audit.result import Example
from imaging_ft.data import Sample
from imaging_ft.types import Ints, Split

MOST_EXAMPLES = 500
RANK = {split: place for place, split in enumerate(Split)}
"""The order in which splits are used: what stands in an earlier one is known when a later one is measured."""


def examples(samples: Sequence[Sample], places: Ints, notes: Sequence[str] | None = None) -> tuple[Example, ...]:
    """Return the first images at some positions, each with a note."""
    shown = places[:MOST_EXAMPLES].tolist()
    texts = notes or [f"{samples[place].split} {label(samples[place])}" for place in shown]
    return tuple(Example(images=(samples[p].id,), note=text) for p, text in zip(shown, texts, strict=False))


def classes_of(samples: Sequence[Sample], places: Ints) -> str:
    """Return how many of some images are of each class."""
    return "By class: " + counts(Counter(label(samples[place]) for place in places.tolist()))


def label(sample: Sample) -> str:
    """Return a sample's class for a person."""
    return sample.label or "(none)"


def sides(first: Sample, second: Sample) -> str:
    """Return the split and the class of both images of a pair."""
    return " / ".join(f"{sample.split} {label(sample)}" for sample in (first, second))


def counts(counts: dict[str, int] | Counter[str], most: int = 8) -> str:
    """Return the largest counts in words."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = f", and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(f"{name} {count}" for name, count in ordered[:most]) + more


def crosstab(values: Sequence[str], classes: Sequence[str]) -> str:
    """Return the most frequent values of each class."""
    by_class: dict[str, Counter[str]] = {}
    for value, label in zip(values, classes, strict=True):
        by_class.setdefault(label, Counter())[value or "(empty)"] += 1
    parts = [f"{label}: {counts(found, 3)}" for label, found in sorted(by_class.items())[:8]]
    return "; ".join(parts) + "."


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return the word for one or for many."""
    return one if n == 1 else many or f"{one}s"


def sentence(text: str) -> str:
    """Return a text as a sentence."""
    return text[:1].upper() + text[1:].rstrip(".") + "."
