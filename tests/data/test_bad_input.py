"""Everything that can be wrong with a data set is one line with file and row, and can be left out."""

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest

from imaging_ft.data import prepare
from imaging_ft.errors import DataError
from imaging_ft.types import Split


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(7, 200)))


def mislabelled(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[Callable[[Path], None], str] = {
    missing: "no such file",
    empty: "the file is empty (0 bytes)",
    truncated: "truncated",
    garbage: "the content is unreadable",
    mislabelled: "content is JPEG, name says PNG",
    folder: "a folder, not an image file",
}


@pytest.mark.parametrize("form", ["manifest", "folder"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_one_line_with_file_and_row(make: Any, damage: Callable[[Path], None], form: str) -> None:
    if form == "manifest":
        argument = make.manifest([*make.good(), ["bad.png", "cat"]])
        bad, row = make.root / "bad.png", 14
    else:
        argument = make.folder({"cat": 6, "dog": 6})
        bad, row = make.image("cat/bad.png"), None
    damage(bad)
    if form == "folder" and damage in {missing, folder}:
        return  # a folder holds what is in it: nothing is missing
    with pytest.raises(DataError) as caught:
        prepare(str(argument))
    line, summary = str(caught.value).splitlines()
    assert line.startswith(f"{bad} (row {row}): " if row else f"{bad}: ")
    assert DAMAGE[damage] in line
    assert line.count(str(bad)) == 1
    assert "1 bad row of 13" in summary
    data = prepare(str(argument), skip_bad=True)
    assert len(data.samples) == 12
    (left_out,) = data.summary()["skipped"]
    assert left_out["image"] == ("bad.png" if row else "cat/bad.png")
    assert left_out["row"] == row
    assert DAMAGE[damage] in left_out["reason"]


def test_an_8_bit_file_behind_a_window_of_16_bit_values_is_a_bad_row(make: Any) -> None:
    make.manifest([*make.good(), ["bad.png", "cat"]])
    for path in make.root.glob("*[0-9].png"):
        pixels = np.random.default_rng(zlib.crc32(path.name.encode())).integers(0, 4096, (8, 8))
        path.write_bytes(cv2.imencode(".png", pixels.astype(np.uint16))[1].tobytes())
    card = make.root / "set.yaml"
    text = "name: set\nlayout: manifest\nimage: {channels: 1, bits: 16, window: WINDOW}\n"
    card.write_text(text.replace("WINDOW", "[0, 4095]"))
    with pytest.raises(DataError) as caught:
        prepare(str(card))
    line, _ = str(caught.value).splitlines()
    assert line.startswith(f"{make.root / 'bad.png'} (row 14): 8 bits, but the card's window [0, 4095] is of 16-bit")
    assert line.endswith("; store it in 16 bits, or leave the window out of the card")
    assert [problem.sample.row for problem in prepare(str(card), skip_bad=True).skipped] == [14]
    card.write_text(text.replace("WINDOW", "null"))
    assert not prepare(str(card)).skipped


ROWS = [
    (["bad.png", ""], "the label is empty"),
    (["bad.png", "   "], "the label is empty"),
    (["", "cat"], "names no image"),
    (["bad.png", "mouse"], "the only usable sample of class 'mouse'"),
    (["bad.png"], "1 cells, but the header has 2"),
    (["bad.png", "cat", "x"], "3 cells, but the header has 2; put a cell that holds a comma in quotes"),
    (["cat3.png", "cat"], "the same file stands in row 5 too; keep one of them"),
    (["./cat3.png", "cat"], "the same file stands in row 5 too"),
]


@pytest.mark.parametrize(("row", "what"), ROWS)
def test_a_bad_row_is_one_line_and_skip_bad_leaves_exactly_it_out(make: Any, row: list[str], what: str) -> None:
    manifest = make.manifest([*make.good(), row])
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    line, _ = str(caught.value).splitlines()
    assert "(row 14): " in line
    assert what in line
    data = prepare(str(manifest), skip_bad=True)
    assert [sample.row for sample in data.samples] == list(range(2, 14))
    assert [problem["row"] for problem in data.summary()["skipped"]] == [14]


@pytest.mark.parametrize(("split", "what"), [("dev", "there are: train, val, test"), ("tset", "did you mean 'test'")])
def test_an_unknown_split_is_named(make: Any, split: str, what: str) -> None:
    rows = [[*row, "TRAIN"] for row in make.good()]
    manifest = make.manifest([*rows, ["bad.png", "cat", split]], header="image,label,split")
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    assert str(caught.value).startswith(f"{make.root / 'bad.png'} (row 14): unknown split {split!r}; ")
    assert what in str(caught.value)
    assert [problem["row"] for problem in prepare(str(manifest), skip_bad=True).summary()["skipped"]] == [14]


def test_a_label_that_the_card_does_not_know_is_named_with_the_nearest(make: Any) -> None:
    make.manifest([*make.good(), ["bad.png", "CTA"]])
    card = make.root / "set.yaml"
    card.write_text("name: set\nlayout: manifest\nlabels: [cat, dog]\n")
    with pytest.raises(DataError, match=r"bad\.png \(row 14\): unknown label 'CTA'; did you mean 'cat'\?"):
        prepare(str(card))
    assert len(prepare(str(card), skip_bad=True).skipped) == 1


def test_the_same_bytes_under_two_labels_name_each_other(make: Any) -> None:
    manifest = make.manifest([*make.good(), ["twin.png", "dog"]])
    (make.root / "twin.png").write_bytes((make.root / "cat0.png").read_bytes())
    first, twin = make.root / "cat0.png", make.root / "twin.png"
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    assert str(caught.value).splitlines()[:-1] == [
        f"{first} (row 2): labelled 'cat', but the same bytes are labelled 'dog' in {twin} (row 14)",
        f"{twin} (row 14): labelled 'dog', but the same bytes are labelled 'cat' in {first} (row 2)",
    ]
    assert [problem.sample.row for problem in prepare(str(manifest), skip_bad=True).skipped] == [2, 14]


def test_one_file_under_two_labels_loses_both_rows(make: Any) -> None:
    manifest = make.manifest([*make.good(), ["cat0.png", "dog"]])
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    lines = str(caught.value).splitlines()
    assert [f"(row {row}): labelled" in line for row, line in zip((2, 14), lines, strict=False)] == [True, True]
    data = prepare(str(manifest), skip_bad=True)
    assert "cat0.png" not in {sample.id for sample in data.samples}
    assert len(data.samples) == 11


def test_all_that_is_wrong_is_listed_at_once_in_the_order_of_the_rows(make: Any) -> None:
    manifest = make.manifest([["late.png", "cat"], ["x.png", ""], *make.good(), ["gone.png", "cat"]])
    truncated(make.root / "late.png")
    (make.root / "gone.png").unlink()
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    lines = str(caught.value).splitlines()
    assert [line.split("(row ")[1].split(")")[0] for line in lines[:-1]] == ["2", "3", "16"]
    assert [problem.sample.row for problem in prepare(str(manifest), skip_bad=True).skipped] == [3, 16, 2]


def test_a_long_list_is_cut_with_a_count(make: Any) -> None:
    manifest = make.manifest([*make.good(), *([f"x{index}.png", ""] for index in range(25))])
    with pytest.raises(DataError) as caught:
        prepare(str(manifest))
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[20].startswith("… and 5 more")
    assert lines[21].startswith("25 bad rows of 37 in manifest")
    assert len(prepare(str(manifest), skip_bad=True).summary()["skipped"]) == 25


MANIFESTS = [
    (b"", "the manifest is empty"),
    (b"\n\n", "the manifest is empty"),
    (b"image,label\n", "the manifest has no rows"),
    (b"image,label\n,\n", "the manifest has no rows"),
    (b"image,lable\na.png,cat\n", "no column 'label' (the label); did you mean 'lable'?"),
    (b"image;label\na.png;cat\n", "the columns are separated by ';'; save the table with commas"),
    (b"image,label,label\na.png,cat,dog\n", "two columns are called 'label'"),
    (b"image,label\na.png,cat\nb.png,caf\xe9\n", "(row 3): not UTF-8 text"),
    ("image,label\na.png,cat\n".encode("utf-16"), "(row 1): not UTF-8 text"),
    (b'image,label\na.png,cat\n"b.png,dog\nc.png,dog\n', "(row 3): not CSV"),
]


@pytest.mark.parametrize(("content", "what"), MANIFESTS)
def test_a_manifest_that_is_no_table_is_one_line(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        prepare(str(path), skip_bad=True)
    assert str(caught.value).startswith(str(path))
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_parquet_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    for content in (b"", b"PAR1 nothing"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"m\.parquet: can't be read as Parquet") as caught:
            prepare(str(path))
        assert "\n" not in str(caught.value)


def test_images_inside_a_parquet_file_are_no_file_names(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    pl.DataFrame({"image": [b"1"], "label": ["cat"]}).write_parquet(path)
    with pytest.raises(DataError, match="no column 'image'"):
        prepare(str(path))


def test_a_card_that_names_an_unknown_column_lists_the_known(make: Any) -> None:
    make.manifest(make.good())
    card = make.root / "set.yaml"
    card.write_text("name: set\nlayout: manifest\ncolumns: {group: patient}\n")
    with pytest.raises(DataError, match=r"no column 'patient' \(the group\); there are: image, label"):
        prepare(str(card))


def test_one_class_is_no_data_set(make: Any) -> None:
    with pytest.raises(DataError, match="two or more classes are needed, but there is only 'cat'"):
        prepare(str(make.folder({"cat": 4})))


def test_a_binary_card_has_two_classes(make: Any) -> None:
    make.folder({"a": 2, "b": 2, "c": 2})
    card = make.root / "set.yaml"
    card.write_text("name: set\ntask: binary\n")
    with pytest.raises(DataError, match="a binary task has two classes, but there are 3"):
        prepare(str(card))


def test_a_class_that_train_lacks_is_named(make: Any) -> None:
    make.folder({"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/Dog": 2})
    with pytest.raises(DataError, match=r"class 'Dog' stands in test but not in train, which has: cat, dog"):
        prepare(str(make.root))


def test_nothing_is_written_into_the_data_folder(make: Any, listing: Callable[[Path], Any]) -> None:
    manifest = make.manifest([*make.good(), ["gone.png", "cat"]])
    (make.root / "gone.png").unlink()
    before = listing(make.root)
    with pytest.raises(DataError):
        prepare(str(manifest))
    prepare(str(manifest), skip_bad=True)
    assert listing(make.root) == before


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_listed_is_one_line(make: Any) -> None:
    root = make.folder({"cat": 2, "dog": 2})
    (root / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="can't be listed"):
            prepare(str(root))
    finally:
        (root / "cat").chmod(0o755)


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imaging_ft", "data", "check", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        timeout=60,
        check=False,
    )


def test_the_command_refuses_with_one_line_a_problem_and_code_2(make: Any) -> None:
    manifest = make.manifest([*make.good(), ["gone.png", "cat"], ["empty.png", "dog"], ["cat1.png", "dog"]])
    (make.root / "gone.png").unlink()
    empty(make.root / "empty.png")
    refused = check(manifest, "--json")
    assert refused.returncode == 2
    assert refused.stdout == ""
    lines = refused.stderr.splitlines()
    assert [line.split("(row ")[1].split(")")[0] for line in lines[:-1]] == ["3", "14", "15", "16"]
    assert all(line.startswith("imaging-ft: ") for line in lines)
    assert "Traceback" not in refused.stderr
    assert check(manifest, "--json", "--skip-bad", "--fast").returncode == 0


def test_decoding_only_the_test_split_passes_over_damage_in_train(make: Any) -> None:
    rows = [[*row, "test" if index % 3 == 0 else "train"] for index, row in enumerate(make.good())]
    manifest = make.manifest(rows, header="image,label,split")
    truncated(make.root / rows[1][0])
    assert len(prepare(str(manifest), decode=frozenset({Split.TEST})).of(Split.TEST)) == 4
    with pytest.raises(DataError, match="truncated"):
        prepare(str(manifest))
