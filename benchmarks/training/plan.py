"""What is run, under which name, and in which order."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from imaging_ft.types import Json

SCHEMA = "imaging_ft.benchmark.training/1"
"""What a result file says it is."""

Kind = Literal["ours", "fastai", "torch"]


@dataclass(frozen=True)
class Method:
    """A way to train that the benchmark compares."""

    kind: Kind
    title: str
    options: tuple[str, ...] = ()
    """Of `imaging-ft train`, for ours."""


METHODS: dict[str, Method] = {
    "ours_robust": Method("ours", "imaging-ft `--preset robust`", ("--preset", "robust")),
    "lpft_trivial": Method("torch", "LP-FT, frozen BatchNorm, TrivialAugmentWide"),
    "fastai_default": Method("fastai", "fastai `fine_tune`, default `aug_transforms`"),
    "fastai_strong": Method("fastai", "fastai `fine_tune`, strongest `aug_transforms`"),
    "timm": Method("torch", "timm: AdamW, cosine, RandAugment, random erasing"),
    "ours_balanced": Method("ours", "imaging-ft `--preset balanced`", ("--preset", "balanced")),
    "ours_scratch": Method(
        "ours", "imaging-ft `--preset robust --from-scratch`", ("--preset", "robust", "--from-scratch")
    ),
}
"""In the order in which they run, so that what is compared first is known first."""

PEERS = tuple(name for name, method in METHODS.items() if method.kind != "ours")
OURS = "ours_robust"
"""The method that the peers are compared with."""


@dataclass(frozen=True)
class Work:
    """One training and its measurement: one process, one result file."""

    dataset: str
    """A DATASET argument of imaging-ft."""
    method: str
    seed: int
    fraction: float = 1.0
    """Share of the training images."""

    @property
    def name(self) -> str:
        """The stem of the result's file name."""
        return f"{slug(self.dataset)}-{self.method}-{round(self.fraction * 100)}pc-seed{self.seed}"


@dataclass(frozen=True)
class Options:
    """What is the same for every training of a benchmark."""

    size: int = 160
    """Height and width that every network sees, in pixels."""
    epochs: int | None = None
    """Of ours; None: the preset's own."""
    peer_epochs: int = 8
    """Of a peer's first, shortest schedule …"""
    peer_max_epochs: int = 16
    """… which is doubled up to this many while clean validation accuracy rises (`budget.fair`)."""
    limit_test: int | None = None
    """Measure on so many test images, stratified; None: on all."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: the fastest on this machine, measured for ours and given to the peers as well."""
    threads: int = 2
    """Processor threads of every process."""
    device: Literal["cpu", "cuda"] = "cpu"
    """What every method trains on; all are measured on the processor."""
    jobs: int = 1
    """Trainings side by side; with more than one their seconds tell nothing, and no table shows them."""

    def to_json(self) -> Json:
        """Return the options as JSON."""
        return asdict(self)


def slug(dataset: str) -> str:
    """Return a DATASET argument as part of a file name."""
    path = Path(dataset)
    named = f"{path.parent.name}-{path.stem}" if path.suffix else path.name
    return "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in named)


def order(
    datasets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    fractions: Sequence[float],
    *,
    fraction_methods: Sequence[str] = (OURS,),
) -> Iterator[Work]:
    """Yield every training once, so that what is done at any moment is of use.

    All methods of a data set with the first seed come before the next data set, and that before the next seed;
    smaller shares of the training images (`fractions` below 1, for `fraction_methods`) come after the methods.
    """
    chosen = [name for name in METHODS if name in methods]
    for seed in seeds:
        for dataset in datasets:
            for method in chosen:
                yield Work(dataset, method, seed)
            for method in chosen:
                if method in fraction_methods:
                    yield from (Work(dataset, method, seed, share) for share in sorted(fractions) if share < 1)
