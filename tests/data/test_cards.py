"""The built-in cards: each one reads, says what it may be used for, and fits the publisher's files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from imaging_ft import catalog
from imaging_ft.data import Card, load, prepare
from imaging_ft.data.card import open_card
from imaging_ft.data.get import plan_get
from imaging_ft.errors import ConfigError, DataError
from imaging_ft.types import Task

NAMES = catalog.names("datasets")
MEDMNIST = {
    "path_mnist": (9, 3, Task.MULTICLASS),
    "chest_mnist": (14, 1, Task.MULTILABEL),
    "derma_mnist": (7, 3, Task.MULTICLASS),
    "oct_mnist": (4, 1, Task.MULTICLASS),
    "pneumonia_mnist": (2, 1, Task.BINARY),
    "retina_mnist": (5, 3, Task.MULTICLASS),
    "breast_mnist": (2, 1, Task.BINARY),
    "blood_mnist": (8, 3, Task.MULTICLASS),
    "tissue_mnist": (8, 1, Task.MULTICLASS),
    "organ_a_mnist": (11, 1, Task.MULTICLASS),
    "organ_c_mnist": (11, 1, Task.MULTICLASS),
    "organ_s_mnist": (11, 1, Task.MULTICLASS),
}


def card(name: str) -> Card:
    return open_card(name)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_card_says_what_its_images_are_and_may_be_used_for(name: str) -> None:
    found = card(name)
    assert found.name == name
    for text in (found.title, found.source, found.licence, found.citation, found.intended_use):
        assert text
    assert found.root or found.download or found.get
    assert found.augmentation in catalog.names("augmentations/recipes")
    assert found.conditions in catalog.names("augmentations/conditions")


@pytest.mark.parametrize("name", [name for name in NAMES if card(name).download])
def test_every_download_is_checked_and_encrypted(name: str) -> None:
    found = card(name)
    forms = [found, *(found.variant(variant, where=name) for variant in found.variants)]
    for form in forms:
        for remote in form.download:
            assert remote.url.startswith("https://")
            assert len(remote.checksum[1]) in {32, 64}
    checksums = [remote.checksum for form in forms for remote in form.download]
    assert len(set(checksums)) == len(checksums)


@pytest.mark.parametrize("name", MEDMNIST)
def test_the_twelve_2d_sets_of_medmnist_are_there_in_every_size(name: str) -> None:
    found = card(name)
    classes, channels, task = MEDMNIST[name]
    assert (len(found.labels or ()), found.image and found.image.channels, found.task) == (classes, channels, task)
    assert set(found.variants) == {"64", "128", "224"}
    for form in (found, *(found.variant(size, where=name) for size in found.variants)):
        assert [remote.file_name for remote in form.download] == [form.npz]


def test_an_unknown_variant_is_answered_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"path_mnist@225: no variant '225'; did you mean '224'\?"):
        load("path_mnist@225")


TO_GET = [name for name in NAMES if not card(name).root]
"""The cards whose images can't lie beside the checkout."""


@pytest.mark.parametrize("name", TO_GET)
def test_a_set_that_is_not_there_names_the_command_that_gets_it(name: str, home: Path) -> None:
    with pytest.raises(DataError, match=f"imaging-ft data get {name}$"):
        load(name)


@pytest.mark.parametrize("name", [name for name in TO_GET if card(name).get])
def test_a_set_that_a_person_must_get_says_where(name: str, home: Path) -> None:
    assert not card(name).download
    with pytest.raises(DataError, match="https://") as caught:
        plan_get(name)
    assert "\n" not in str(caught.value)
    assert str(home / name) in str(caught.value)


