"""Built-in files are found by name, and a wrong name is answered with the nearest."""

from pathlib import Path

import pytest

from imaging_ft import catalog
from imaging_ft.errors import ConfigError


def test_every_shelf_that_is_filled_finds_its_own_names() -> None:
    assert {"baggage", "chest", "xray_objects", "brain_mri"} <= set(catalog.names("datasets"))
    for shelf in ("datasets", "augmentations/recipes", "augmentations/conditions"):
        assert catalog.names(shelf)
        for name in catalog.names(shelf):
            assert catalog.find(name, on=shelf).is_file()


def test_a_users_own_file_is_found_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    assert catalog.find(str(tmp_path / "mine.yaml"), on="datasets") == tmp_path / "mine.yaml"
    with pytest.raises(ConfigError, match=r"no dataset card at .*gone\.yaml: the file does not exist"):
        catalog.find(str(tmp_path / "gone.yaml"), on="datasets")


@pytest.mark.parametrize("name", ["../datasets/baggage", "", "..", "BAGGAGE"])
def test_a_name_is_no_path_and_is_spelled_exactly(name: str) -> None:
    with pytest.raises(ConfigError, match="no dataset card named"):
        catalog.find(name, on="datasets")


def test_a_suggestion_is_the_nearest_name_or_all_of_them() -> None:
    assert catalog.suggest("chest_xry", ["chest_xray", "bag"]) == "did you mean 'chest_xray'?"
    assert catalog.suggest("HANDGUN", ["handgun", "blade"]) == "did you mean 'handgun'?"
    assert catalog.suggest("zzz", ["a", "b"]) == "there are: a, b"
    assert catalog.suggest("zzz", []) == "there are none"
    assert catalog.suggest("zzz", [f"n{index}" for index in range(50)]).endswith("n19 and 30 more")
