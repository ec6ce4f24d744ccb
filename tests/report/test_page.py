"""The page: complete, offline, safe with hostile names, the same bytes twice, and it fits a phone."""

import html
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from imaging_ft.report.page import render_page, write_page
from imaging_ft.report.result import Report
from tests.report.rich import rich_report

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert('x')</script>"
LONG = "improvised_device_in_an_unusually_shaped_container_with_a_very_long_name"
SEVERITIES = (1, 3, 5)
CONDITIONS = {
    "low_dose": ("lighting", "Low dose", "deviation index (dB)", -2.0, True, 0.040),
    "over_exposure": ("lighting", "Over-exposure", "deviation index (dB)", 2.0, False, 0.022),
    "roll": ("angle", "Roll", "rotation (°)", 5.0, True, 0.018),
    "pitch": ("angle", "Pitch", "rotation (°)", 10.0, False, 0.052),
}


def estimate(value: float, n: int, method: str = "wilson") -> dict[str, Any]:
    half = 1.96 * (max(value * (1 - value), 0.01) / n) ** 0.5
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "method": method}


def evidence(value: float, labels: list[str], *, n: int = 700, groups: int = 4) -> dict[str, Any]:
    """Return what the evaluation gives for n images at an accuracy of `value`: undefined below 10 images."""
    metrics: dict[str, Any] = {}
    if n >= 10:
        metrics["accuracy"] = estimate(value, n)
        metrics["balanced_accuracy"] = estimate(value * 0.96, n, "mover")
        for place, label in enumerate(labels):
            metrics[f"sensitivity[{label}]"] = estimate(value * (0.99 - 0.03 * place), n // len(labels))
            metrics[f"specificity[{label}]"] = estimate(value * (0.97 + 0.01 * place), n)
    status = "undefined" if n < 10 else "low_n" if n < 50 else "ok"
    return {"n": n, "groups": groups, "status": status, "metrics": metrics}


def synthetic(conditions: dict[str, int], labels: list[str], n: int) -> dict[str, Any]:
    drop = sum(CONDITIONS[name][5] * level for name, level in conditions.items())
    return evidence(0.968 - drop, labels, n=n) | {
        "source": "synthetic",
        "conditions": conditions,
        "axes": [CONDITIONS[name][0] for name in conditions],
        "practised": all(CONDITIONS[name][4] for name in conditions),
    }


def recorded(labels: list[str], conditions: dict[str, str], value: float, n: int) -> dict[str, Any]:
    found = evidence(value, labels, n=n, groups=(n + 59) // 60)
    if n == 260:
        found["metrics"].pop("balanced_accuracy")  # a class is absent among these images
    return found | {"source": "recorded", "conditions": conditions, "axes": list(conditions)}


def fake_report(
    *,
    labels: tuple[str, ...] = ("handgun", HOSTILE, LONG, "none"),
    positive: tuple[str, ...] = ("handgun", HOSTILE),
    names: tuple[str, ...] = tuple(CONDITIONS),
    severities: tuple[int, ...] = SEVERITIES,
    with_recorded: bool = True,
    with_gates: bool = True,
    multilabel: bool = False,
    n: int = 700,
) -> Report:
    """Return a report as the evaluation makes it; n < 10 leaves every cell undefined."""
    known = list(labels)
    single = [{name: level} for name in names for level in severities]
    lit = [one for one in single if CONDITIONS[next(iter(one))][0] == "lighting"]
    turned = [one for one in single if CONDITIONS[next(iter(one))][0] == "angle"]
    cells = [synthetic(one, known, n) for one in (*single, *(a | b for a in lit for b in turned))]
    if with_recorded:
        cells += [
            recorded(known, {"site": "A"}, 0.975, 409),
            recorded(known, {"site": "B & <i>sons</i>"}, 0.94, 260),
            recorded(known, {"site": "C"}, 0.9, 31),
            recorded(known, {"exposure": "[0.2, 0.4)"}, 0.93, 693),
            recorded(known, {"exposure": "[0.4, 0.8]"}, 0.5, 7),
            recorded(known, {"exposure": "not recorded"}, 0.5, 0),
            recorded(known, {"site": "A", "exposure": "[0.2, 0.4)"}, 0.97, 402),
        ]
        cells.append(recorded(known, {"brightness": "dark"}, 0.88, 120) | {"source": "measured"})
    gates = [
        {
            "expr": "accuracy >= 0.9",
            "bound": "low",
            "observed": 0.951,
            "outcome": "pass",
            "detail": "0.951 is at least 0.9",
        },
        {
            "expr": "worst.accuracy >= 0.8",
            "bound": "low",
            "observed": 0.46,
            "outcome": "fail",
            "detail": "0.460 is below 0.8, and so is the upper bound 0.534 (low_dose 5 × pitch 5)",
        },
        {
            "expr": f"sensitivity[{HOSTILE}] >= 0.9",
            "bound": "low",
            "observed": None,
            "outcome": "insufficient",
            "detail": f"too few images of {HOSTILE}: the interval holds 0.9",
        },
    ]
    counts = [n // 8, n // 8, n // 6][: len(known) - 1]
    defined = [cell for cell in cells if cell["source"] == "synthetic" and cell["metrics"]]
    worst = min(defined, key=lambda cell: cell["metrics"]["accuracy"]["value"], default=None)
    content = {
        "created": "2026-01-15T09:30:00Z",
        "tool": "imaging_ft 0.1.0",
        "model": {
            "file": "model.onnx",
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "backbone": "efficientnet_lite0",
            "task": "multilabel" if multilabel else "binary" if len(labels) == 2 else "multiclass",
            "labels": known,
            "thresholds": dict.fromkeys(known, 0.25) if multilabel else None,
            "intended_use": "Second reader for cabin baggage; a human decides.",
        },
        "dataset": {
            "name": "baggage",
            "fingerprint": "sha256:0d6c3a0e5f",
            "split": "test",
            "n": n,
            "groups": 4,
            "classes": dict(zip(known, [*counts, n - sum(counts)], strict=True)),
            "none": n // 7 if multilabel else None,
            "skipped": 2,
        },
        "suite": "radiograph",
        "severities": list(severities),
        "conditions": [
            {
                "name": name,
                "axis": CONDITIONS[name][0],
                "title": CONDITIONS[name][1],
                "parameter": CONDITIONS[name][2],
                "values": {level: CONDITIONS[name][3] * level for level in severities},
                "practised": CONDITIONS[name][4],
            }
            for name in names
        ],
        "positive": list(positive),
        "overall": evidence(0.968, known, n=n),
        "cells": cells,
        "mean": {"accuracy": 0.82, "balanced_accuracy": 0.79} if defined else {},
        "worst": worst,
        "gates": gates if with_gates else [],
        "warnings": [
            f"The validation part could not be grouped: class {HOSTILE} has one acquisition series in train.",
            "12 test images have the same bytes as a training image.",
        ],
        "limitations": [
            "Out-of-plane views can't be made from one radiograph, and are not measured.",
            "One scanner.",
        ],
    }
    return Report.model_validate(content)


VARIANTS = {
    "full": fake_report(),
    "no gates": fake_report(with_gates=False),
    "no recorded cells": fake_report(with_recorded=False),
    "one axis, no grid": fake_report(names=("low_dose", "over_exposure")),
    "one condition": fake_report(names=("roll",)),
    "no conditions": fake_report(names=()),
    "all undefined": fake_report(n=7, with_gates=False),
    "low n": fake_report(n=40),
    "binary": fake_report(labels=("nodule", "none"), positive=("nodule",)),
    "no positive class": fake_report(positive=()),
    "one severity": fake_report(severities=(3,)),
    "multi-label": fake_report(multilabel=True),
    "multi-label, all undefined": fake_report(multilabel=True, n=7, with_gates=False),
    "everything": rich_report(),
    "everything, many classes": rich_report(labels=[f"species {number}" for number in range(40)]),
    "everything, one class": rich_report(labels=("only",), positive=()),
    "everything, undefined": rich_report(n=7),
}


class Reader(HTMLParser):
    """Collects the elements, ids, links and words of a page, and checks that its tags balance."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(page.replace("<wbr>", ""))
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, name: str) -> list[str]:
        return [value for found, value in self.attributes if found == name]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.mark.parametrize("report", VARIANTS.values(), ids=VARIANTS.keys())
def test_no_request_leaves_the_page(report: Report) -> None:
    page = render_page(report)
    reader = Reader(page)
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"@import|url\((?!#)", page)
    assert not {"script", "img", "iframe", "object", "embed", "base", "form"} & set(reader.tags)
    assert reader.values("src") == []
    assert all(link.startswith("#") or link == "data:," for link in reader.values("href"))
    assert not [name for name, _ in reader.attributes if name.startswith("on")]


@pytest.mark.parametrize("report", VARIANTS.values(), ids=VARIANTS.keys())
def test_ids_are_unique_and_every_reference_finds_its_element(report: Report) -> None:
    reader = Reader(render_page(report))
    ids = reader.values("id")
    assert len(ids) == len(set(ids))
    referred = [link[1:] for link in reader.values("href") if link.startswith("#")]
    referred += reader.values("aria-labelledby")
    referred += [found for value in reader.values("clip-path") for found in re.findall(r"url\(#(.+?)\)", value)]
    assert set(referred) <= set(ids)


@pytest.mark.parametrize("report", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_cell_appears(report: Report) -> None:
    page = render_page(report).replace("<wbr>", "")
    rows = [re.sub(r"<[^>]+>", " ", row) for row in re.findall(r"<tr\b.*?</tr>", page, flags=re.DOTALL)]
    for cell in report.cells:
        names = [f"{name} {value}" for name, value in cell.conditions.items()]
        values = [str(value) for value in cell.conditions.values()]
        label = " × ".join(names if cell.source == "synthetic" else values)
        counted = re.compile(rf"^\s*{re.escape(html.escape(label, quote=False))}\s.*\b{cell.n}\b", re.DOTALL)
        assert any(counted.match(row) for row in rows), label


def test_hostile_names_stay_text() -> None:
    page = render_page(fake_report())
    assert "<script" not in page
    assert "<i>sons" not in page
    assert "alert(" in Reader(page).text


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    write_page(fake_report(), tmp_path / "first.html")
    write_page(fake_report(), tmp_path / "second.html")
    first = (tmp_path / "first.html").read_bytes()
    assert first == (tmp_path / "second.html").read_bytes()
    assert len(first) < 1_000_000


def test_the_verdict_names_clean_worst_and_gates() -> None:
    text = Reader(render_page(fake_report())).text
    assert "Accuracy on the clean images 0.968 [0.955, 0.981]; falls to 0.508 [" in text
    assert "under low_dose 5 × pitch 5." in text
    assert "3 gates: 1 failed, 1 with too little evidence to judge, 1 passed." in text


def test_the_verdict_does_not_call_a_rise_a_fall() -> None:
    report = fake_report(names=("roll",), severities=(1,))
    better = report.model_copy(update={"overall": report.overall.model_copy(update={"metrics": {}})})
    assert "too few to say (n = 700)" in Reader(render_page(better)).text
    assert report.worst is not None
    metrics = report.overall.metrics | {"accuracy": report.worst.metrics["accuracy"]}
    level = report.model_copy(update={"overall": report.overall.model_copy(update={"metrics": metrics})})
    text = Reader(render_page(level)).text
    assert "falls to" not in text
    assert "no synthetic condition lowers it" in text


def test_the_worst_condition_stands_first_and_undefined_cells_last() -> None:
    report = fake_report()
    cells = [cell for cell in report.cells if cell.source == "synthetic"]
    few = cells[-1].model_copy(update={"n": 7, "status": "undefined", "metrics": {}})
    text = Reader(render_page(report.model_copy(update={"cells": [*cells[:-1], few]}))).text
    ranked = text[text.index("Worst conditions first") : text.index("Severity curves", text.index("Gap"))]
    labels = re.findall(r"(?:low_dose|over_exposure|roll|pitch) \d(?: × (?:roll|pitch) \d)?", ranked)
    assert len(labels) == len(cells)
    assert labels[0] == "low_dose 5 × pitch 5"
    assert ranked.rindex(labels[-1]) < ranked.index("too few to say (n = 7)")
    assert labels[-1] == " × ".join(f"{name} {level}" for name, level in few.conditions.items())


def test_sensitivity_of_positive_classes_comes_first() -> None:
    text = Reader(render_page(fake_report(labels=("none", "nodule"), positive=("nodule",)))).text
    overall = text[text.index("Overall, on the clean images") :]
    places = [overall.index(name) for name in ("Sensitivity, nodule", "Balanced accuracy", "Sensitivity, none")]
    assert places == sorted(places)


def test_low_n_and_undefined_are_said_in_words() -> None:
    text = Reader(render_page(fake_report())).text
    assert "low n" in text
    assert "too few to say (n = 7)" in text
    assert "too few to say (n = 0)" in text
    assert "not defined" in text


def test_grouped_images_are_said_to_make_the_intervals_too_narrow() -> None:
    report = fake_report()
    assert "700 images come from 4 groups" in Reader(render_page(report)).text
    alone = report.model_copy(update={"overall": report.overall.model_copy(update={"groups": 700})})
    assert "every image is a group of its own" in Reader(render_page(alone)).text


def test_the_heat_map_has_a_square_for_every_pair_and_its_margins() -> None:
    page = render_page(fake_report())
    (heat,) = re.findall(r'<table class="heat.*?</table>', page, flags=re.DOTALL)
    assert heat.count("<td") == 7 * 7
    assert "not measured" not in heat
    assert heat.count("0.968") == 1


def test_a_pair_that_was_left_out_is_an_empty_square() -> None:
    report = fake_report()
    cells = [cell for cell in report.cells if cell.conditions != {"low_dose": 5, "pitch": 5}]
    page = render_page(report.model_copy(update={"cells": cells}))
    assert page.count("not measured</td>") == 1


def test_curves_say_which_conditions_training_practised() -> None:
    page = render_page(fake_report())
    said = [html.unescape(value) for value in Reader(page).values("aria-label")]
    (lighting,) = [value for value in said if value.startswith("Accuracy by severity, lighting")]
    assert "low_dose (practised in training): 0.928 at 1, 0.848 at 3, 0.768 at 5" in lighting
    assert "over_exposure (held out)" in lighting
    assert page.count('stroke-dasharray="5 3"') > 0


def test_an_axis_with_more_conditions_than_colours_gets_a_second_drawing() -> None:
    report = fake_report(names=("low_dose",))
    infos = [report.conditions[0].model_copy(update={"name": f"light_{number}"}) for number in range(7)]
    cells = [cell.model_copy(update={"conditions": {info.name: 3}}) for info in infos for cell in report.cells[:1]]
    reader = Reader(render_page(report.model_copy(update={"conditions": infos, "cells": cells})))
    assert "Lighting, continued" in reader.text
    said = [value for value in reader.values("aria-label") if value.startswith("Accuracy by severity")]
    assert [value.count("light_") for value in said] == [6, 1]


def test_no_heavy_import_before_and_none_of_matplotlib_after_drawing() -> None:
    check = (
        "import sys, imaging_ft.report.page as page; print({'matplotlib', 'jinja2', 'torch'} & set(sys.modules));"
        "from tests.report.rich import rich_report; page.render_page(rich_report());"
        "print({'matplotlib', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "set()"]


def test_a_page_of_several_labels_an_image_says_what_accuracy_is() -> None:
    text = Reader(render_page(VARIANTS["multi-label"])).text
    assert "Accuracy (every label right) on the clean images 0.968 [0.955, 0.981]; falls to 0.508 [" in text
    assert "every one of the 4 labels is right" in text
    assert "reaches its threshold: handgun 0.250, " in text
    assert "; none of them 100" in text
    assert (
        "always answering “none of the labels” would reach an accuracy of 0.143 and a balanced accuracy of 0.500"
        in text
    )
    few = Reader(render_page(VARIANTS["multi-label, all undefined"])).text
    assert "Accuracy (every label right) on the clean images: too few to say (n = 7)." in few
    other = Reader(render_page(VARIANTS["full"])).text
    assert "every label" not in other
    assert "none of them" not in other
