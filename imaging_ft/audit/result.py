"""What a check found, as data: the page, the manifest, the JSON and the terminal are made from it alone."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from imaging_ft.config import Frozen
from imaging_ft.types import Json, Split


class Severity(StrEnum):
    """How much a finding matters, the worst first."""

    PROBLEM = "problem"
    """Figures measured on this data would mislead; mend it before training."""
    LOOK = "look"
    """May be wrong; a person should look."""
    NOTE = "note"
    """Worth knowing; nothing has to be done."""


class Example(Frozen):
    """One image, or a pair of images, that a finding is about."""

    images: tuple[str, ...]
    """Sample ids."""
    note: str = ""
    """What is special about it: its value, or how alike the two are."""


class Finding(Frozen):
    """Something that was found, and what to do about it."""

    code: str
    """Its kind, for scripts; docs/data-check.md lists them."""
    severity: Severity
    what: str
    """One sentence with the count."""
    detail: str = ""
    """Which splits and classes."""
    todo: str
    n: int
    """How many images, or pairs of images, it is about."""
    examples: tuple[Example, ...] = ()
    """The worst first; at most 500 of them."""


class Slice(Frozen):
    """How many images have one value, or a bin of values, of one column."""

    column: str
    value: str
    splits: dict[Split, int]
    classes: dict[str, int]


class Domain(Frozen):
    """How far the images lie from what the backbone was trained on."""

    backbone: str
    distance: float
    """Mean Wasserstein distance of the channels at the batch-normalisation layers, in standard deviations."""
    level: Literal["near", "middle", "far"]
    stages: dict[str, float]
    """The same by the backbone's stages, from the input on."""
    gray: float
    """The share of images without colour."""


class Need(Frozen):
    """How well one figure can be known from a split, by Wilson's interval at an assumed value."""

    metric: str
    """`accuracy` or `sensitivity[<label>]`."""
    n: int
    groups: int
    design_effect: Annotated[float, Field(ge=1)]
    """1 + (m − 1) · ICC for groups of m images (Kish 1965); 1 where every image is its own group.

    At most n / groups."""
    half_width: float | None
    """Of the 95% interval at n / design effect images; null where there are none."""
    half_width_by_groups: float | None
    """The cautious one: every group counts as one image."""
    needed: int
    """Groups for the wanted half-width, if new ones have as many images as those at hand; with one image a group,
    and where there is no image yet, images."""

    @property
    def missing(self) -> int:
        """How many more groups are needed."""
        return max(0, self.needed - self.groups)


class Sizing(Frozen):
    """How many images the wanted interval width needs."""

    split: Split
    half_width: float
    """The wanted half-width of the 95% interval."""
    assumed: float
    """The accuracy or sensitivity that is assumed."""
    correlation: float
    """The assumed correlation of the outcomes of two images of one group (ICC)."""
    needs: tuple[Need, ...]


class Probe(Frozen):
    """How well a cross-validated linear probe tells the classes apart; label errors are read from it."""

    balanced_accuracy: float
    folds: str
    """What was held together between the folds."""


class Style(Frozen):
    """How well size, margins, light and sharpness alone tell the class, cross-validated on what doesn't test."""

    n: int
    """Images that don't test; of more than 20,000 a random share of each class."""
    sets: int
    """Of images that were held together: how many independent ones there are."""
    folds: str
    """What was held together between the folds."""
    balanced_accuracy: float
    chance: float
    """Balanced accuracy of a guess."""
    sensitivity: dict[str, float]
    """By class."""
    alone: dict[str, float]
    """Balanced accuracy of each kind of measure alone, the most telling first."""

    @property
    def strength(self) -> float:
        """Share of the way from chance to perfect."""
        return (self.balanced_accuracy - self.chance) / (1 - self.chance)


class Check(Frozen):
    """Everything that one check found. `imaging-ft data check --json` prints it."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    form: Annotated[Literal["imaging_ft.check/1"], Field(alias="schema")] = "imaging_ft.check/1"
    verdict: str
    findings: tuple[Finding, ...]
    """The worst first."""
    dataset: Json
    """What `dataset.json` of a run holds: counts by class and split, fingerprint, rows left out."""
    conditions: tuple[Slice, ...]
    sizing: Sizing
    domain: Domain | None
    probe: Probe | None
    style: Style | None
    """Null where it can't be measured: multi-label, too few images, a class that is one group."""
    left_out: tuple[str, ...]
    """What was not checked, and why."""
    limits: dict[str, float]
    """Every threshold that was used."""
    seconds: dict[str, float]

    def count(self, severity: Severity) -> int:
        """Return how many findings there are of one severity."""
        return sum(finding.severity is severity for finding in self.findings)
