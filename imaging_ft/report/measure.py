"""The report: the exported file, measured on a test split, clean and under every condition of a suite."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from imaging_ft.augment.conditions import Setting, Suite, load_suite, usual_suite
from imaging_ft.bundle import Bundle
from imaging_ft.catalog import suggest
from imaging_ft.data import Prepared
from imaging_ft.data.images import targets
from imaging_ft.errors import ConfigError
from imaging_ft.inference.activation import Activation
from imaging_ft.inference.runner import Runner
from imaging_ft.report.about import describe
from imaging_ft.report.assemble import assemble
from imaging_ft.report.gallery import Pictures, pictures
from imaging_ft.report.gates import Known, Requirement
from imaging_ft.report.observed import observe
from imaging_ft.report.pixels import MEASURES
from imaging_ft.report.predict import FOLDER, predict_settings
from imaging_ft.report.restore import read_predictions
from imaging_ft.report.result import Report
from imaging_ft.report.store import reserved, write_predictions
from imaging_ft.report.subject import find_subject
from imaging_ft.report.write import PREDICTIONS
from imaging_ft.types import Split, Track, silent

OTHER_PREDICTIONS = "predictions-against.parquet"
FAST = (1, 3, 5)
"""The severities of a fast report, which has no grid."""


@dataclass(frozen=True)
class Measurement:
    """A report, and the pictures of its failures in their order."""

    report: Report
    pictures: list[Pictures]


def measure(
    runner: Runner,
    dataset: str,
    *,
    out: Path | None = None,
    suite: str | None = None,
    severities: Sequence[int] | None = None,
    fast: bool = False,
    require: Sequence[str] = (),
    against: Runner | None = None,
    cross: Sequence[Sequence[str]] = (),
    split: Split | None = None,
    skip_bad: bool = False,
    show: bool = True,
    track: Track = silent,
) -> Measurement:
    """Return the report of a bundle on a data set, clean and under a condition suite, with its gates judged.

    Without `split` the test split is measured; of a data set that declares no splits and isn't the one that
    the model was trained on, every image is. Images that it has seen in training are left out. Without `suite` the
    card's is used, else the one recorded in the bundle, else one by the images' channels; `severities` take the place
    of the suite's, and `fast` measures severities 1, 3 and 5 without pairs. `against` is another model, measured on the
    very same images. `cross` names recorded or measured columns, two or three at a time, whose intersections become
    cells too. `out` is where the predictions are kept, also of a measurement that is broken off: the next one goes on
    from there. `show` draws pictures of the worst failures. Raises DataError, ConfigError.
    """
    bundle = runner.bundle
    requirements = _parsed(require, bundle.names)
    if against is not None and against.bundle.names != bundle.names:
        raise ConfigError(
            f"{against.path}: has the classes {', '.join(against.bundle.names)}, but {runner.path} has"
            f" {', '.join(bundle.names)}; compare models of the same classes in the same order"
        )
    other = against.bundle if against is not None else None
    subject = find_subject(dataset, bundle, split, against=other, skip_bad=skip_bad, track=track)
    conditions = _suite(subject.data, bundle, suite, severities=severities, fast=fast)
    settings = conditions.settings(channels=bundle.input.channels)
    recorded = _named(subject.recorded(), bundle.names)
    _check(requirements, settings, recorded, cross, other=against is not None)
    runners = [runner] if against is None else [runner, against]
    with _folder(out) as folder:
        measured = predict_settings(
            runners,
            subject.samples,
            settings,
            seed=conditions.seed,
            hashes=subject.data.hashes,
            keep=out / FOLDER if out else None,
            track=track,
        )
        created = datetime.now(UTC).isoformat(timespec="seconds")
        truth = targets(subject.samples, bundle.names, bundle.task) > 0
        paths = tables_of(folder)[: len(runners)]
        (folder / OTHER_PREDICTIONS).unlink(missing_ok=True)
        found = zip(runners, paths, measured.probabilities, measured.rejected, strict=True)
        for one, path, probabilities, rejected in found:
            write_predictions(
                path,
                describe(one, subject, conditions, truth=truth, recorded=recorded.columns, created=created),
                images=[sample.id for sample in subject.samples],
                groups=subject.groups,
                truth=truth,
                settings=[setting.conditions for setting in settings],
                probabilities=probabilities,
                rejected=rejected,
                observed=pl.DataFrame([*recorded.iter_columns(), *measured.pixels.iter_columns()]),
            )
        report = reassemble(*paths, cross=cross, requirements=requirements, track=track)
    if out is not None:
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    shown: list[Pictures] = []
    if show and report.failures:
        shown = pictures(
            report.failures,
            samples=subject.samples,
            settings=settings,
            runner=runner,
            activation=Activation.open(runner.path, bundle, sha256=runner.sha256),
            seed=conditions.seed,
            track=track,
        )
    return Measurement(report, shown)


def reassemble(
    path: Path,
    other: Path | None = None,
    *,
    cross: Sequence[Sequence[str]] = (),
    requirements: Sequence[Requirement] | None = None,
    require: Sequence[str] = (),
    track: Track = silent,
) -> Report:
    """Return the report of stored predictions (`restore.read_predictions`), with its gates judged.

    `other` holds another model's, of the same images. `require` are expressions, looked for among the cells;
    `requirements` were checked before anything was measured. The same files give the same report. Raises DataError and
    ConfigError.
    """
    predictions = read_predictions(path)
    checked = requirements is not None
    requirements = requirements or _parsed(require, predictions.labels)
    twin = read_predictions(other) if other is not None else None
    report = assemble(predictions, other=twin, cross=cross, track=track)
    if not checked:
        known = Known(
            places=[(cell.source, cell.conditions) for cell in report.cells],
            columns=[column.name for column in report.columns],
            other=report.against is not None,
        )
        for requirement in requirements:
            requirement.check(known)
    return report.model_copy(update={"gates": [requirement.judge(report) for requirement in requirements]})


def _parsed(require: Sequence[str], labels: Sequence[str]) -> list[Requirement]:
    return [Requirement(expr, labels=labels) for expr in require]


def tables_of(out: Path) -> list[Path]:
    """Return where a report keeps what the model said, and what the other model did."""
    return [out / PREDICTIONS, out / OTHER_PREDICTIONS]


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Yield the folder that predictions are written into."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with TemporaryDirectory() as name:
        yield Path(name)


def _suite(data: Prepared, bundle: Bundle, named: str | None, *, severities: Sequence[int] | None, fast: bool) -> Suite:
    trained_for = bundle.provenance.get("conditions")
    suite = load_suite(named or data.card.conditions or trained_for or usual_suite(bundle.input.channels))
    values = suite.model_dump()
    if fast:
        values |= {"severities": FAST, "grid": None}
    if severities is not None:
        values |= {"severities": tuple(severities)}
    return Suite.checked(values, where=f"condition suite {suite.name}")


def _named(recorded: pl.DataFrame, labels: Sequence[str]) -> pl.DataFrame:
    """Return recorded columns under names that stand for nothing else in the table of predictions."""
    taken = [name for name in recorded.columns if reserved(name, labels) or name in MEASURES]
    return recorded.rename({name: f"recorded_{name}" for name in taken})


def _check(
    requirements: Sequence[Requirement],
    settings: Sequence[Setting],
    recorded: pl.DataFrame,
    cross: Sequence[Sequence[str]],
    *,
    other: bool,
) -> None:
    """Raise ConfigError where a gate or an intersection names what won't be measured: before hours of work."""
    columns = [*recorded.columns, *MEASURES]
    for names in cross:
        for name in names:
            if name not in columns:
                raise ConfigError(f"--cross {','.join(names)}: no column {name!r}; {suggest(name, columns)}")
        if 0 < len(set(names) & set(MEASURES)) < len(set(names)):
            raise ConfigError(
                f"--cross {','.join(names)}: crosses recorded with measured columns; an intersection is of one kind"
            )
    observed = observe(recorded, source="recorded", cross=[names for names in cross if not set(names) <= set(MEASURES)])
    known = Known(
        places=[
            *(("synthetic", setting.conditions) for setting in settings[1:]),
            *(("recorded", part.conditions) for part in observed.slices),
        ],
        columns=[column.name for column in observed.columns],
        later=list(MEASURES),
        other=other,
    )
    for requirement in requirements:
        requirement.check(known)
