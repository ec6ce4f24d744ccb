"""A made-up report with every part filled, for the tests of the page, the summary and the files."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from imaging_ft.report.gallery import Pictures
from imaging_ft.report.result import (
    Against,
    Bin,
    Cell,
    Column,
    ConditionInfo,
    DatasetInfo,
    Detail,
    Discovered,
    Estimate,
    Evidence,
    Failure,
    Gap,
    Gate,
    Method,
    ModelInfo,
    Paired,
    Report,
    Source,
)
from imaging_ft.types import Axis, Status

LABELS = ("handgun", "razor_blade", "shuriken", "none")
Named = Mapping[str, int | str]

CONDITIONS: dict[str, tuple[Axis, str, str, float, bool, float]] = {
    "low_dose": (Axis.LIGHTING, "Low dose", "deviation index (dB)", -2.0, True, 0.05),
    "over_exposure": (Axis.LIGHTING, "Over-exposure", "deviation index (dB)", 2.0, False, 0.012),
    "tube_voltage": (Axis.LIGHTING, "Tube voltage", "gamma", -0.1, True, 0.02),
    "scatter": (Axis.SENSOR, "Scatter", "scatter fraction (%)", 10.0, False, 0.045),
    "motion_blur": (Axis.MOTION, "Motion blur", "kernel (px)", 4.0, False, 0.03),
    "roll": (Axis.ANGLE, "Roll", "rotation (°)", 5.0, True, 0.01),
    "pitch": (Axis.ANGLE, "Pitch", "rotation (°)", 10.0, False, 0.06),
}
"""Name to axis, title, parameter, step of the parameter, whether practised, and how much a severity costs."""


def estimate(value: float, n: int, method: Method = "wilson_by_group", *, low: float = 0.0) -> Estimate:
    """Return a value, rounded, with a 95% interval of about the right width, within [low, 1]."""
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.004) / max(n, 1)) * 1.3
    found = (value, max(low, value - half), min(1.0, value + half))
    return Estimate(**dict(zip(("value", "low", "high"), (round(one, 6) for one in found), strict=True)), method=method)


def metrics(value: float, n: int, labels: Sequence[str]) -> dict[str, Estimate]:
    """Return every metric at an accuracy of about `value`; none below 10 images."""
    if n < 10:
        return {}
    value = min(max(value, 0.02), 0.995)
    found = {
        "accuracy": estimate(value, n),
        "balanced_accuracy": estimate(value * 0.96, n, "mover_by_group"),
        "macro_f1": estimate(value * 0.95, n, "jackknife_by_group"),
        "brier": estimate((1 - value) * 0.8 + 0.02, n, "jackknife_by_group"),
        "ece": estimate((1 - value) * 0.5 + 0.01, n * 4, "jackknife_by_group"),
        "rejected": estimate((1 - value) * 0.7, n),
        "accuracy_answered": estimate(value**0.6, n),
    }
    share = max(n // max(len(labels), 1), 1)
    for place, label in enumerate(labels):
        tilt = 1 - 0.02 * (place % 5)
        found |= {
            f"sensitivity[{label}]": estimate(value * tilt, share),
            f"specificity[{label}]": estimate(0.9 + 0.09 * value * tilt, n),
            f"auroc[{label}]": estimate(0.5 + 0.495 * value * tilt, n, "delong_by_group"),
            f"auprc[{label}]": estimate(value * tilt * 0.97, share, "jackknife_by_group"),
        }
    return found


def paired(difference: float, n: int, *, p: float) -> Paired:
    """Return a difference with its interval and p-values."""
    half = 1.96 * math.sqrt(0.08 / max(n, 1))
    return Paired(
        accuracy=Estimate(value=difference, low=difference - half, high=difference + half, method="wilson_by_group"),
        balanced_accuracy=Estimate(value=difference, low=difference - half, high=difference + half, method="mover"),
        only_this=max(0, round(n * (0.04 + difference / 2))),
        only_other=max(0, round(n * (0.04 - difference / 2))),
        p=p,
        p_holm=min(1.0, p * 20),
    )


def evidence(value: float, n: int, labels: Sequence[str], *, groups: int | None = None) -> dict[str, Any]:
    """Return the fields of an `Evidence`."""
    status = Status.UNDEFINED if n < 10 else Status.LOW_N if n < 50 else Status.OK
    return {"n": n, "groups": groups or max(1, n // 6), "status": status, "metrics": metrics(value, n, labels)}


def cell(
    conditions: Named, value: float, n: int, labels: Sequence[str], *, source: Source = "synthetic", compared: bool
) -> Cell:
    """Return a cell; a synthetic one knows its axes and whether training practised it."""
    synthetic = source == "synthetic"
    difference = 0.06 - 0.9 * (0.97 - value) ** 2 if synthetic else 0.01
    return Cell(
        **evidence(value, n, labels),
        source=source,
        conditions=dict(conditions),
        axes=[str(CONDITIONS[name][0]) if name in CONDITIONS else name for name in conditions],
        practised=all(CONDITIONS[name][4] for name in conditions)
        if synthetic and set(conditions) <= set(CONDITIONS)
        else None,
        against=paired(round(difference, 4), n, p=0.0004 if abs(difference) > 0.04 else 0.02)
        if compared and n >= 10
        else None,
    )


def value_of(conditions: Named) -> float:
    """Return the accuracy of a synthetic cell."""
    return 0.97 - sum(CONDITIONS[name][5] * float(level) for name, level in conditions.items())


def detail(conditions: Named, value: float, n: int, labels: Sequence[str]) -> Detail:
    """Return what lies behind a cell: most of each class right, the rest taken for the next class."""
    count, k = max(n // len(labels), 1), len(labels)
    right = [round(count * max(0.02, min(1.0, value * (1 - 0.02 * (place % 5))))) for place in range(k)]
    confusion = [[0] * k for _ in range(k)]
    for place in range(k):
        confusion[place][place] = right[place]
        confusion[place][(place + 1) % k] += (count - right[place]) * 2 // 3
        confusion[place][place - 1] += count - right[place] - (count - right[place]) * 2 // 3
    places = [0.42, 0.58, 0.7, 0.8, 0.88, 0.94, 0.97, 0.99]
    reliability = [
        Bin(n=n // 8, confidence=one, accuracy=estimate(max(0.05, one - (1 - value) * 0.9), n // 8)) for one in places
    ]
    curve = [(step / 200, round((1 - value) * (step / 200) ** 1.5, 5)) for step in range(1, 201)]
    aurc = round(sum(risk for _, risk in curve) / len(curve), 5)
    confused = confusion if k > 1 else [[n]]
    return Detail(
        conditions=dict(conditions), confusion=confused, reliability=reliability, risk_coverage=curve, aurc=aurc
    )


def picture(seed: int, side: int = 96) -> str:
    """Return a small made-up JPEG as a data URI."""
    y, x = np.mgrid[:side, :side] / side
    wave = np.sin(2 * np.pi * (x * (1 + seed % 4) + y * (1 + seed % 3))) * 90 + 128
    shape = (np.hypot(x - 0.5, y - 0.45) < 0.18 + 0.02 * (seed % 4)) * 70
    pixels = np.clip(wave + shape, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def pictures(report: Report) -> list[Pictures]:
    """Return pictures for each failure, as the gallery makes them; a clean one has no changed image."""
    return [
        Pictures(picture(3 * at), picture(3 * at + 1) if failure.conditions else None, picture(3 * at + 2))
        for at, failure in enumerate(report.failures)
    ]


def rich_report(
    *,
    labels: Sequence[str] = LABELS,
    positive: Sequence[str] = ("handgun",),
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    names: Sequence[str] = tuple(CONDITIONS),
    extra_columns: int = 0,
    pairs: Sequence[tuple[str, str]] = (("low_dose", "roll"),),
    n: int = 720,
) -> Report:
    """Return a report with every part filled: 60 synthetic cells, columns of both kinds, and another model."""

    def made(conditions: Named, value: float, size: int, source: Source = "synthetic") -> Cell:
        return cell(conditions, value, size, labels, source=source, compared=True)

    single = [{name: level} for name in names for level in severities]
    together = [{a: i, b: j} for a, b in pairs for i in severities for j in severities]
    synthetic = [made(one, value_of(one), n) for one in (*single, *together)]
    synthetic.sort(key=lambda one: one.metrics["accuracy"].value if one.metrics else 2.0)
    angles = {
        "0 to <15": (7.5, 0.97, 300),
        "15 to <30": (22.5, 0.94, 220),
        "30 to <45": (37.5, 0.86, 160),
        "45 to 60": (52.5, 0.7, 40),
    }
    recorded = [
        made({"site": "A"}, 0.975, 409, "recorded"),
        made({"site": "B"}, 0.94, 260, "recorded"),
        made({"site": "C"}, 0.86, 44, "recorded"),
        made({"site": "(empty)"}, 0.9, 7, "recorded"),
        made({"sex": "F"}, 0.94, 350, "recorded"),
        made({"sex": "M"}, 0.955, 370, "recorded"),
        *(made({"view_angle_deg": name}, value, size, "recorded") for name, (_, value, size) in angles.items()),
        made({"site": "A", "sex": "F"}, 0.96, 190, "recorded"),
        made({"site": "C", "sex": "M"}, 0.8, 21, "recorded"),
    ]
    measured = [
        *(
            made({"brightness": name}, value, n // 4, "measured")
            for name, value in {
                "0.08 to <0.31": 0.88,
                "0.31 to <0.42": 0.95,
                "0.42 to <0.55": 0.97,
                "0.55 to 0.93": 0.96,
            }.items()
        ),
        *(
            made({"sharpness": name}, value, n // 2, "measured")
            for name, value in {"0.1 to <2.4": 0.91, "2.4 to 9.7": 0.97}.items()
        ),
    ]
    more = [
        made({f"column_{at}": f"value {i}"}, 0.9 + 0.01 * i, 140, "recorded")
        for at in range(extra_columns)
        for i in range(5)
    ]
    columns = [
        Column(name="site", source="recorded", title="site", axis="site"),
        Column(name="sex", source="recorded", title="sex", axis="sex"),
        Column(
            name="view_angle_deg",
            source="recorded",
            title="view_angle_deg (°)",
            axis="angle",
            centres=[centre for centre, _, _ in angles.values()],
        ),
        *(
            Column(name=f"column_{at}", source="recorded", title=f"column_{at}", axis=f"column_{at}")
            for at in range(extra_columns)
        ),
        Column(
            name="brightness",
            source="measured",
            title="brightness (share of full scale)",
            axis="lighting",
            centres=[0.2, 0.365, 0.485, 0.74],
        ),
        Column(
            name="sharpness", source="measured", title="sharpness (Laplacian)", axis="sharpness", centres=[1.2, 6.0]
        ),
    ]
    gaps = [
        Gap(
            of=name,
            source="synthetic",
            best="clean",
            worst=f"{name} {max(severities)}",
            metrics={
                "accuracy": estimate(0.97 - value_of({name: max(severities)}), n, low=-1),
                "balanced_accuracy": estimate(0.9 - 0.9 * value_of({name: max(severities)}), n, low=-1),
            },
        )
        for name in names
    ]
    gaps += [
        Gap(
            of="site",
            source="recorded",
            best="site = A",
            worst="site = C",
            metrics={"accuracy": estimate(0.115, 60, low=-1), "balanced_accuracy": estimate(0.1, 60, low=-1)},
        ),
        Gap(
            of="sex",
            source="recorded",
            best="sex = M",
            worst="sex = F",
            metrics={"accuracy": estimate(0.015, 300, low=-1)},
        ),
        Gap(
            of="view_angle_deg",
            source="recorded",
            best="view_angle_deg = 0 to <15",
            worst="view_angle_deg = 45 to 60",
            metrics={"accuracy": estimate(0.27, 60, low=-1)},
        ),
        Gap(
            of="brightness",
            source="measured",
            best="brightness = 0.42 to <0.55",
            worst="brightness = 0.08 to <0.31",
            metrics={"accuracy": estimate(0.09, 170, low=-1)},
        ),
    ]
    worst = synthetic[0] if synthetic else None
    details = [detail({}, 0.97, n, labels)]
    if worst:
        details.append(detail(worst.conditions, max(0.1, value_of(worst.conditions)), n, labels))
    details += [detail({name: max(severities)}, value_of({name: max(severities)}), n, labels) for name in names]
    failures = [
        Failure(
            image=f"images/site_c/series_{at:02}/slice_{at * 7:04}.png",
            conditions={} if at == 1 else {names[at % len(names)]: max(severities)} if names else {},
            truth=labels[at % len(labels)],
            said=labels[(at + 1) % len(labels)],
            probability=0.998 - 0.01 * at,
            truth_probability=0.001 + 0.004 * at,
        )
        for at in range(6)
    ]
    per_class = n // len(labels)
    return Report(
        created="2026-01-15T09:30:00Z",
        tool="imaging_ft 0.1.0",
        model=ModelInfo(
            file="model.onnx",
            sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            backbone="efficientnet_lite0",
            task="binary" if len(labels) == 2 else "multiclass",
            labels=list(labels),
            intended_use="Second reader for cabin baggage; a human decides.",
        ),
        dataset=DatasetInfo(
            name="baggage",
            fingerprint="sha256:0d6c3a0e5f",
            split="test",
            n=n,
            groups=n // 6,
            classes={
                label: per_class + (n - per_class * len(labels) if at == 0 else 0) for at, label in enumerate(labels)
            },
            skipped=2,
        ),
        suite="baggage_xray",
        severities=list(severities),
        conditions=[
            ConditionInfo(
                name=name,
                axis=axis,
                title=title,
                parameter=parameter,
                values={level: round(step * level, 6) for level in severities},
                practised=practised,
            )
            for name, (axis, title, parameter, step, practised, _) in CONDITIONS.items()
            if name in names
        ],
        positive=list(positive),
        overall=Evidence(**evidence(0.97, n, labels, groups=n // 6)),
        cells=[*synthetic, *recorded, *more, *measured],
        mean={"accuracy": 0.83, "balanced_accuracy": 0.8, **{f"sensitivity[{label}]": 0.81 for label in positive}},
        worst=worst,
        columns=columns,
        gaps=gaps,
        details=details,
        against=Against(
            file="baseline.onnx",
            sha256="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            overall=paired(0.021, n, p=0.0011),
            mce=0.84,
            relative_mce=0.91,
            by_condition={name: 0.7 + 0.09 * at for at, name in enumerate(names)},
        ),
        discovered=[
            Discovered(
                conditions={"site": "C", "brightness": "0.08 to <0.31"},
                found=estimate(0.62, 18),
                found_n=18,
                accuracy=estimate(0.68, 19),
                n=19,
                rest=0.96,
                p=0.004,
                confirmed=True,
            ),
            Discovered(
                conditions={"view_angle_deg": "45 to 60"},
                found=estimate(0.7, 22),
                found_n=22,
                accuracy=estimate(0.9, 20),
                n=20,
                rest=0.95,
                p=0.31,
                confirmed=False,
            ),
        ],
        failures=failures,
        gates=[
            Gate(expr="accuracy >= 0.9", bound="low", observed=0.951, outcome="pass", detail="clean: 0.970"),
            Gate(
                expr="worst.accuracy >= 0.8",
                bound="low",
                observed=0.46,
                outcome="fail",
                detail="low_dose 5 × roll 5: accuracy 0.670 [0.625, 0.715], n = 720",
            ),
            Gate(
                expr="gap[site].accuracy <= 0.05",
                bound="high",
                observed=None,
                outcome="insufficient",
                detail="site: too few images to tell",
            ),
            Gate(
                expr="against.accuracy >= -0.01", bound="low", observed=0.0004, outcome="pass", detail="clean: +0.021"
            ),
        ],
        warnings=[
            "The validation part could not be grouped: class shuriken has one acquisition series in train.",
            "12 test images have the same bytes as a training image.",
        ],
        limitations=["Out-of-plane views can't be made from one radiograph, and are not measured.", "One scanner."],
    )
