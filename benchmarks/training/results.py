"""The results of a benchmark, read back and put together over seeds."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from benchmarks.training.plan import METHODS, OURS, PEERS, SCHEMA
from imaging_ft.types import Json

_SAME = 1e-4
"""Scores nearer than this are equal: torch and onnxruntime may differ in the last digits, never in an image."""

ACCURACY = "accuracy"
BALANCED = "balanced_accuracy"


@dataclass(frozen=True)
class Spread:
    """A figure over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return mean(self.values)

    def text(self, digits: int = 1, scale: float = 100) -> str:
        """Return `93.1 (92.8–93.4)`: the mean, and the lowest and highest seed where there are several."""
        low, high = min(self.values) * scale, max(self.values) * scale
        middle = f"{self.mean * scale:.{digits}f}"
        return middle if len(self.values) == 1 else f"{middle} ({low:.{digits}f}–{high:.{digits}f})"


def read_results(out: Path) -> list[Json]:
    """Return every result in a folder, in the order of their names."""
    found: list[Json] = []
    for path in sorted(out.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        if result.get("schema") == SCHEMA:
            found.append(result)
    return found


@dataclass(frozen=True)
class Comparison:
    """The results on one data set."""

    dataset: str
    title: str
    """The data set's name, and the GPU that trained where it was one."""
    gpu: str | None
    """What trained, where it was a GPU; None: a processor."""
    results: tuple[Json, ...]
    held_out: tuple[str, ...]
    """Conditions of the suite that our recipe doesn't practise; for every method the same."""

    @property
    def methods(self) -> list[str]:
        """The methods with results on all training images, ours first."""
        return [name for name in METHODS if self.of(name)]

    @property
    def peers(self) -> list[str]:
        """The peers with results."""
        return [name for name in self.methods if name in PEERS]

    @property
    def timed(self) -> bool:
        """Whether trainings came one after the other; side by side, their seconds tell nothing."""
        return all(found["options"].get("jobs", 1) == 1 for found in self.results)

    def of(self, method: str, fraction: float = 1.0) -> list[Json]:
        """Return a method's results, a seed each."""
        return sorted(
            (found for found in self.results if found["method"] == method and found["fraction"] == fraction),
            key=lambda found: found["seed"],
        )

    def spread(self, method: str, figure: Callable[[Json], float | None], fraction: float = 1.0) -> Spread | None:
        """Return a figure of a method over its seeds, or None where a seed lacks it."""
        values = [figure(found) for found in self.of(method, fraction)]
        known = [value for value in values if value is not None]
        return Spread(tuple(known)) if known and len(known) == len(values) else None

    def clean(self, metric: str) -> Callable[[Json], float | None]:
        """Return the figure: on the clean test split."""
        return lambda found: found["measured"]["clean"][metric]

    def mean_over(self, metric: str, *, held_out: bool = False) -> Callable[[Json], float | None]:
        """Return the figure: the mean over synthetic cells, or over those with a condition held out of training."""

        def figure(found: Json) -> float | None:
            values = [cell[metric] for cell in found["measured"]["cells"] if not held_out or self._is_held_out(cell)]
            return mean(values) if values else None

        return figure

    def worst(self, metric: str) -> Callable[[Json], float | None]:
        """Return the figure: the lowest of the synthetic cells."""
        return lambda found: min(cell[metric] for cell in found["measured"]["cells"])

    def _is_held_out(self, cell: Json) -> bool:
        return bool(set(cell["conditions"]) & set(self.held_out))

    def best_peer(self, figure: Callable[[Json], float | None]) -> tuple[str, Spread] | None:
        """Return the peer whose mean over seeds is highest, by this very figure."""
        found = {name: spread for name in self.peers if (spread := self.spread(name, figure))}
        if not found:
            return None
        name = max(found, key=lambda name: found[name].mean)
        return name, found[name]

    def seconds_to(self, peer: str, key: str, *, by: str = OURS) -> Spread | None:
        """Return the seconds after which a method first has a peer's final score, seed by seed; None where it hasn't.

        `key` is a curve's column: `val_accuracy`, or `test_accuracy` (a diagnostic that decides nothing). A time is
        that of the end of an epoch, with its validation.
        """
        by_seed = {found["seed"]: found for found in self.of(by)}
        values: list[float] = []
        for found in self.of(peer):
            racer = by_seed.get(found["seed"])
            if racer is None:
                continue
            wanted = final(found, key)
            reached = [row["seconds"] for row in racer["trained"]["curve"] if row.get(key, -1.0) >= wanted - _SAME]
            if not reached:
                return None
            values.append(reached[0])
        return Spread(tuple(values)) if values else None


def final(result: Json, key: str) -> float:
    """Return the score of the model that was kept, by a curve's column."""
    part, _, metric = key.partition("_")
    return result["trained"]["validation"][metric] if part == "val" else result["measured"]["clean"][metric]


def comparisons(results: Sequence[Json]) -> list[Comparison]:
    """Return the results by data set and device, of one data set the one with most methods first.

    What is held out is what ours doesn't practise. Seconds on a processor and on a GPU have nothing to do with each
    other, so the two are never put together.
    """
    parted: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for found in results:
        parted[found["dataset"], found["machine"].get("gpu") or ""].append(found)
    methods = {key: len({found["method"] for found in results}) for key, results in parted.items()}
    fullest = sorted(parted.items(), key=lambda item: (-methods[item[0]], item[0][1]))
    ordered = sorted(fullest, key=lambda item: item[0][0], reverse=True)
    return [
        Comparison(
            dataset,
            f"{found[0]['name']}, trained on one {gpu}" if gpu else found[0]["name"],
            gpu or None,
            tuple(found),
            _held_out(found),
        )
        for (dataset, gpu), found in ordered
    ]


def _held_out(results: Sequence[Json]) -> tuple[str, ...]:
    """Return the conditions that ours hasn't practised; a peer's file holds the same recipe's, for when ours lacks."""
    ours = [found for found in results if found["method"] == OURS] or list(results)
    measured = {name for found in results for cell in found["measured"]["cells"] for name in cell["conditions"]}
    practised = set().union(*(found["measured"]["practised"] for found in ours))
    return tuple(sorted(measured - practised))
