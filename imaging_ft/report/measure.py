"""The report: the exported file, measured on a test split, clean and under every condition of a suite."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from imaging_ft import __version__
from imaging_ft.augment.conditions import Setting, Suite, load_suite
from imaging_ft.bundle import Bundle, Said
from imaging_ft.catalog import suggest
from imaging_ft.data import Prepared, Sample, prepare
from imaging_ft.data.folds import folds
from imaging_ft.data.images import targets
from imaging_ft.data.samples import classes_of
from imaging_ft.errors import DataError
from imaging_ft.image import read_image
from imaging_ft.inference.runner import MAX_BATCH_PIXELS, Runner
from imaging_ft.preprocess import conform
from imaging_ft.report.gates import Place, Requirement
from imaging_ft.report.recorded import Slice, slices
from imaging_ft.report.result import Cell, ConditionInfo, DatasetInfo, Estimate, ModelInfo, Report
from imaging_ft.report.statistics import evidence
from imaging_ft.types import Json, Pixels, Split, Status, Task, Track, silent

LIMITATIONS = (
    "Synthetic conditions are physical models laid over the test images; they are not recordings of them.",
    "The severities of one condition are measured on the same images; they are not more evidence.",
    "Intervals treat images as independent. Where there are fewer groups than images they are too narrow.",
    "Nothing here speaks of images from another source, another task or another population.",
)


EVERY = "all"
"""The split's name where every image is measured."""


@dataclass(frozen=True)
class _Test:
    """The images that are measured on."""

    samples: tuple[Sample, ...]
    truth: Said
    """[n, classes]: what each image shows."""
    groups: list[str]
    name: str
    """`test`, or `all` for a data set that declares no splits and isn't the one trained on."""


def measure(
    runner: Runner,
    dataset: str,
    *,
    suite: str | None = None,
    require: Sequence[str] = (),
    split: Split | None = None,
    skip_bad: bool = False,
    track: Track = silent,
) -> Report:
    """Return the report of a bundle on a data set, clean and under a condition suite, with its gates judged.

    Without `split` the test split is measured; of a data set that declares no splits and isn't the one that
    the model was trained on, every image is. Without `suite` the card's is used, else the one recorded in the
    bundle, else one by the images' channels. Raises DataError, ConfigError.
    """
    bundle = runner.bundle
    requirements = [Requirement(expr, metrics=_metric_names(bundle.names)) for expr in require]
    data, test = _test_images(dataset, bundle, split, skip_bad=skip_bad, track=track)
    conditions = load_suite(suite or data.card.conditions or bundle.provenance.get("conditions") or _suite_for(bundle))
    settings = conditions.settings()
    parts, notes = slices(test.samples)
    known: list[Place] = [
        *(("synthetic", setting.conditions) for setting in settings[1:]),
        *(("recorded", {part.column: part.value}) for part in parts),
    ]
    for requirement in requirements:
        requirement.check(known)
    predicted = _predict(runner, test.samples, settings, conditions.seed, track)

    labels, task = bundle.names, bundle.task
    found = [
        evidence(test.truth, predicted[:, index], labels, test.groups, task=task) for index in range(len(settings))
    ]
    practised = set(bundle.provenance.get("practised", []))
    cells = [
        Cell(
            **evidence_here.model_dump(),
            source="synthetic",
            conditions=setting.conditions,
            axes=setting.axes,
            practised=set(setting.conditions) <= practised,
        )
        for setting, evidence_here in zip(settings[1:], found[1:], strict=True)
    ]
    synthetic = sorted(cells, key=_badness)
    recorded = _recorded(test, parts, predicted[:, 0], bundle)
    defined = [cell for cell in synthetic if cell.status is not Status.UNDEFINED]
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        tool=f"imaging_ft {__version__}",
        model=ModelInfo(
            file=runner.path.name,
            sha256=runner.sha256,
            backbone=str(bundle.provenance.get("backbone", "unknown")),
            task=bundle.task.value,
            labels=labels,
            thresholds={name: bundle.thresholds[name] for name in labels} if task is Task.MULTILABEL else None,
            intended_use=bundle.intended_use,
        ),
        dataset=DatasetInfo(
            name=data.card.name,
            fingerprint=data.fingerprint,
            split=test.name,
            n=len(test.samples),
            groups=len(set(test.groups)),
            classes=dict(zip(labels, test.truth.sum(axis=0).tolist(), strict=True)),
            none=int((~test.truth.any(axis=1)).sum()) if task is Task.MULTILABEL else None,
            skipped=len(data.skipped),
        ),
        suite=conditions.name,
        severities=list(conditions.severities),
        conditions=_condition_infos(conditions, practised),
        positive=_positive(data, bundle),
        overall=found[0],
        cells=[*synthetic, *recorded],
        mean=_means([cell.metrics for cell in defined]),
        worst=defined[0] if defined else None,
        gates=[requirement.judge(found[0], [*synthetic, *recorded]) for requirement in requirements],
        warnings=_warnings(data, bundle, notes),
        limitations=list(LIMITATIONS),
    )


