"""A report's files: all of them, the same bytes twice, and never half of one."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from imaging_ft.errors import InputError
from imaging_ft.report.result import Report
from imaging_ft.report.write import FILES, LOCK, prepare_folder, report_folder, to_csv, write_report
from tests.report.rich import pictures, rich_report
from tests.report.test_page import ROOT, fake_report


def test_the_files_are_the_page_the_data_the_table_and_the_summary(tmp_path: Path) -> None:
    report = rich_report()
    files = write_report(report, tmp_path / "report", pictures=pictures(report))
    assert [path.name for path in files] == [*FILES, "junit.xml"]
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted([*FILES, "junit.xml"])
    page, data, _, summary, _ = (path.read_text(encoding="utf-8") for path in files)
    assert "<img " in page
    assert Report.model_validate(json.loads(data)) == report
    assert summary.startswith("### model.onnx on baggage")


def test_what_an_earlier_report_left_is_removed(tmp_path: Path) -> None:
    write_report(rich_report(), tmp_path)
    (tmp_path / "report.pdf").write_bytes(b"%PDF of the report before")
    files = write_report(rich_report().model_copy(update={"gates": []}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in files) == sorted(FILES)


def test_the_same_report_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(rich_report(), tmp_path / name, pictures=pictures(rich_report()))
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(InputError, match=r"file/report: the report can't be written there: Not a directory$"):
        prepare_folder(tmp_path / "file" / "report")


def test_two_reports_are_never_written_into_one_folder_at_once(tmp_path: Path) -> None:
    refused = pytest.raises(InputError, match="another report is being written there")
    with report_folder(tmp_path), refused, report_folder(tmp_path):
        pass
    with report_folder(tmp_path):  # free again
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_a_report_of_stored_predictions_never_lies_beside_anothers(tmp_path: Path) -> None:
    own, other = tmp_path / "predictions.parquet", tmp_path / "other.parquet"
    own.write_bytes(b"one")
    other.write_bytes(b"two")
    with report_folder(tmp_path, stored=own):
        pass
    with pytest.raises(InputError, match="the predictions of another report"), report_folder(tmp_path, stored=other):
        pass
    assert own.read_bytes() == b"one"


def test_a_file_that_cannot_be_replaced_is_refused_and_nothing_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "cells.csv").mkdir()
    with pytest.raises(InputError, match=r"the report can't be written there: Is a directory$"):
        write_report(fake_report(), tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


@pytest.mark.skipif(sys.platform == "win32", reason="limits on a file's size are POSIX")
def test_a_full_disk_leaves_the_old_files_whole(tmp_path: Path) -> None:
    names = [path.name for path in write_report(fake_report(names=("roll",)), tmp_path)]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    script = (
        "import resource, sys; from pathlib import Path; from imaging_ft.errors import InputError;"
        "from imaging_ft.report.write import write_report; from tests.report.rich import rich_report;"
        "report = rich_report(); resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: write_report(report, Path(sys.argv[1]))\n"
        "except InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"{tmp_path}: the report can't be written there: File too large"
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_the_table_has_a_row_for_each_cell_and_metric() -> None:
    report = fake_report()
    rows = list(csv.DictReader(to_csv(report).splitlines()))
    assert len(rows) == sum(max(1, len(found.metrics)) for found in (report.overall, *report.cells))
    assert "against" not in rows[0]
    assert {row["conditions"] for row in rows if row["status"] == "undefined"} == {
        "exposure=[0.4, 0.8]",
        "exposure=not recorded",
    }


def test_the_table_holds_the_differences_to_the_other_model_where_there_is_one() -> None:
    report = rich_report()
    rows = list(csv.DictReader(to_csv(report).splitlines()))
    clean = {row["metric"]: row for row in rows if row["source"] == "clean"}
    assert float(clean["accuracy"]["against"]) == pytest.approx(0.021)
    assert float(clean["accuracy"]["against_p_holm"]) == pytest.approx(0.022)
    assert clean["balanced_accuracy"]["against"] != ""
    assert clean["balanced_accuracy"]["against_p"] == ""
    assert clean["ece"]["against"] == ""
    compared = [row for row in rows if row["metric"] == "accuracy" and row["against"]]
    assert len(compared) == 1 + sum(cell.against is not None for cell in report.cells)
    assert all(row["against"] == "" for row in rows if row["status"] == "undefined")
