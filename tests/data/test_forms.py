"""Every form of the DATASET argument, and what is passed over."""

import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imaging_ft.data import load, prepare
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.types import Split


def test_a_built_in_name_reads_the_cards_images() -> None:
    dataset = load("chest")
    assert dataset.card.name == "chest"
    assert dataset.labels == ("nodule", "none")
    assert len(dataset.samples) == 86
    assert {"site", "sex", "age", "exposure"} <= set(dataset.samples[0].columns)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no dataset card named 'xray_object'; did you mean 'xray_objects'"):
        load("xray_object")


@pytest.mark.parametrize("argument", ["no/such/folder", "nowhere/", "nowhere.csv", "nowhere/set.yaml", "  "])
def test_a_place_that_is_not_there_is_one_clear_line(argument: str) -> None:
    with pytest.raises((ConfigError, DataError)) as caught:
        load(argument)
    assert "\n" not in str(caught.value)
    assert "no such" in str(caught.value) or "not exist" in str(caught.value) or "empty" in str(caught.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"set\.xlsx: is not a folder, a card \(\.yaml\) or a manifest"):
        load(str(tmp_path / "set.xlsx"))


def test_a_folder_named_like_a_card_is_mentioned(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make.folder({"chest/a": 1, "chest/b": 1})
    monkeypatch.chdir(make.root)
    assert any("write ./chest for the folder" in note for note in load("chest").notes)
    assert load("./chest").labels == ("a", "b")


@pytest.mark.parametrize("place", ["beside", "variable"])
def test_a_card_finds_its_images_beside_it_or_by_the_variable(
    make: Any, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.folder({"cat": 2, "dog": 2})
    card = tmp_path / "cards" / "pets.yaml"
    card.parent.mkdir()
    card.write_text(f"name: {make.root.name}\nroot: {'../set' if place == 'beside' else 'gone'}\n")
    if place == "variable":
        monkeypatch.setenv("IMAGING_FT_DATA", str(tmp_path))
    assert [sample.id for sample in load(str(card)).samples] == ["cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png"]


def test_a_card_without_images_names_the_places_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pets.yaml").write_text("name: pets\nroot: gone\n")
    monkeypatch.setenv("IMAGING_FT_DATA", str(tmp_path / "all"))
    with pytest.raises(DataError) as caught:
        load(str(tmp_path / "pets.yaml"))
    for part in (str(tmp_path / "gone"), str(tmp_path / "all" / "pets"), "IMAGING_FT_DATA"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("licens: MIT", "did you mean 'licence'"),
        ("license: MIT", "write 'licence'"),
        ("labels: [cat]", "two different"),
        ("labels: [yes, no]", "quotes"),
        ("labels: [cat, dog]\npositive: [dgo]", "did you mean 'dog'"),
        ("group: {from: filename, pattern: '('}", "not a regular expression"),
        ("group: {from: filename, pattern: 'a'}", "no part named group"),
        ("image: {window: [9, 3]}", "below the second"),
    ],
)
def test_a_wrong_card_is_one_line_that_names_the_file(tmp_path: Path, line: str, what: str) -> None:
    card = tmp_path / "pets.yaml"
    card.write_text(f"name: pets\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load(str(card))
    assert what in str(caught.value)
    assert str(caught.value).startswith(str(card))
    assert "\n" not in str(caught.value)


def test_a_flat_folder_has_no_declared_split(make: Any) -> None:
    dataset = load(str(make.folder({"cat": 2, "dog": 3})))
    assert dataset.labels == ("cat", "dog")
    assert {sample.split for sample in dataset.samples} == {None}


def test_a_folder_with_splits_declares_them(make: Any) -> None:
    root = make.folder({"Train/cat": 3, "Train/dog": 2, "validation/cat": 1, "test/dog": 2, "old/cat": 4})
    dataset = load(str(root))
    assert [len(dataset.of(split)) for split in Split] == [5, 1, 2]
    assert dataset.notes == ("not read, because they are none of train/, val/, test/: old/",)


def test_a_class_may_be_called_valid(make: Any) -> None:
    assert load(str(make.folder({"valid": 2, "invalid": 2}))).labels == ("invalid", "valid")


def test_splits_without_class_folders_are_refused(make: Any) -> None:
    with pytest.raises(DataError, match="without class folders; expected"):
        load(str(make.folder({"train": 2, "test": 2})))


def test_classes_one_folder_deeper_are_refused_with_the_place_to_name(make: Any) -> None:
    root = make.folder({"images/cat": 2, "images/dog": 2})
    with pytest.raises(DataError, match=f"one folder deeper; name {root / 'images'} instead"):
        load(str(root))


def test_a_split_inside_a_class_folder_is_not_passed_over(make: Any) -> None:
    with pytest.raises(DataError, match="a split inside a class folder"):
        load(str(make.folder({"cat/train": 2, "cat/test": 2, "dog/train": 2})))


def test_folders_inside_a_class_belong_to_the_class(make: Any) -> None:
    dataset = load(str(make.folder({"cat/patient 1": 1, "cat/patient 2": 1, "dog": 1})))
    assert [sample.label for sample in dataset.samples] == ["cat", "cat", "dog"]


def test_what_is_not_an_image_is_counted_and_passed_over(make: Any) -> None:
    root = make.folder({"cat": 2, "dog": 2})
    for name in ("cat/notes.txt", "cat/a.TXT", "dog/b.json", "dog/.hidden.png", "dog/._0.png"):
        (root / name).write_text("x")
    shutil.copytree(root / "cat", root / "cat" / ".ipynb_checkpoints")
    shutil.copytree(root / "cat", root / "__MACOSX" / "cat")
    (root / "mouse").mkdir()
    make.image("loose.png")
    dataset = load(str(root))
    assert [sample.id for sample in dataset.samples] == ["cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png"]
    assert dataset.notes == (
        f"{root / 'mouse'}: no images in it, so it is not counted as a class",
        "not read, because they lie outside the class folders: 1 images",
        "not read, because they are no images by name: 2 .txt, 1 .json",
    )


def test_upper_case_suffixes_and_dicom_names_are_images(make: Any) -> None:
    root = make.folder({"cat": 1, "dog": 1})
    make.image("cat/A.PNG")
    for name in ("1.2.840.10008.1", "IM0001"):
        shutil.copy(root / "cat" / "00.png", root / "dog" / name)
    names = [sample.path.name for sample in load(str(root)).samples]
    assert names == ["00.png", "A.PNG", "00.png", "1.2.840.10008.1", "IM0001"]


def test_links_are_followed_and_a_broken_one_is_a_bad_row(make: Any, tmp_path: Path) -> None:
    root = make.folder({"cat": 3, "dog": 3})
    other = make.image("../elsewhere/extra.png")
    (root / "cat" / "linked.png").symlink_to(other)
    (root / "dog" / "more").symlink_to(other.parent)
    (root / "dog" / "round").symlink_to(root / "dog")
    (root / "cat" / "lost.png").symlink_to(other.parent / "lost.png")
    with pytest.raises(DataError) as caught:
        prepare(str(root))
    linked, extra = root / "cat" / "linked.png", root / "dog" / "more" / "extra.png"
    assert str(caught.value).splitlines() == [
        f"{linked}: labelled 'cat', but the same bytes are labelled 'dog' in {extra}",
        f"{root / 'cat' / 'lost.png'}: no such file; check the path",
        f"{extra}: labelled 'dog', but the same bytes are labelled 'cat' in {linked}",
        "3 bad rows of 9 in set; mend them, or leave them out with --skip-bad",
    ]


def test_a_name_that_is_no_text_is_a_bad_row(make: Any) -> None:
    root = make.folder({"cat": 3, "dog": 3})
    try:
        shutil.copy(root / "cat" / "00.png", os.fsencode(root) + b"/cat/caf\xe9.png")
    except OSError:
        pytest.skip("the file system takes only UTF-8 names")
    with pytest.raises(DataError, match="the name is not valid UTF-8; rename it"):
        prepare(str(root))
    data = prepare(str(root), skip_bad=True)
    assert data.summary()["skipped"][0]["image"] == "cat/caf\\udce9.png"


def test_a_folder_without_images_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in it; expected .*/<class>/\*\.png"):
        load(str(tmp_path))


def test_images_outside_class_folders_are_not_called_no_images(make: Any) -> None:
    make.folder({"cat": 3})
    with pytest.raises(DataError, match=r"cat: 3 images, but in no class folders, .* expected .*/<class>/\*\.png"):
        load(str(make.root / "cat"))


def test_a_name_that_is_neither_a_folder_nor_a_card_is_said_to_be_neither() -> None:
    with pytest.raises(ConfigError, match=r"no folder '\./my_images' here, and no dataset card named 'my_images'"):
        load("./my_images")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused_in_words(make: Any, seed: int) -> None:
    make.folder({"cat": 3, "dog": 3})
    with pytest.raises(DataError, match=f"split seed {seed}: must be"):
        prepare(str(make.root), seed=seed)


def test_unicode_and_spaces_in_names(make: Any) -> None:
    make.folder({"chat é": 3, "犬 x": 3})
    data = prepare(str(make.root))
    assert data.labels == ("chat é", "犬 x")


def test_a_label_is_the_same_whichever_way_its_accent_is_stored(make: Any, tmp_path: Path) -> None:
    make.folder({"set/cafe\u0301": 1, "set/the": 1})
    card = make.root / "drinks.yaml"
    card.write_text("name: drinks\nroot: set\nlabels: [the, caf\u00e9]\n", encoding="utf-8")
    dataset = load(str(card))
    assert not dataset.problems
    assert dataset.labels == ("the", "caf\u00e9")


def test_a_csv_manifest_keeps_every_column_and_row_number(make: Any) -> None:
    rows = [["a.png", "cat", "Train", "p1", "north"], ["b.png", "dog ", " TEST", "", ""]]
    dataset = load(str(make.manifest(rows, header="image,label,split,group,site")))
    first, second = dataset.samples
    assert (first.split, first.group, first.columns, first.row) == (Split.TRAIN, "p1", {"site": "north"}, 2)
    assert (second.label, second.split, second.group, second.columns) == ("dog", Split.TEST, None, {})
    assert first.path == make.root / "a.png"


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_excels_ways_of_writing_csv_are_read(make: Any, mark: str, end: str) -> None:
    make.image("a, b.png")
    path = make.manifest([["c.png", "dog"]])
    lines = ["image, label ,note,", '"a, b.png",cat,"says ""hi"""', "", ' "c.png", dog ,,', ",,,"]
    path.write_bytes((mark + end.join(lines)).encode())
    dataset = load(str(path))
    assert not dataset.problems
    assert [(sample.id, sample.label, sample.row) for sample in dataset.samples] == [
        ("a, b.png", "cat", 2),
        ("c.png", "dog", 4),
    ]
    assert dataset.samples[0].columns == {"note": 'says "hi"'}


def test_a_parquet_manifest_with_numbers_nulls_and_nan(make: Any) -> None:
    make.folder({"x": 4})
    path = make.root / "set.parquet"
    pl.DataFrame(
        {
            "image": [f"x/0{index}.png" for index in range(4)],
            "label": [0.0, 1.0, None, float("nan")],
            "angle": [1.5, None, 2.0, 3.0],
            "bytes": [b"1", b"2", b"3", b"4"],
        }
    ).write_parquet(path)
    dataset = load(str(path))
    assert [(sample.label, sample.columns) for sample in dataset.samples] == [("0", {"angle": "1.5"}), ("1", {})]
    assert [str(problem) for problem in dataset.problems] == [
        f"{make.root / 'x' / '02.png'} (row 3): the label is empty",
        f"{make.root / 'x' / '03.png'} (row 4): the label is empty",
    ]


def test_numeric_labels_match_a_card_that_lists_numbers(make: Any) -> None:
    make.manifest([["a.png", "0"], ["b.png", "1"]])
    card = make.root / "set.yaml"
    card.write_text("name: set\nlayout: manifest\nlabels: [1, 0]\npositive: [1]\n")
    dataset = load(str(card))
    assert dataset.labels == ("1", "0")
    assert not dataset.problems


def test_a_card_renames_columns_and_reads_groups_from_names(make: Any) -> None:
    make.manifest([["P1_a.png", "cat", "x"], ["other.png", "dog", ""]], header="file,finding,label", name="rows.CSV")
    card = make.root / "set.yaml"
    card.write_text(
        "name: set\nlayout: manifest\nmanifest: rows.CSV\ncolumns: {image: file, label: finding}\n"
        "group: {from: filename, pattern: '^(?P<group>P[0-9]+)_'}\n"
    )
    first, second = load(str(card)).samples
    assert (first.label, first.group, first.columns) == ("cat", "P1", {"label": "x"})
    assert (second.group, second.columns) == (None, {})


def test_absolute_and_windows_paths_name_the_same_samples(make: Any) -> None:
    make.folder({"x": 1})
    rows = ["image,label", f"{make.root.resolve()}/x/00.png,cat", "x\\00.png,cat", "./x/../x/00.png,cat"]
    path = make.root / "manifest.csv"
    path.write_text("\n".join(rows))
    dataset = load(str(path))
    assert [sample.id for sample in dataset.samples] == ["x/00.png"] * 3
    assert all(sample.path.is_file() for sample in dataset.samples)