class Published:
    """Writes small images and tables where a publisher's archive has them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._rng = np.random.default_rng(0)

    def images(self, *names: str) -> None:
        for name in names:
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), self._rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))

    def table(self, name: str, *lines: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


def chestxray14(files: Published) -> None:
    head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    lines = [f"{head},OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"]
    for row, found in enumerate(["Cardiomegaly", "Cardiomegaly|Emphysema", "No Finding"]):
        name = f"0000000{row // 2 + 1}_00{row}.png"
        files.images(f"images/{name}")
        lines.append(f"{name},{found},0,{row // 2 + 1},57,M,PA,2682,2749,0.143,0.143,")
    files.table("Data_Entry_2017.csv", *lines)


def chexpert(files: Published) -> None:
    classes = card("chexpert").labels or ()
    lines = [f"Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,{','.join(classes)}"]
    shown = [{"Cardiomegaly": "1.0", "Edema": "-1.0"}, {"Cardiomegaly": "1.0", "Fracture": "1.0"}, {"Edema": "0.0"}]
    for row, cells in enumerate(shown):
        name = f"CheXpert-v1.0-small/train/patient0000{row // 2 + 1}/study1/view{row + 1}_frontal.jpg"
        files.images(name)
        lines.append(f"{name},Female,68,Frontal,AP,,{','.join(cells.get(label, '') for label in classes)}")
    files.table("CheXpert-v1.0-small/train.csv", *lines)


def ham10000(files: Published) -> None:
    files.images("images/ISIC_0027419.jpg", "images/ISIC_0025030.jpg", "images/ISIC_0026769.jpg")
    head = "lesion_id,image_id,dx,dx_type,age,sex,localization"
    rows = ["HAM_1,ISIC_0027419,bkl,histo,80.0,male,scalp", "HAM_1,ISIC_0025030,bkl,histo,80.0,male,scalp"]
    files.table("HAM10000_metadata.csv", head, *rows, "HAM_2,ISIC_0026769,mel,histo,80.0,male,scalp")


def aptos_2019(files: Published) -> None:
    files.images("train_images/000c1434d8d7.png", "train_images/001639a390f0.png", "train_images/x.png")
    files.table("train.csv", "id_code,diagnosis", "000c1434d8d7,2", "001639a390f0,2", "x,4")


def eyepacs(files: Published) -> None:
    files.images("train/10_left.jpeg", "train/10_right.jpeg", "train/13_left.jpeg")
    files.table("trainLabels.csv", "image,level", "10_left,0", "10_right,0", "13_left,4")


def pcam_kaggle(files: Published) -> None:
    files.images("train/f38a.tif", "train/c18f.tif", "train/755d.tif")
    files.table("train_labels.csv", "id,label", "f38a,0", "c18f,0", "755d,1")


def busi(files: Published) -> None:
    names = ["benign/benign (1)", "benign/benign (2)", "malignant/malignant (1)"]
    files.images(*(f"Dataset_BUSI_with_GT/{name}{end}.png" for name in names for end in ("", "_mask", "_mask_1")))


def kvasir_v2(files: Published) -> None:
    files.images(*(f"kvasir-dataset-v2/{name}.jpg" for name in ("polyps/a", "polyps/b", "normal-cecum/c")))


def malaria_cells(files: Published) -> None:
    names = ["Parasitized/C100P61ThinF_IMG_20150918_144104_cell_162", "Parasitized/C100P61ThinF_IMG_2_cell_1"]
    files.images(*(f"cell_images/{name}.png" for name in (*names, "Uninfected/C1_thinF_IMG_20150604_104722_cell_9")))
    files.table("cell_images/Parasitized/Thumbs.db", "x")


def colorectal_histology(files: Published) -> None:
    root = "Kather_texture_2016_image_tiles_5000"
    files.images(*(f"{root}/{name}.tif" for name in ("01_TUMOR/a", "01_TUMOR/b", "08_EMPTY/c")))


def sixray(files: Published) -> None:
    files.images(*(f"JPEGImage/{name}.jpg" for name in ("P00001", "P00002", "N00001")))
    rows = ["P00001,1,-1,-1,-1,-1", "P00002,-1,1,-1,-1,1", "N00001,-1,-1,-1,-1,-1"]
    files.table("ImageSet/10/train.csv", "name,Gun,Knife,Wrench,Pliers,Scissors", *rows)


EXPECTED: dict[Callable[[Published], None], tuple[list[str], list[str | None]]] = {
    chestxray14: (["Cardiomegaly", "Cardiomegaly|Emphysema", ""], ["1", "1", "2"]),
    chexpert: (["Cardiomegaly", "Cardiomegaly|Fracture", ""], ["patient00001", "patient00001", "patient00002"]),
    ham10000: (["bkl", "bkl", "mel"], ["HAM_1", "HAM_1", "HAM_2"]),
    aptos_2019: (["2", "2", "4"], [None] * 3),
    eyepacs: (["0", "0", "4"], ["10", "10", "13"]),
    pcam_kaggle: (["0", "0", "1"], [None] * 3),
    busi: (["benign", "benign", "malignant"], [None] * 3),
    kvasir_v2: (["normal-cecum", "polyps", "polyps"], [None] * 3),
    malaria_cells: (["Parasitized", "Parasitized", "Uninfected"], ["C100P61", "C100P61", "C1"]),
    sixray: (["Gun", "Knife|Scissors", ""], [None] * 3),
    colorectal_histology: (["01_TUMOR", "01_TUMOR", "08_EMPTY"], [None] * 3),
}


@pytest.mark.parametrize("publish", EXPECTED, ids=lambda publish: publish.__name__)
def test_a_card_reads_the_layout_that_its_publisher_uses(publish: Any, home: Path) -> None:
    publish(Published(home / publish.__name__))
    dataset = load(publish.__name__)
    assert not dataset.problems
    labels, groups = EXPECTED[publish]
    assert [sample.label for sample in dataset.samples] == labels
    assert [sample.group for sample in dataset.samples] == groups
    assert all(sample.path.is_file() for sample in dataset.samples)


def test_every_card_that_is_not_medmnists_is_among_them() -> None:
    ours = {name for name in NAMES if card(name).root}
    assert set(NAMES) - ours - set(MEDMNIST) == {publish.__name__ for publish in EXPECTED}


def test_masks_beside_the_images_are_counted_and_passed_over(home: Path) -> None:
    busi(Published(home / "busi"))
    assert "not read, as the card says (ignore): 6 images" in load("busi").notes


@pytest.mark.parametrize("name", ["pneumonia_mnist", "chest_mnist"])
def test_a_medmnist_card_reads_arrays_of_its_form(name: str, home: Path) -> None:
    found = card(name)
    columns = 14 if found.task is Task.MULTILABEL else 1
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 40), ("val", 20), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        several = (np.arange(count)[:, None] % (columns + 1) == np.arange(columns)).astype(np.uint8)
        arrays[f"{split}_labels"] = several if columns > 1 else (np.arange(count) % 2).astype(np.uint8)[:, None]
    (home / name).mkdir(parents=True)
    np.savez_compressed(home / name / (found.npz or ""), **arrays)
    data = prepare(name)
    assert data.labels == found.labels
    assert [len(part) for part in map(data.of, ("train", "val", "test"))] == [40, 20, 20]  # pyright: ignore[reportArgumentType]
    assert any("no group (patient, series, camera) is known" in warning for warning in data.warnings)
