"""What a report says of the model, the images and the conditions that were measured."""

from collections.abc import Sequence

from imaging_ft import __version__
from imaging_ft.augment.conditions import Suite
from imaging_ft.bundle import DEFAULT_THRESHOLD, Bundle, Said
from imaging_ft.inference.runner import Runner
from imaging_ft.report.pixels import MEASURES
from imaging_ft.report.result import ConditionInfo, DatasetInfo, ModelInfo
from imaging_ft.report.store import About
from imaging_ft.report.subject import Subject
from imaging_ft.types import Task


def describe(
    runner: Runner, subject: Subject, suite: Suite, *, truth: Said, recorded: Sequence[str], created: str
) -> About:
    """Return what is said of a measurement beside its rows; `truth` [images, classes] is what the images show."""
    bundle, data = runner.bundle, subject.data
    multilabel = bundle.task is Task.MULTILABEL
    named = data.card.positive or bundle.provenance.get("positive", [])
    return About(
        created=created,
        tool=f"imaging_ft {__version__}",
        model=ModelInfo(
            file=runner.path.name,
            sha256=runner.sha256,
            backbone=str(bundle.provenance.get("backbone", "unknown")),
            task=bundle.task.value,
            labels=bundle.names,
            thresholds=_thresholds(bundle),
            intended_use=bundle.intended_use,
        ),
        dataset=DatasetInfo(
            name=data.card.name,
            fingerprint=data.fingerprint,
            split=subject.name,
            n=len(subject.samples),
            groups=len(set(subject.groups)),
            classes=dict(zip(bundle.names, truth.sum(axis=0).tolist(), strict=True)),
            none=int((~truth.any(axis=1)).sum()) if multilabel else None,
            skipped=len(data.skipped),
        ),
        suite=suite.name,
        severities=list(suite.severities),
        conditions=_condition_infos(suite, bundle),
        positive=[name for name in named if name in bundle.names],
        warnings=_warnings(subject, bundle, suite),
        rejects=bundle.quality is not None or bundle.ood is not None,
        recorded=list(recorded),
        measured=list(MEASURES),
    )


def _thresholds(bundle: Bundle) -> dict[str, float] | None:
    """Return the thresholds that decide, or that were chosen as operating points; None where all are as they come."""
    found = {name: bundle.thresholds[name] for name in bundle.names}
    chosen = bundle.task is Task.MULTILABEL or any(value != DEFAULT_THRESHOLD for value in found.values())
    return found if chosen else None


def _condition_infos(suite: Suite, bundle: Bundle) -> list[ConditionInfo]:
    practised = set(bundle.provenance.get("practised", []))
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
        if bundle.input.channels in member.channels
    ]


def _warnings(subject: Subject, bundle: Bundle, suite: Suite) -> list[str]:
    trained = bundle.provenance.get("dataset", {})
    found = [*subject.notes]
    found += [f"in training: {warning}" for warning in trained.get("warnings", [])]
    found += [warning for warning in subject.data.warnings if f"in training: {warning}" not in found]
    left_out = [member.name for member in suite.members() if bundle.input.channels not in member.channels]
    if left_out:
        found.append(f"left out, for images of {bundle.input.channels} channels: {', '.join(left_out)}")
    if not any(sample.group for sample in subject.samples):
        found.append(
            "no groups (patients, series, cameras) are known: every image is taken to stand for itself; where several"
            " come from one, intervals are too narrow"
        )
    return list(dict.fromkeys(found))
