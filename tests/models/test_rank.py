"""`models rank`: candidates that can't be had are left out with the reason."""

from pathlib import Path

import pytest

from imaging_ft.errors import WeightsError
from imaging_ft.models.rank import rank_models
from tests.conftest import write_dataset

UNKNOWN = {
    "resnt18": "timm has no model named 'resnt18'; did you mean 'resnet18'?",
    "resnet18.a9_in1k": "timm has no weights named 'resnet18.a9_in1k'; did you mean 'resnet18.a",
    "keras/resnet50": "no model library 'keras'",
    "monai/densenet12": "no MONAI model named 'densenet12'; did you mean 'densenet121'",
}


def test_unknown_names_are_left_out_with_the_nearest_one(tmp_path: Path) -> None:
    manifest = str(write_dataset(tmp_path / "data", per_group=1))
    ranking = rank_models(manifest, [*UNKNOWN, "test_resnet=none"], size=32)
    assert {row.name for row in ranking.rows} == {"timm/test_resnet", "random"}
    assert [name.rpartition("/")[2] for name, _ in ranking.left_out] == [name.rpartition("/")[2] for name in UNKNOWN]
    for (_, why), said in zip(ranking.left_out, UNKNOWN.values(), strict=True):
        assert why.startswith(said)


def test_without_a_known_name_the_command_ends_in_one_line(tmp_path: Path) -> None:
    manifest = str(write_dataset(tmp_path / "data", per_group=1))
    with pytest.raises(WeightsError, match=r"^no candidate's weights can be had: timm/resnt18: .*'resnet18'\?$"):
        rank_models(manifest, ["resnt18"], size=32)