def _test_images(
    dataset: str, bundle: Bundle, split: Split | None, *, skip_bad: bool, track: Track
) -> tuple[Prepared, _Test]:
    """Return the data set and the images of it to measure on; no others are decoded."""
    seed = int(bundle.provenance.get("dataset", {}).get("split_seed", 0))

    def prepared(decode: frozenset[Split]) -> Prepared:
        return prepare(dataset, seed=seed, skip_bad=skip_bad, decode=decode, track=track)

    # A fold is dealt from train and validation, where an image that can't be decoded was left out before.
    folded = split not in {None, Split.TEST} and _fold(bundle.provenance) is not None
    data = prepared(frozenset({Split.TRAIN, Split.VAL} if folded else {split or Split.TEST}))
    test = _choose(data, bundle, split)
    if test.name == EVERY:
        data = prepared(frozenset(Split))
        test = _choose(data, bundle, split)
    return data, test


def _choose(data: Prepared, bundle: Bundle, split: Split | None) -> _Test:
    """Return the samples to measure on.

    Raises DataError where there are none, where a label is unknown, or where images show one class each and the model
    says several (or the other way round).
    """
    _refuse_another_task(data, bundle)
    own = data.fingerprint == bundle.provenance.get("dataset", {}).get("fingerprint")
    if split is not None or data.declared or own:
        wanted = split or Split.TEST
        parts = _as_trained(data, bundle.provenance) if own and wanted is not Split.TEST else data
        samples, name = parts.of(wanted), wanted.value
        if not samples:
            there = ", ".join(part.value for part in Split if data.of(part))
            raise DataError(f"{data.card.name}: no {name} images (there are: {there}); choose one with --split")
    else:
        samples, name = data.samples, EVERY
    for sample in samples:
        for label in classes_of(sample, bundle.task):
            if label not in bundle.names:
                hint = suggest(label, bundle.names)
                raise DataError(f"{sample.where}: the model knows no class {label!r}; {hint}")
    units = [sample.group or data.hashes[sample.id] for sample in samples]
    return _Test(samples, targets(samples, bundle.names, bundle.task) > 0, units, name)


def _refuse_another_task(data: Prepared, bundle: Bundle) -> None:
    several = bundle.task is Task.MULTILABEL
    if several != (data.card.task is Task.MULTILABEL):
        kinds = ("any number of classes", "one class")
        says, shows = kinds if several else kinds[::-1]
        remedy = "write task: multilabel in its card" if several else "measure with images of one class each"
        raise DataError(
            f"{data.card.name}: an image shows {shows} (task {data.card.task}), but the model says {says}"
            f" (task {bundle.task}); {remedy}"
        )


def _as_trained(data: Prepared, provenance: Json) -> Prepared:
    """Return the data that a model was trained on with the training's own splits: its fold's, where it had one."""
    named = _fold(provenance)
    if named is None:
        return data
    count, fold = named
    return folds(data, count, seed=int(provenance.get("dataset", {}).get("split_seed", 0)))[fold - 1]


