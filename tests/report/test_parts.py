"""The parts of the page: each shows what the report holds, in order, and is left out where there is nothing."""

import html
import re
from typing import Any

import pytest

from imaging_ft.report.gallery import Pictures
from imaging_ft.report.page import render_page
from imaging_ft.report.sections.checklist_items import CLAIM, TRIPOD_AI
from imaging_ft.report.sections.failures import MOST_CHARACTERS
from tests.report.rich import CONDITIONS, pictures, rich_report
from tests.report.test_page import VARIANTS, Reader, fake_report


def test_every_part_stands_in_order_and_the_contents_name_them() -> None:
    page = render_page(rich_report(), pictures(rich_report()))
    ids = re.findall(r'<h2 id="([^"]+)"', page)
    assert ids == [
        *("warnings", "measured", "overall", "worst", "curves", "map-1", "recorded", "estimated", "calibration"),
        *("coverage", "rejection", "against", "slices", "failures", "limitations", "checklists", "reading"),
    ]
    contents = page[page.index("<nav") : page.index("</nav>")]
    assert re.findall(r'href="#([^"]+)"', contents) == ids[1:]


@pytest.mark.parametrize(
    ("part", "without"),
    {
        "against": {"against": None},
        "slices": {"discovered": []},
        "failures": {"failures": []},
        "coverage": {"details": []},
        "recorded": {"cells": [cell for cell in rich_report().cells if cell.source != "recorded"]},
        "estimated": {"cells": [cell for cell in rich_report().cells if cell.source != "measured"]},
        "worst": {"cells": [cell for cell in rich_report().cells if cell.source != "synthetic"]},
        "warnings": {"warnings": []},
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_empty_part_is_left_out_of_the_page_and_of_its_contents(part: str, without: dict[str, Any]) -> None:
    assert f'id="{part}"' in render_page(rich_report())
    page = render_page(rich_report().model_copy(update=without))
    assert f'id="{part}"' not in page
    assert f'href="#{part}"' not in page


def test_a_report_without_recorded_columns_says_so_among_its_limitations() -> None:
    said = "nothing is said here about sites, devices or patients"
    assert said in Reader(render_page(fake_report(with_recorded=False))).text
    assert said not in Reader(render_page(fake_report())).text


def test_errors_say_that_smaller_is_better_and_are_not_drawn_on_the_scale_of_shares() -> None:
    page = render_page(rich_report())
    overall = page[page.index('id="overall"') : page.index('id="worst"')]
    rows = [row for row in re.findall(r"<tr.*?</tr>", overall) if "Brier score" in row or ">ECE" in row]
    assert len(rows) == 2
    assert all("smaller is better" in row and "<svg" not in row for row in rows)
    said = [value for value in Reader(page).values("aria-label") if value.startswith(("Brier", "ECE"))]
    assert said == []


def test_many_figures_are_folded_away_but_the_first_ones() -> None:
    labels = [f"class {number}" for number in range(10)]
    page = render_page(rich_report(labels=labels, positive=labels[:2]))
    overall = page[page.index('id="overall"') : page.index('id="worst"')]
    first, folded = overall[: overall.index("<details>")], overall[overall.index("<details>") :]
    for title in ("Sensitivity, class 0", "Sensitivity, class 1", "Balanced accuracy", "Macro-F1", "Brier score"):
        assert f">{title}<" in first
    assert "33 more" not in first
    assert all(f">{kind}, class 9<" in folded for kind in ("Sensitivity", "Specificity", "AUROC", "AUPRC"))


def test_the_confusion_matrices_of_clean_and_of_the_worst_cell_stand_side_by_side() -> None:
    report = rich_report()
    page = render_page(report)
    matrices = re.findall(r'<table class="confusion.*?</table>', page, flags=re.DOTALL)
    for matrix, detail in zip(matrices, report.details[:2], strict=True):
        assert detail.confusion is not None
        counts = [int(count) for count in re.findall(r"<td style[^>]*>(\d+)</td>", matrix)]
        assert counts == [count for line in detail.confusion for count in line]
    assert "On the clean images" in matrices[0]
    assert "Under pitch 5, the worst cell" in matrices[1]


def test_a_task_of_several_labels_an_image_has_no_confusion_matrix() -> None:
    report = rich_report()
    details = [detail.model_copy(update={"confusion": None}) for detail in report.details]
    page = render_page(report.model_copy(update={"details": details}))
    assert "Which class is taken for which" in render_page(report)
    assert "Which class is taken for which" not in page


def test_of_many_classes_the_most_frequent_confusions_are_listed() -> None:
    page = render_page(VARIANTS["everything, many classes"])
    assert 'class="confusion' not in page
    assert "The most frequent confusions of 40 classes" in Reader(page).text


def test_a_recorded_angle_is_a_curve_over_the_middles_of_its_bins_and_a_site_is_none() -> None:
    said = [html.unescape(value) for value in Reader(render_page(rich_report())).values("aria-label")]
    curves = [value for value in said if value.startswith("Accuracy by ") and "severity" not in value]
    assert [value.split(":")[0] for value in curves] == [
        "Accuracy by view_angle_deg (°)",
        "Accuracy by brightness (share of full scale)",
    ]
    assert "0.970 at 0 to <15, 0.940 at 15 to <30, 0.860 at 30 to <45, 0.700 at 45 to 60" in curves[0]


def test_each_condition_has_one_reliability_diagram_and_one_risk_coverage_curve() -> None:
    said = Reader(render_page(rich_report())).values("aria-label")
    for start in ("Reliability, ", "Risk by coverage, "):
        names = [value[len(start) :].split(":")[0] for value in said if value.startswith(start)]
        assert sorted(names) == sorted(["clean", *(f"{name} 5" for name in CONDITIONS)])
        assert names[0] == "clean"


def test_differences_to_the_other_model_are_ranked_and_judged_by_the_adjusted_p_value() -> None:
    report = rich_report()
    text = Reader(render_page(report)).text
    part = text[text.index("Beside the other model") : text.index("Discovered slices exploratory")]
    compared = [cell.against for cell in report.cells if cell.against]
    better = sum(pair.p_holm < 0.05 and pair.accuracy.value > 0 for pair in compared)
    assert 0 < better < len(compared)
    assert f"In {len(compared)} cells" in part
    assert f"better in {better}, worse in none" in part
    assert "mCE) 0.840" in part
    values = [float(value.replace("−", "-")) for value in re.findall(r"([−+]\d\.\d{3}|0\.000) \[", part)][2:]
    assert len(values) == len(compared)
    assert values == sorted(values)


def test_failures_stand_with_their_pictures_and_none_for_an_unchanged_image() -> None:
    report = rich_report()
    page = render_page(report, pictures(report))
    assert page.count("<img ") == 3 * len(report.failures) - 1
    assert all(source.startswith("data:image/") for source in Reader(page).values("src"))
    assert "No pictures" not in page


def test_failures_without_pictures_are_listed_with_the_reason() -> None:
    report = rich_report()
    text = Reader(render_page(report)).text
    assert "No pictures: the images were not at hand" in text
    few = Reader(render_page(report, pictures(report)[:2])).text
    assert "No pictures of these: only the first were drawn." in few
    for failure in report.failures:
        assert failure.image in text
        assert failure.image in few


def test_pictures_that_would_make_the_page_too_large_are_left_out_and_that_is_said() -> None:
    report = rich_report()
    large = "data:image/png;base64," + "A" * (MOST_CHARACTERS // 4)
    page = render_page(report, [Pictures(large, None, large)] * len(report.failures))
    assert page.count("<img ") == 2
    assert len(page) < 5_000_000
    assert "the page would grow beyond 5 MB" in page


@pytest.mark.parametrize(("name", "items"), [("CLAIM 2024", CLAIM), ("TRIPOD+AI", TRIPOD_AI)])
def test_every_item_of_a_checklist_is_answered_or_left_to_the_authors(name: str, items: dict[str, Any]) -> None:
    page = render_page(rich_report())
    (listed,) = re.findall(rf"items of {re.escape(name)}</summary>.*?</details>", page, flags=re.DOTALL)
    said = re.findall(r'<th scope="row">([0-9a-z]+)</th>', listed)
    left = re.findall(r"(?:authors: |; )(\d+[a-g]?) ", html.unescape(listed))
    assert sorted([*said, *left]) == sorted(items)


def test_the_checklists_have_the_items_that_their_papers_count() -> None:
    assert list(CLAIM) == [str(number) for number in range(1, 45)]
    assert len(TRIPOD_AI) == 52
    assert sorted({int(re.sub(r"\D", "", number)) for number in TRIPOD_AI}) == list(range(1, 28))


def test_a_checklist_claims_nothing_that_the_page_lacks() -> None:
    report = rich_report()
    assert "class activation maps of the worst failures" in render_page(report, pictures(report))
    bare = render_page(report)
    assert "class activation maps of the worst failures" not in bare
    assert "the failures that the model was surest of" in bare
    less = render_page(report.model_copy(update={"failures": []}))
    assert "the failures that the model was surest of" not in less


def test_hundreds_of_cells_stay_a_small_page() -> None:
    labels = [f"class_with_a_long_name_{number}" for number in range(10)]
    lit, others = ("low_dose", "over_exposure", "tube_voltage"), ("scatter", "motion_blur", "roll", "pitch")
    pairs = [(a, b) for a in lit for b in others][:11]
    report = rich_report(labels=labels, positive=labels[:5], pairs=pairs, extra_columns=7)
    assert sum(cell.source == "synthetic" for cell in report.cells) >= 300
    assert len(report.columns) == 12
    page = render_page(report, pictures(report))
    assert len(page.encode()) < 2_000_000
    assert "Lowest sensitivity of 5 classes" in page
