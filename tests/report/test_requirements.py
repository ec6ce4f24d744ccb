"""Files of requirements: how they may be written, where they are looked for, and what a wrong one is told."""

import re
from pathlib import Path

import pytest

from imaging_ft.errors import ConfigError
from imaging_ft.report.requirements import all_requirements, parse, read_requirements

DOCS = Path(__file__).parents[2] / "docs" / "gates.md"
EXPRESSIONS = ["overall.accuracy >= 0.9", "worst.sensitivity[handgun] >= 0.8", "condition[site=ward #3].ece <= 0.1"]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(EXPRESSIONS),
        "# ours\n\n  overall.accuracy >= 0.9  # clean\nworst.sensitivity[handgun] >= 0.8 #x\n{2} # was: {2}\n",
        "- overall.accuracy >= 0.9 # clean\n- worst.sensitivity[handgun] >= 0.8\n- '{2}'\n",
        '# ours\ngates:\n  - overall.accuracy >= 0.9\n  - worst.sensitivity[handgun] >= 0.8\n  - "{2}"\n',
        '["overall.accuracy >= 0.9", "worst.sensitivity[handgun] >= 0.8", "{2}"]',
        "---\n- overall.accuracy >= 0.9\n- worst.sensitivity[handgun] >= 0.8\n- '{2}'\n",
    ],
)
@pytest.mark.parametrize("name", ["gates.yaml", "gates.txt"])
def test_a_file_holds_a_list_or_lines(text: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text.replace("{2}", EXPRESSIONS[2]), encoding="utf-8")
    assert read_requirements(path) == EXPRESSIONS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": holds no requirement; write for example"),
        ("# nothing\n", ": holds no requirement"),
        ("gates: []\n", ": holds no requirement"),
        ("gates:\n", ": holds no list of requirements"),
        ("overall.accuracy >= 0.9\n\nworst accuracy\n", ":3: 'worst accuracy': not a requirement; write for example"),
        ("- overall.accuracy >= 0.9\n- worst\n", ":2: 'worst': not a requirement"),
        ("gates:\n  - overall.accuracy >= 9\n", ":2: 'overall.accuracy >= 9': 9 is not within 0 to 1"),
        ("- a: 1\n", ":1: a requirement is one text; write it in quotes"),
        ("gate:\n  - overall.accuracy >= 0.9\n", ":1: unknown key 'gate'; did you mean 'gates'?"),
        ("- 'overall\n", ": not YAML: "),
        ("- overall.accuracy >= 0.9\n -b: [\n", ": not YAML: "),
    ],
)
def test_a_wrong_file_is_told_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_requirements(path)
    assert re.sub(r"^:\d+(?=: not YAML)", "", str(caught.value).removeprefix(str(path))).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read: No such file"):
        read_requirements(tmp_path / "none.yaml")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=r"binary\.txt: can't be read"):
        read_requirements(tmp_path / "binary.txt")


@pytest.mark.parametrize(
    ("file", "beside"),
    [
        ("gates.yaml", "."),
        ("gates.yaml", "manifest.csv"),
        ("manifest.gates.yaml", "manifest.csv"),
        ("card.gates.yaml", "card.yaml"),
        ("card.gates.yaml", "card.yaml@small"),
    ],
)
def test_a_file_beside_the_data_set_is_read_and_named(file: str, beside: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(f"- {EXPRESSIONS[0]}\n")
    said: list[str] = []
    assert all_requirements(["worst.ece <= 0.1"], beside=str(tmp_path / beside), say=said.append) == [
        "worst.ece <= 0.1",
        EXPRESSIONS[0],
    ]
    assert said == [f"gates: {tmp_path / file}"]


def test_a_file_that_is_given_is_read_once_and_a_wrong_expression_is_left_to_the_parser(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(f"- {EXPRESSIONS[0]}\n")
    said: list[str] = []
    assert all_requirements([str(path), "worst"], beside=str(tmp_path), say=said.append) == [EXPRESSIONS[0], "worst"]
    assert said == []
    assert all_requirements([], beside="xray_objects", say=said.append) == []
    with pytest.raises(ConfigError, match=r"missing\.txt: can't be read"):
        all_requirements([str(tmp_path / "missing.txt")], beside="xray_objects", say=said.append)


def test_every_expression_of_the_documentation_is_one() -> None:
    text = DOCS.read_text()
    found = re.findall(r"`([^`\n]+ [<>]= [-\d.]+)`", text) + re.findall(r"^(?:  - )?(\w+\S* [<>]= [\d.]+)", text, re.M)
    assert len(found) > 18
    forms = {(parsed.against, parsed.place) for parsed in map(parse, found)}
    assert len(forms) == 8