def _fold(provenance: Json) -> tuple[int, int] | None:
    """Return how many folds a cross-validation had and which one a model was trained on (from 1); None without."""
    config: Json = provenance.get("config", {})
    count, fold = config.get("folds"), config.get("fold")
    return (int(count), int(fold)) if count and fold else None


def _suite_for(bundle: Bundle) -> str:
    return "camera" if bundle.input.channels == 3 else "radiograph"


def _predict(runner: Runner, samples: Sequence[Sample], settings: Sequence[Setting], seed: int, track: Track) -> Said:
    """Return what the model says [samples, settings, classes].

    Every setting of one image has the image's size, so they are one batch; the next images are prepared
    while the model runs.
    """

    def variants(sample: Sample) -> Iterator[list[Pixels]]:
        # The model's own depth and channels, so that what is changed is what the model would be given.
        pixels = conform(read_image(sample.path), runner.bundle.input)
        window = runner.bundle.input.window
        step = max(1, MAX_BATCH_PIXELS // (pixels.shape[0] * pixels.shape[1]))
        for start in range(0, len(settings), step):
            chosen = settings[start : start + step]
            yield [setting.apply(pixels, sample_id=sample.id, seed=seed, window=window) for setting in chosen]

    def said(sample: Sample) -> Said:
        return np.concatenate([runner.bundle.decide(runner.predict(batch)) for batch in variants(sample)])

    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = track(pool.map(said, samples), "measuring", len(samples))
        return np.stack(list(rows))


def _recorded(test: _Test, parts: Sequence[Slice], predicted: Said, bundle: Bundle) -> list[Cell]:
    return [
        Cell(
            **evidence(
                test.truth[part.positions],
                predicted[part.positions],
                bundle.names,
                [test.groups[position] for position in part.positions],
                task=bundle.task,
            ).model_dump(),
            source="recorded",
            conditions={part.column: part.value},
            axes=[part.column],
        )
        for part in parts
    ]


def _badness(cell: Cell) -> tuple[float, float]:
    """Sort cells worst first: by accuracy, then by balanced accuracy; undefined ones last."""
    nothing = Estimate(value=2, low=2, high=2, method="wilson")
    return tuple(cell.metrics.get(name, nothing).value for name in ("accuracy", "balanced_accuracy"))  # pyright: ignore[reportReturnType]


def _means(metrics: Sequence[dict[str, Estimate]]) -> dict[str, float]:
    """Return the mean over cells of each metric that every cell has."""
    if not metrics:
        return {}
    shared = [name for name in metrics[0] if all(name in found for found in metrics)]
    return {name: float(np.mean([found[name].value for found in metrics])) for name in shared}


def _metric_names(labels: Sequence[str]) -> list[str]:
    by_label = [f"{kind}[{label}]" for kind in ("sensitivity", "specificity") for label in labels]
    return ["accuracy", "balanced_accuracy", *by_label]


def _positive(data: Prepared, bundle: Bundle) -> list[str]:
    named = data.card.positive or bundle.provenance.get("positive", [])
    return [name for name in named if name in bundle.names]


def _condition_infos(suite: Suite, practised: set[str]) -> list[ConditionInfo]:
    return [
        ConditionInfo(
            name=member.name,
            axis=member.axis,
            title=member.title,
            parameter=member.parameter,
            values={severity: member.value(severity) for severity in suite.severities},
            practised=member.name in practised,
        )
        for member in suite.members()
    ]


def _warnings(data: Prepared, bundle: Bundle, notes: Sequence[str]) -> list[str]:
    trained = bundle.provenance.get("dataset", {})
    of_training = [f"in training: {warning}" for warning in trained.get("warnings", [])]
    return list(
        dict.fromkeys([*of_training, *(w for w in data.warnings if f"in training: {w}" not in of_training), *notes])
    )
