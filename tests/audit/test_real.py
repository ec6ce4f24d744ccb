"""What is known of the real images is found in them."""

import csv
from pathlib import Path

import pytest

from imaging_ft.audit.check import check_dataset
from imaging_ft.audit.manifest import write_manifest
from imaging_ft.audit.result import Severity
from imaging_ft.types import Split
from tests.audit.test_check import finding
from tests.conftest import REAL

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (REAL / "brain_mri").is_dir(), reason=f"the real images are not at {REAL}"),
]


def test_the_copies_of_test_images_in_train_are_counted() -> None:
    checked = check_dataset("brain_mri", fast=True)
    found = finding(checked, "identical_across_splits")
    assert found.severity is Severity.PROBLEM
    assert found.what.startswith("251 of 394 test images also stand in train")
    assert "meningioma_tumor 106, no_tumor 105, pituitary_tumor 22, glioma_tumor 18" in found.detail
    assert len({example.images[0] for example in found.examples}) == 244
    assert len(checked.data.samples) == 2870 + 394 - 244
    assert checked.check.style is not None
    assert checked.check.style.balanced_accuracy > 0.75
    assert finding(checked, "shortcut_style").n == checked.check.style.n == 2626


def test_the_clean_split_of_x_ray_objects_has_no_problem_and_says_that_validation_is_not_grouped() -> None:
    checked = check_dataset("xray_objects", fast=True)
    assert checked.check.count(Severity.PROBLEM) == 0
    assert any("not grouped" in found.what and found.severity is Severity.LOOK for found in checked.check.findings)
    assert finding(checked, "near_duplicates_in_validation").n > 100
    assert "near-duplicates held together" in finding(checked, "shortcut_style").detail


@pytest.mark.parametrize("name", ["brain_mri", "xray_objects"])
def test_a_written_manifest_is_taken_and_once_mended_has_no_leak_into_test(name: str, tmp_path: Path) -> None:
    before = check_dataset(name, fast=True)
    written, card = write_manifest(before, tmp_path / "found.csv")
    with written.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with written.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row for row in rows if not row["leaks_into"])
    after = check_dataset(str(card), fast=True)
    assert len(after.data.of(Split.TEST)) == len(before.data.of(Split.TEST))
    codes = {found.code for found in after.check.findings}
    assert not codes & {"identical_across_splits", "near_duplicates_across_splits"}
    assert ("near_duplicates_in_validation" in codes) is (name == "xray_objects")  # one series a class
