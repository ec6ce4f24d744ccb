"""What one export writes beside its file, and what it refuses before the work begins."""

from pathlib import Path

import onnx
import pytest
import yaml

from imaging_ft.errors import InputError
from imaging_ft.export.onnx import export_run
from tests.conftest import Trained


def test_one_export_writes_the_file_a_model_repository_and_a_monai_bundle(trained: Trained, tmp_path: Path) -> None:
    out, models, monai = tmp_path / "scan.onnx", tmp_path / "models", tmp_path / "monai"
    first = export_run(trained.run, out, triton=models, monai_bundle=monai)
    assert [what for what, _ in first.further] == ["triton 1", "kserve", "monai bundle"]
    assert all(path.exists() for _, path in first.further)
    assert sorted(path.name for path in models.iterdir()) == ["scan", "scan_cls", "scan_pre"]
    manifest = yaml.safe_load((tmp_path / "scan.kserve.yaml").read_text())
    assert manifest["spec"]["predictor"]["model"]["storageUri"] == "s3://bucket/models"
    assert (monai / "models" / "model.pt").is_file()
    again = export_run(trained.run, out, triton=models, monai_bundle=monai)
    assert again.further[0][0] == "triton 2"
    assert (models / "scan_cls" / "2" / "model.onnx").is_file()


def test_the_free_dimension_has_its_name(exported) -> None:
    graph = onnx.load(exported.model).graph
    for value in [*graph.input, *graph.output]:
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("scan", "opencv-dnn", "a file for target opencv-dnn takes prepared levels"),
        ("9scan", "server-cpu", "can't be a service's name"),
        ("a scan", "server-cpu", "can't be a model's name in Triton"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_work(
    name: str, target: str, message: str, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        export_run(trained.run, tmp_path / f"{name}.onnx", target=target, triton=tmp_path / "models")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_refused_before_the_work(trained: Trained, tmp_path: Path) -> None:
    kept = tmp_path / "monai" / "notes.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt"):
        export_run(trained.run, tmp_path / "scan.onnx", monai_bundle=tmp_path / "monai")
    assert not (tmp_path / "scan.onnx").exists()


def test_the_signature_of_the_file_before_is_removed_and_told(trained: Trained, tmp_path: Path) -> None:
    signature = tmp_path / "scan.onnx.sig"
    signature.write_text("{}")
    told: list[str] = []
    export_run(trained.run, tmp_path / "scan.onnx", say=told.append)
    assert not signature.exists()
    assert any("scan.onnx.sig" in line for line in told)
