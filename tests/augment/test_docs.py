"""docs/conditions.md says what the registry holds."""

import re
from pathlib import Path

from imaging_ft.augment.conditions import CONDITIONS, Condition, lighting
from imaging_ft.augment.conditions.base import SEVERITIES

DOC = (Path(__file__).parents[2] / "docs" / "conditions.md").read_text(encoding="utf-8")


def row(member: Condition) -> str:
    values = (f"{member.value(severity):g}".replace("-", "−") for severity in (0, *SEVERITIES))
    return f"| `{member.name}` | {member.axis} | {member.title} | {member.parameter} | {' | '.join(values)} |"


def test_the_table_of_values_is_the_registrys() -> None:
    table = "\n".join(row(member) for member in CONDITIONS.values())
    found = re.search(r"\|---\|\n(.*?)\n\n", DOC, flags=re.DOTALL)
    assert found is not None
    assert found[1] == table, f"docs/conditions.md: the table of values is now\n{table}"


def test_every_condition_has_its_formula_and_source() -> None:
    part = DOC.partition("## Formulas and sources")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in part.splitlines() if line.startswith("| `")]
    assert [name for cells in rows for name in re.findall(r"`(\w+)`", cells[0])] == list(CONDITIONS)
    assert all(len(cells) == 3 and all(cell.strip() for cell in cells) for cells in rows)


def test_the_constants_of_the_formulas_are_the_codes() -> None:
    assert f"N₀ = {lighting.FULL_SCALE_PHOTONS:g} photons" in DOC
    assert f"Q = {lighting.CAMERA_ELECTRONS:g} electrons, σ = {lighting.CAMERA_READ_NOISE:g}" in DOC
    assert f"L = I^{lighting.DISPLAY_GAMMA:g}" in DOC
