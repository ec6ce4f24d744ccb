"""The whole check on a data set in which one of each fault was planted."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging_ft.audit.alike import find_alike
from imaging_ft.audit.check import Checked, check_dataset
from imaging_ft.audit.duplicates import Pairs
from imaging_ft.audit.manifest import write_manifest
from imaging_ft.audit.page import render_page
from imaging_ft.audit.result import Finding, Severity
from imaging_ft.audit.sizing import images_for, wilson_half_width
from imaging_ft.audit.style import share_of
from imaging_ft.data import prepare
from imaging_ft.errors import DataError
from imaging_ft.types import Split
from tests.audit.conftest import Planted
from tests.conftest import draw, write_dataset


def finding(checked: Checked, code: str) -> Finding:
    (found,) = [finding for finding in checked.check.findings if finding.code == code]
    return found


@pytest.mark.parametrize("which", ["checked", "fast"])
def test_a_reencoded_copy_in_another_split_is_a_problem(
    which: str, planted: Planted, request: pytest.FixtureRequest
) -> None:
    found = finding(request.getfixturevalue(which), "near_duplicates_across_splits")
    assert found.severity is Severity.PROBLEM
    assert found.examples[0].images == planted.leak
    assert found.n <= 2  # two plain discs may be alike by chance
    assert "train and test 1" in found.detail


def test_one_picture_with_two_labels_is_a_problem(checked: Checked, planted: Planted) -> None:
    found = finding(checked, "label_conflicts")
    assert [set(example.images) for example in found.examples] == [set(planted.conflict)]
    assert "disc / ring 1" in found.detail


def test_wrong_labels_are_among_the_most_doubted(checked: Checked, planted: Planted) -> None:
    found = finding(checked, "label_errors")
    doubted = [example.images[0] for example in found.examples]
    assert set(planted.mislabelled) <= set(doubted[:8])
    assert checked.check.probe is not None
    assert "disc, or bar?" in dict(zip(doubted, (e.note for e in found.examples), strict=True))["images/bar-5-0.png"]


def test_a_blank_image_is_a_problem_and_no_duplicate_or_outlier(checked: Checked, planted: Planted) -> None:
    assert [example.images for example in finding(checked, "blank_images").examples] == [(planted.blank,)]
    for other in checked.check.findings:
        if other.code not in {"blank_images", "label_errors"}:
            assert all(planted.blank not in example.images for example in other.examples)


def test_a_dark_image_is_an_outlier_in_brightness(checked: Checked, planted: Planted) -> None:
    assert (planted.dark,) in [example.images for example in finding(checked, "outliers_brightness").examples]


def test_findings_stand_worst_first_each_with_what_to_do(checked: Checked) -> None:
    severities = [list(Severity).index(found.severity) for found in checked.check.findings]
    assert severities == sorted(severities)
    assert all(found.todo for found in checked.check.findings)
    assert checked.check.verdict.startswith(f"{checked.check.count(Severity.PROBLEM)} problems to mend")


def test_fast_says_what_it_left_out(fast: Checked) -> None:
    assert fast.check.domain is None
    assert fast.doubts is None
    assert fast.check.left_out == ("label errors, distance from the backbone's domain (--fast)",)


def test_conditions_are_counted_by_split_and_class(fast: Checked) -> None:
    sites = {part.value: part for part in fast.check.conditions if part.column == "site"}
    assert set(sites) == {"north", "south"}
    assert sum(sum(part.splits.values()) for part in sites.values()) == len(fast.data.samples)
    assert sum(sum(part.classes.values()) for part in sites.values()) == len(fast.data.samples)
    assert len({part.value for part in fast.check.conditions if part.column == "angle"}) == 4


def test_images_of_one_group_are_worth_less_than_independent_ones(tmp_path: Path) -> None:
    sizing = check_dataset(str(write_dataset(tmp_path / "data", per_group=4)), fast=True).check.sizing
    accuracy = sizing.needs[0]
    assert (accuracy.n, accuracy.groups, accuracy.design_effect) == (12, 3, 2.5)  # 1 + (4 - 1) * 0.5
    assert accuracy.half_width == pytest.approx(wilson_half_width(12 / 2.5))
    assert accuracy.needed == math.ceil(images_for(0.05) * 2.5 / 4)


def test_counting_by_groups_is_never_the_bolder_figure(fast: Checked) -> None:
    for need in fast.check.sizing.needs:
        assert need.half_width is not None
        assert need.half_width_by_groups is not None
        assert need.half_width <= need.half_width_by_groups + 1e-9


def test_what_training_would_refuse_is_refused(planted: Planted, tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data")
    text = manifest.read_text().replace("bar-0-0.png,bar,test", "bar-0-0.png,bar,train")
    manifest.write_text(text)
    with pytest.raises(DataError, match="on two sides"):
        check_dataset(str(manifest), fast=True)
    with pytest.raises(DataError, match="--half-width 0:"):
        check_dataset(str(planted.manifest), half_width=0)


def test_nothing_is_written_into_the_data_set(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data")

    def state() -> dict[str, str]:
        files = sorted(path for path in manifest.parent.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    before = state()
    check_dataset(str(manifest), fast=True)
    assert state() == before


def test_identical_files_in_two_declared_splits_are_a_problem_with_the_right_counts(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", per_group=4)
    lines = manifest.read_text().splitlines()
    first = next(line for line in lines if ",test," in line)
    name = first.partition(",")[0]
    content = (manifest.parent / name).read_bytes()
    for copy in ("images/one.png", "images/two.png"):
        (manifest.parent / copy).write_bytes(content)
        lines.append(first.replace(name, copy).replace(",test,bar-0,", ",train,elsewhere,"))
    manifest.write_text("\n".join(lines) + "\n")
    checked = check_dataset(str(manifest), fast=True)
    found = finding(checked, "identical_across_splits")
    n = len(checked.data.of(Split.TEST))
    assert found.severity is Severity.PROBLEM
    assert found.what.startswith(f"1 of {n} test images also stand in train, byte for byte")
    assert "2 earlier copies are left out" in found.detail
    assert [example.images for example in found.examples] == [("images/one.png", name), ("images/two.png", name)]
    assert all("leak" not in other.what for other in checked.check.findings if other.code == "warning")
    assert "1 problem to mend" in checked.check.verdict
    page = render_page(checked)
    assert page.count('alt="images/one.png"') == 1
    _, card = write_manifest(checked, tmp_path / "found.csv")
    again = check_dataset(str(card), fast=True)
    assert "identical_across_splits" not in [other.code for other in again.check.findings]


def test_rows_that_were_left_out_are_a_finding_with_the_reason(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data")
    (manifest.parent / "images" / "bar-0-0.png").write_bytes(b"no image")
    checked = check_dataset(str(manifest), fast=True, skip_bad=True)
    found = finding(checked, "bad_rows")
    assert (found.n, found.examples[0].images) == (1, ("images/bar-0-0.png",))
    assert found.examples[0].note.startswith("the content is unreadable")
    assert 'alt="images/bar-0-0.png"' not in render_page(checked)


def test_near_duplicates_in_a_validation_part_drawn_here_are_no_problem_for_test(planted: Planted) -> None:
    data = prepare(str(planted.manifest))
    places = {sample.id: place for place, sample in enumerate(data.samples)}
    first, second = (places[name] for name in planted.leak)
    one, other, bits = (np.array([value]) for value in (first, second, 0))
    pairs = Pairs(one, other, bits, np.array([1.0]), np.array([np.nan]), limit=10)
    samples = list(data.samples)
    samples[second] = replace(samples[second], split=Split.VAL)
    as_declared = replace(data, samples=tuple(samples))
    drawn = replace(as_declared, split_method="test as declared; validation seeded 0: stratified, grouped")
    (problem,), (look,) = find_alike(as_declared, pairs), find_alike(drawn, pairs)
    assert (problem.code, problem.severity) == ("near_duplicates_across_splits", Severity.PROBLEM)
    assert (look.code, look.severity) == ("near_duplicates_in_validation", Severity.LOOK)


def test_a_column_that_gives_the_class_away_is_found(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data")
    lines = manifest.read_text().splitlines()
    bound = [
        line.replace(",south,", ",north,") if ",bar," in line else line.replace(",north,", ",south,") for line in lines
    ]
    manifest.write_text("\n".join(bound) + "\n")
    codes = [found.what for found in check_dataset(str(manifest), fast=True).check.findings if found.code == "shortcut"]
    assert len(codes) == 1
    assert codes[0].startswith("site goes with the class")


def test_style_is_found_where_it_tells_the_class_and_only_there(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", groups=16, per_group=2)
    rng = np.random.default_rng(0)
    images = sorted((manifest.parent / "images").iterdir())
    for path in images:  # all classes look the same
        cv2.imwrite(str(path), draw("disc", rng))
    plain = check_dataset(str(manifest), fast=True).check
    assert "shortcut_style" not in {found.code for found in plain.findings}
    assert plain.style is not None
    assert plain.style.strength < 0.3
    for path in images:  # each class is from a scanner with another field of view
        pixels = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        part = {"bar": 0.5, "disc": 0.75, "ring": 1.0}[path.name.partition("-")[0]]
        height, width = (round(part * side) for side in pixels.shape)
        wider = np.zeros_like(pixels)
        wider[:height, :width] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(path), wider)
    checked = check_dataset(str(manifest), fast=True).check
    (found,) = (found for found in checked.findings if found.code == "shortcut_style")
    assert found.severity is Severity.LOOK
    assert checked.style is not None
    assert checked.style.balanced_accuracy > 0.9
    assert next(iter(checked.style.alone)) == "empty margins"
    assert checked.style.alone["size and shape"] < 0.5


def test_where_style_cannot_be_measured_the_check_says_so(tmp_path: Path) -> None:
    small = check_dataset(str(write_dataset(tmp_path / "data", groups=4)), fast=True).check
    assert small.style is None
    assert any(line.startswith("whether style alone tells the class") for line in small.left_out)


def test_many_images_of_few_groups_tell_nothing_of_style(tmp_path: Path) -> None:
    few = check_dataset(str(write_dataset(tmp_path / "few", groups=6, per_group=6)), fast=True).check
    assert few.style is None
    assert any(line.startswith("whether style alone tells the class") for line in few.left_out)
    more = check_dataset(str(write_dataset(tmp_path / "more", groups=12, per_group=2)), fast=True).check
    assert more.style is not None
    assert more.style.n == 60
    assert 20 <= more.style.sets <= 30


def test_style_is_not_asked_of_images_with_several_labels(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", groups=16)
    manifest.write_text(manifest.read_text().replace("image,label,", "image,labels,", 1))
    card = tmp_path / "card.yaml"
    card.write_text(f"name: several\ntask: multilabel\nlayout: manifest\nroot: {manifest.parent}\n")
    several = check_dataset(str(card), fast=True).check
    assert several.style is None
    assert any(line.startswith("whether style alone tells the class") for line in several.left_out)


def test_of_many_images_style_looks_at_a_share_of_each_class() -> None:
    truth = np.repeat([0, 1, 2], [30_000, 10_000, 60])
    kept = share_of(np.arange(len(truth)), truth, seed=0)
    assert np.bincount(truth[kept]).tolist() == [14_978, 4_993, 50]
    assert share_of(kept[:100], truth[kept[:100]], seed=0).tolist() == kept[:100].tolist()
