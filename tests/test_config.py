"""A YAML file or setting that is wrong is one line naming the place."""

from pathlib import Path
from typing import Annotated

import pytest
import yaml
from pydantic import Field

from imaging_ft.config import Frozen, parse_assignments, read_yaml, reason, to_yaml
from imaging_ft.errors import ConfigError


class Inner(Frozen):
    low: int = 0


class Settings(Frozen):
    epochs: Annotated[int, Field(ge=1)] = 20
    name: str
    inner: Inner = Inner()


def test_a_file_is_read_with_its_values_and_defaults(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffname: é\ninner: {low: 3}\n", encoding="utf-8")
    settings = Settings.from_yaml(path)
    assert settings == Settings(name="é", inner=Inner(low=3))
    assert Settings.checked(yaml.safe_load(to_yaml(settings)), where="again") == settings


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the key 'name' is missing"),
        ("name: a\nepoch: 3", "unknown key 'epoch'; did you mean 'epochs'?"),
        ("name: a\nepochs: 0", "epochs: input should be greater than or equal to 1 (got 0)"),
        ("name: a\nepochs: many", "epochs: input should be a valid integer"),
        ("name: a\ninner: {high: 1}", "unknown key 'inner.high'"),
        ("name: a\n1: 2", "keys should be strings"),
        ("- a", "holds a list, but a mapping"),
        ("a: [", "not YAML"),
        ("a: \x01", "not YAML"),
        ("name: 2024-13-45", "not YAML: month must be in 1..12"),
        ("name: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_path_and_key(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Settings.from_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    for path in (tmp_path, tmp_path / "gone.yaml", tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError, match="can't be read"):
            read_yaml(path)


def test_assignments_are_read_as_yaml() -> None:
    assert parse_assignments(["epochs=3", "name=a=b", "size=[1, 2]", "x="]) == {
        "epochs": 3,
        "name": "a=b",
        "size": [1, 2],
        "x": None,
    }


@pytest.mark.parametrize("assignment", ["epochs", "=3", "a=[", "a=2024-13-45"])
def test_a_wrong_assignment_is_named(assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignments([assignment])
    assert repr(assignment) in str(caught.value)


def test_nothing_changes_after_it_was_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().low = 2  # pyright: ignore[reportAttributeAccessIssue]


def test_a_reason_is_one_line_without_the_path() -> None:
    assert reason(FileNotFoundError(2, "No such file", "/x")) == "No such file"
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
