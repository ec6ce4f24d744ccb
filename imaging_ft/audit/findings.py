"""From measurements to findings: what was found, how much it matters, and what to do about it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from imaging_ft.audit import conditions, style
from imaging_ft.audit.alike import find_alike
from imaging_ft.audit.duplicates import Pairs
from imaging_ft.audit.labels import Doubts
from imaging_ft.audit.left_out import find_left_out
from imaging_ft.audit.measure import Measures
from imaging_ft.audit.oddities import find_oddities
from imaging_ft.audit.result import Domain, Example, Finding, Probe, Severity, Sizing, Style
from imaging_ft.audit.wording import MOST_EXAMPLES, counts, crosstab, plural, sentence
from imaging_ft.data import Prepared
from imaging_ft.data.prepare import BAD_ROWS
from imaging_ft.data.splits import LEAK
from imaging_ft.types import Split, Task

FEW = 10
"""A class with fewer training images is a finding."""
UNEVEN = 10
"""So is a class with so many times fewer training images than the largest."""


@dataclass(frozen=True)
class Material:
    """Everything that was measured on a data set."""

    data: Prepared
    measures: Measures
    pairs: Pairs
    doubts: Doubts | None
    probe: Probe | None
    style: Style | None
    domain: Domain | None
    sizing: Sizing


def find(material: Material) -> list[Finding]:
    """Return every finding, the worst first, in the order of the checks within a severity."""
    data, found = material.data, material.measures
    every = [
        *find_left_out(data),
        *_declared(data),
        *find_alike(data, material.pairs),
        *_labels(data, material.doubts, material.probe),
        *find_oddities(data, found),
        *_shortcuts(data, found),
        *_style(material.style),
        *_classes(data),
        *_sizing(material.sizing),
        *_domain(material.domain),
    ]
    order = list(Severity)
    return sorted(every, key=lambda finding: order.index(finding.severity))


def _declared(data: Prepared) -> Iterable[Finding]:
    """Yield what preparing the data set said already."""
    for warning in data.warnings:
        if LEAK in warning or BAD_ROWS in warning:
            continue  # findings of their own, with the images named
        yield Finding(
            code="warning",
            severity=Severity.LOOK if "not grouped" in warning else Severity.NOTE,
            what=sentence(warning),
            todo=_remedy(warning),
            n=0,
        )


def _remedy(warning: str) -> str:
    if "not grouped" in warning:
        return "Go by the test split. Better: images of a second group of each of these classes."
    if "no group" in warning:
        return "Name the group (patient, series, camera) in a column 'group', or by the card's group pattern."
    return "Nothing, if that is meant."


def _labels(data: Prepared, doubts: Doubts | None, probe: Probe | None) -> Iterable[Finding]:
    if doubts is None:
        if probe is not None:
            yield Finding(
                code="labels_not_judged",
                severity=Severity.NOTE,
                what="Whether labels are wrong can't be told: a linear probe on the backbone's features doesn't tell"
                f" the classes apart (balanced accuracy {probe.balanced_accuracy:.2f}).",
                todo="Nothing; fine-tuning sees what a linear probe doesn't. Have a sample of labels read twice.",
                n=0,
            )
        return
    likely = doubts.likely
    if not len(likely):
        return
    named: Counter[str] = Counter()
    examples: list[Example] = []
    for place in likely.tolist():
        sample, other = data.samples[place], data.labels[doubts.suggested[place]]
        change = (
            f"{'without' if other in sample.labels else 'with'} {other}?"
            if data.card.task is Task.MULTILABEL
            else f"{sample.label}, or {other}?"
        )
        named[change.removesuffix("?").replace(", or ", " → ")] += 1
        examples.append(Example(images=(sample.id,), note=f"{change} {doubts.score[place]:.2f}"))
    sure = f" The probe's balanced accuracy is {probe.balanced_accuracy:.2f} ({probe.folds})." if probe else ""
    yield Finding(
        code="label_errors",
        severity=Severity.LOOK,
        what=f"{len(likely)} {plural(len(likely), 'label')} may be wrong ({len(likely) / len(data.samples):.1%}).",
        detail=f"{counts(named)}.{sure} The weaker it is, the more of these are merely hard images.",
        todo="Have a person look from the top (the most doubted first) until they are mostly right; mend the manifest"
        " (columns suggested_label, label_error_score). Never take the suggestion unseen, least of all in test.",
        n=len(likely),
        examples=tuple(examples[:MOST_EXAMPLES]),
    )


def _shortcuts(data: Prepared, found: Measures) -> Iterable[Finding]:
    if data.card.task is Task.MULTILABEL:
        return
    classes = [sample.label for sample in data.samples]
    known = dict(conditions.columns(data.samples))
    own = {
        "image size": [f"{height}" for height in np.sqrt(found.sizes.prod(axis=1)).round().astype(int)],
        "aspect ratio": [f"{ratio:.2f}" for ratio in found.sizes[:, 1] / found.sizes[:, 0]],
    }
    known |= {name: binned for name, values in own.items() if (binned := conditions.bins(values)) is not None}
    for column, values in known.items():
        strength = conditions.cramers_v(values, classes)
        if strength >= conditions.STRONG:
            yield Finding(
                code="shortcut",
                severity=Severity.LOOK,
                what=f"{column} goes with the class (Cramér's V {strength:.2f}): a network can learn the one for the"
                " other.",
                detail=crosstab(values, classes),
                todo="Collect images that break the link, at least in test; report accuracy by that column, and don't"
                " trust the overall figure before.",
                n=len(data.samples),
            )
    train = {
        column: {v for v, s in zip(values, data.samples, strict=True) if s.split is Split.TRAIN}
        for column, values in known.items()
        if column not in own
    }
    for column, seen in train.items():
        new = Counter(
            value or "(empty)"
            for value, sample in zip(known[column], data.samples, strict=True)
            if sample.split is Split.TEST and value not in seen
        )
        if new and seen:
            yield Finding(
                code="unseen_condition",
                severity=Severity.NOTE,
                what=f"{column}: test has values that training never shows.",
                detail=f"{counts(new)}.",
                todo="If that is meant (a new site), good: the figures say how the model carries over. If not, split"
                " anew.",
                n=sum(new.values()),
            )


def _style(found: Style | None) -> Iterable[Finding]:
    if found is None or found.strength < style.STRONG:
        return
    told = sorted(found.sensitivity.items(), key=lambda item: -item[1])
    by_class = ", ".join(f"{name} {value:.2f}" for name, value in told)
    alone = ", ".join(f"{name} {value:.2f}" for name, value in found.alone.items())
    yield Finding(
        code="shortcut_style",
        severity=Severity.LOOK,
        what="Size, empty margins, brightness, contrast and sharpness alone tell the class: balanced accuracy"
        f" {found.balanced_accuracy:.2f} (chance {found.chance:.2f}), without looking at what is shown.",
        detail=f"Each kind alone: {alone}. By class: {by_class}. Trees on the images that don't test, cross-validated"
        f" ({found.folds}: {found.n} images in {found.sets} sets).",
        todo="If that comes from where or how the images were taken, a model will lean on it, and validation drawn from"
        " the same images won't show it: believe only a test from another source, and collect images that break the"
        " link. Take a recipe that varies what tells the class most.",
        n=found.n,
    )


def _classes(data: Prepared) -> Iterable[Finding]:
    train = data.of(Split.TRAIN)
    multilabel = data.card.task is Task.MULTILABEL
    images = Counter(label for s in train for label in (s.labels if multilabel else (s.label,)))
    if not images:
        return
    most = max(images.values())
    few = {label: images[label] for label in data.labels if images[label] < FEW}
    uneven = {label: images[label] for label in data.labels if label not in few and most >= UNEVEN * images[label]}
    if few:
        yield Finding(
            code="small_classes",
            severity=Severity.LOOK,
            what=f"{len(few)} {plural(len(few), 'class', 'classes')} have fewer than {FEW} training images.",
            detail=f"{counts(few)}.",
            todo="Collect more, or join classes; until then don't rely on their sensitivity.",
            n=sum(few.values()),
        )
    if uneven:
        yield Finding(
            code="uneven_classes",
            severity=Severity.NOTE,
            what=f"The largest class has {UNEVEN} times or more the training images of"
            f" {len(uneven)} {plural(len(uneven), 'other', 'others')}.",
            detail=f"{counts(uneven)}; the largest has {most}.",
            todo="Judge by balanced accuracy and by each class's sensitivity; weigh classes in training.",
            n=sum(uneven.values()),
        )


def _sizing(sizing: Sizing) -> Iterable[Finding]:
    short = [need for need in sizing.needs if need.missing]
    if not short:
        return
    worst = sorted(short, key=lambda need: -need.missing)
    some = ", ".join(f"{need.metric} {need.groups} of {need.needed}" for need in worst[:6])
    more = f", and {len(worst) - 6} more" if len(worst) > 6 else ""
    yield Finding(
        code="few_test_images",
        severity=Severity.NOTE,
        what=f"{len(short)} of {len(sizing.needs)} figures have too few {sizing.split} groups for"
        f" ±{sizing.half_width:g} at {sizing.assumed:g}.",
        detail=f"Groups at hand, of those wanted: {some}{more}. A group is what its images share: a patient, a series;"
        f" else a file. Outcomes within one are assumed to correlate by {sizing.correlation:g}.",
        todo="Collect test images from new groups (new patients, new cameras): more of the same group adds little."
        " Or ask for a wider interval (--half-width).",
        n=max(need.missing for need in short),
    )


def _domain(found: Domain | None) -> Iterable[Finding]:
    if found is None:
        return
    todo = {
        "near": "Nothing: the pretrained features fit; a linear probe and a short fine-tuning go far.",
        "middle": "Fine-tune the whole network, with batch-normalisation statistics re-estimated (train does both);"
        " a linear probe alone will fall short.",
        "far": "Fine-tune the whole network for longer and compare --set batch_norm=trained; look for a backbone"
        " trained on images of this kind; check the window, for nearly black images are far as well.",
    }
    yield Finding(
        code="domain",
        severity=Severity.LOOK if found.level == "far" else Severity.NOTE,
        what=f"The images lie {found.level} {'to' if found.level == 'near' else 'from'} what the backbone was trained"
        f" on (distance {found.distance:.2f}).".replace("lie middle from", "lie at a middle distance from"),
        detail=f"Photographs 0.25, noise 0.77. {found.gray:.0%} of the images are gray.",
        todo=todo[found.level],
        n=0,
    )
