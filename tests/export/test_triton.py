"""The Triton model repository: read by Triton's own schema, and run as its ensemble wires it; and the KServe manifest.

No Triton server runs here. What its code refuses when it loads a repository is written down in `load`.
"""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

from imaging_ft.bundle import EMBEDDING, INPUT, LEVELS, LOGITS, PROBABILITIES, SALIENCY, Bundle
from imaging_ft.errors import BundleError, InputError
from imaging_ft.export.kserve import SCHEMES, manifest_path, service_name, write_kserve
from imaging_ft.export.triton import FOR_CLIENTS, next_version, pbtxt, write_triton
from tests.conftest import Exported
from tests.inference.nets import GEMM, LINEAR, POOL, Node, make, noise

PB: Any = model_config_pb2  # its classes are made when it's imported
NAME = "scan"
PARTS = [f"{NAME}_pre", f"{NAME}_cls", NAME]
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(uint16)": "TYPE_UINT16", "tensor(float)": "TYPE_FP32"}
SIZES = [(1, 1), (31, 50), (64, 64), (97, 20), (200, 300)]
INPUTS: dict[str, dict[str, Any]] = {
    "gray": {},
    "RGB in a letterbox": {"channels": 3, "resize": "letterbox"},
    "windowed 16 bits in a letterbox": {"dtype": "uint16", "window": (100, 40_000), "resize": "letterbox"},
}
TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass(frozen=True)
class Case:
    """A bundle and its graph."""

    model: onnx.ModelProto
    bundle: Bundle

    def write(self, folder: Path, *, name: str = NAME, version: int = 1) -> list[Path]:
        return write_triton(self.model, self.bundle, folder, name=name, version=version)

    def made_for(self, **graph: Any) -> "Case":
        return Case(self.model, self.bundle.model_copy(update={"graph": self.bundle.graph.model_copy(update=graph)}))

    def images(self, height: int, width: int, count: int = 3) -> np.ndarray:
        spec = self.bundle.input
        pixels = noise((count, height, width, spec.channels), seed=height + width)
        return pixels if spec.dtype == "uint8" else pixels.astype(np.uint16) * np.uint16(200)

    def answers(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return run(self.model, {INPUT: images})


def case(tail: str, folder: Path, **changes: Any) -> Case:
    made = make(LINEAR[tail], folder / "model.onnx", **changes)
    return Case(onnx.load(made.path), made.bundle)


def run(model: onnx.ModelProto | Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = session(model)
    names = [output.name for output in found.get_outputs()]
    return dict(zip(names, found.run(names, feed), strict=True))


def session(model: onnx.ModelProto | Path) -> Any:
    data = model.read_bytes() if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(data, providers=[CPU])


def load(repository: Path) -> dict[str, Any]:
    """Return every model's configuration, after the checks with which Triton refuses one."""
    configs: dict[str, Any] = {}
    for folder in sorted(path for path in repository.iterdir() if path.is_dir()):  # plain files are not looked at
        text = (folder / "config.pbtxt").read_text(encoding="utf-8")
        config = configs[folder.name] = text_format.Parse(text, PB.ModelConfig())
        assert config.name == folder.name
        assert all((folder / str(version)).is_dir() for version in config.version_policy.specific.versions)
        for output in config.output:
            assert not output.label_filename or (folder / output.label_filename).is_file()
        for sample in config.model_warmup:
            for tensor in sample.inputs.values():
                data = (folder / "warmup" / tensor.input_data_file).read_bytes()
                item = 2 if tensor.data_type == PB.TYPE_UINT16 else 1
                assert len(data) == item * np.prod(tensor.dims)
        preferred = list(config.dynamic_batching.preferred_batch_size)
        assert all(0 < size <= config.max_batch_size for size in preferred)
    for config in configs.values():
        assert (config.backend, config.platform) == (("", "ensemble") if is_ensemble(config) else ("onnxruntime", ""))
        if is_ensemble(config):
            assert not config.instance_group
            assert not config.HasField("optimization")
            assert not config.model_warmup
            for step in config.ensemble_scheduling.step:
                part = configs[step.model_name]
                assert config.max_batch_size <= part.max_batch_size
                assert step.model_version in part.version_policy.specific.versions
                assert set(step.input_map) == {tensor.name for tensor in part.input}
                assert set(step.output_map) <= {tensor.name for tensor in part.output}
    return configs


def is_ensemble(config: Any) -> bool:
    return config.HasField("ensemble_scheduling")


def call(repository: Path, images: np.ndarray, *, name: str = NAME) -> dict[str, np.ndarray]:
    """Return what the ensemble answers, by running each step's file on what its map names."""
    configs = load(repository)
    ensemble = configs[name]
    assert len(images) <= ensemble.max_batch_size
    tensors = {ensemble.input[0].name: images}
    for step in ensemble.ensemble_scheduling.step:
        feed = {into: tensors[source] for into, source in step.input_map.items()}
        for tensor in configs[step.model_name].input:
            shape = feed[tensor.name].shape[1:]
            assert all(want in (-1, have) for want, have in zip(tensor.dims, shape, strict=True))
        found = run(repository / step.model_name / str(step.model_version) / "model.onnx", feed)
        tensors |= {tensor: found[output] for output, tensor in step.output_map.items()}
    return {output.name: tensors[output.name] for output in ensemble.output}


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return found.keys() == expected.keys() and all(
        found[key].dtype == expected[key].dtype and np.array_equal(found[key], expected[key]) for key in found
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def gray(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case("pool, flatten, gemm", tmp_path_factory.mktemp("gray"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Both halves differ from gray's, and fit gray's."""
    return case("a norm before the head", tmp_path_factory.mktemp("other"), resize="letterbox")


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """With every output that a bundle may have; what extent the saliency has is seen only when it runs."""
    tail: list[Node] = [POOL, ("Flatten", ["p"], EMBEDDING, {}), ("Gemm", [EMBEDDING, "w", "b"], *GEMM[2:])]
    tail.append(("ReduceMean", ["f", "axis_c"], "mean", {"keepdims": 0}))
    tail += [("Shape", ["mean"], "extent", {}), ("Reshape", ["mean", "extent"], SALIENCY, {})]
    made = make(tail, tmp_path_factory.mktemp("rich") / "model.onnx")
    model = onnx.load(made.path)
    for name, shape in [(EMBEDDING, ["batch", 2]), (SALIENCY, ["batch", "rows", "columns"])]:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return Case(model, made.bundle)


@pytest.mark.parametrize("changes", INPUTS.values(), ids=INPUTS)
def test_the_ensemble_answers_bitwise_what_the_whole_file_answers_at_any_size(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    made = case("pool, flatten, gemm", tmp_path, **changes)
    made.write(tmp_path / "models")
    for height, width in SIZES:
        images = made.images(height, width)
        assert same(call(tmp_path / "models", images), made.answers(images))


def test_the_ensemble_of_a_trained_model_answers_what_the_whole_file_answers(
    exported: Exported, tmp_path: Path
) -> None:
    model = onnx.load(exported.model)
    made = Case(
        model, Bundle.from_metadata({each.key: each.value for each in model.metadata_props}, where="the fixture")
    )
    made.write(tmp_path / "models")
    for height, width in SIZES:
        images = made.images(height, width)
        assert same(call(tmp_path / "models", images), made.answers(images))


def test_every_output_of_the_file_is_one_of_the_ensemble(rich: Case, tmp_path: Path) -> None:
    rich.write(tmp_path / "models")
    images = rich.images(50, 40)
    found = call(tmp_path / "models", images)
    assert set(found) == {LOGITS, PROBABILITIES, EMBEDDING, SALIENCY}
    assert same(found, rich.answers(images))


@pytest.mark.parametrize("changes", INPUTS.values(), ids=INPUTS)
def test_tensors_are_configured_as_onnxruntime_reads_them_from_the_files(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    check_tensors(case("pool, flatten, gemm", tmp_path, **changes), tmp_path / "models")


def test_an_outputs_shape_is_written_out_where_the_graph_left_it_open(rich: Case, tmp_path: Path) -> None:
    configs = check_tensors(rich, tmp_path / "models")
    dims = {output.name: list(output.dims) for output in configs[f"{NAME}_cls"].output}
    assert dims == {LOGITS: [3], PROBABILITIES: [3], EMBEDDING: [2], SALIENCY: [16, 16]}


def check_tensors(made: Case, models: Path) -> dict[str, Any]:
    made.write(models)
    configs = load(models)
    for part in PARTS[:2]:
        opened = session(models / part / "1" / "model.onnx")
        for configured, read in [
            (configs[part].input, opened.get_inputs()),
            (configs[part].output, opened.get_outputs()),
        ]:
            assert [tensor.name for tensor in configured] == [tensor.name for tensor in read]
            for tensor, own in zip(configured, read, strict=True):
                assert PB.DataType.Name(tensor.data_type) == TYPES[own.type]
                assert [-1, *tensor.dims] == [extent if isinstance(extent, int) else -1 for extent in own.shape]
    whole = configs[NAME]
    assert list(whole.input) == list(configs[f"{NAME}_pre"].input)
    assert list(whole.output) == list(configs[f"{NAME}_cls"].output)
    return configs


def test_no_two_requests_meet_before_their_images_have_one_shape(gray: Case, tmp_path: Path) -> None:
    gray.write(tmp_path / "models")
    configs = load(tmp_path / "models")
    pre, cls = configs[f"{NAME}_pre"], configs[f"{NAME}_cls"]
    assert list(pre.input[0].dims) == [-1, -1, 1]
    assert pre.WhichOneof("scheduling_choice") is None
    assert pre.max_batch_size == cls.max_batch_size == 4
    assert pre.instance_group[0].count > 1
    assert list(cls.input[0].dims) == [1, 64, 64]
    assert not any(tensor.allow_ragged_batch for config in configs.values() for tensor in config.input)


def test_batches_are_filled_up_to_the_targets_sizes_and_never_closed_at_one_image(gray: Case, tmp_path: Path) -> None:
    gray.made_for(batches=(1, 2, 8, 32)).write(tmp_path / "models")
    batching = load(tmp_path / "models")[f"{NAME}_cls"].dynamic_batching
    assert list(batching.preferred_batch_size) == [2, 8, 32]
    assert 0 < batching.max_queue_delay_microseconds <= 5_000
    assert {config.max_batch_size for config in load(tmp_path / "models").values()} == {32}


def test_a_full_queue_and_a_late_request_are_refused(gray: Case, tmp_path: Path) -> None:
    gray.write(tmp_path / "models")
    policy = load(tmp_path / "models")[f"{NAME}_cls"].dynamic_batching.default_queue_policy
    assert policy.max_queue_size == 64
    assert policy.timeout_action == PB.ModelQueuePolicy.REJECT
    assert policy.default_timeout_microseconds > 0  # without one, Triton heeds no request's own
    assert policy.allow_timeout_override


def test_a_file_for_single_images_is_served_without_batching(gray: Case, tmp_path: Path) -> None:
    gray.made_for(batches=(1,)).write(tmp_path / "models")
    config = load(tmp_path / "models")[f"{NAME}_cls"]
    assert config.max_batch_size == 1
    assert config.WhichOneof("scheduling_choice") is None


def test_each_half_is_warmed_up_with_the_golden_sample_the_network_at_every_size(tmp_path: Path) -> None:
    made = case("pool, flatten, gemm", tmp_path, dtype="uint16").made_for(batches=(1, 2, 4, 8))
    made.write(tmp_path / "models")
    configs = load(tmp_path / "models")
    image = made.bundle.golden.image()
    pre = (tmp_path / "models" / f"{NAME}_pre" / "warmup" / "golden").read_bytes()
    assert np.array_equal(np.frombuffer(pre, "<u2").reshape(image.shape), image)
    levels = np.frombuffer((tmp_path / "models" / f"{NAME}_cls" / "warmup" / "golden").read_bytes(), np.uint8)
    feed = {LEVELS: levels.reshape(1, 1, 64, 64)}
    logits = run(tmp_path / "models" / f"{NAME}_cls" / "1" / "model.onnx", feed)[LOGITS]
    assert logits == pytest.approx(np.asarray(made.bundle.golden.logits), abs=1e-5)
    # TensorRT's range is stretched to its ends at once.
    assert [sample.batch_size for sample in configs[f"{NAME}_cls"].model_warmup] == [8, 1, 2, 4]
    assert [sample.batch_size for sample in configs[f"{NAME}_pre"].model_warmup] == [1]


@pytest.mark.parametrize(
    ("providers", "kind", "tensorrt"),
    [
        ((CPU,), "KIND_CPU", False),
        ((), "KIND_CPU", False),
        ((CUDA, CPU), "KIND_AUTO", False),
        ((CUDA,), "KIND_GPU", False),
        ((TENSORRT, CUDA, CPU), "KIND_AUTO", True),
        ((TENSORRT,), "KIND_GPU", True),
    ],
)
def test_the_network_runs_where_the_targets_providers_say(
    gray: Case, tmp_path: Path, providers: tuple[str, ...], kind: str, tensorrt: bool
) -> None:
    gray.made_for(providers=providers).write(tmp_path / "models")
    configs = load(tmp_path / "models")
    kinds = PB.ModelInstanceGroup.Kind
    assert [kinds.Name(group.kind) for group in configs[f"{NAME}_cls"].instance_group] == [kind]
    assert [kinds.Name(group.kind) for group in configs[f"{NAME}_pre"].instance_group] == ["KIND_CPU"]
    accelerators = configs[f"{NAME}_cls"].optimization.execution_accelerators.gpu_execution_accelerator
    assert [accelerator.name for accelerator in accelerators] == ["tensorrt"] * tensorrt
    assert all(accelerator.parameters["precision_mode"] == "FP32" for accelerator in accelerators)


def test_labels_and_metadata_ride_along(gray: Case, tmp_path: Path) -> None:
    gray.write(tmp_path / "models")
    configs = load(tmp_path / "models")
    for part in PARTS[1:]:
        named = {output.name: output.label_filename for output in configs[part].output}
        assert named == {LOGITS: "", PROBABILITIES: "labels.txt"}
        assert (tmp_path / "models" / part / "labels.txt").read_text().splitlines() == gray.bundle.names
    metadata = session(tmp_path / "models" / f"{NAME}_cls" / "1" / "model.onnx").get_modelmeta().custom_metadata_map
    assert Bundle.from_metadata(metadata, where="cls") == gray.bundle
    whole = json.loads((tmp_path / "models" / NAME / "1" / "bundle.json").read_text(encoding="utf-8"))
    assert Bundle.checked(whole, where="bundle.json") == gray.bundle


def test_a_client_reads_from_the_server_what_it_needs_and_no_more(gray: Case, tmp_path: Path) -> None:
    made = Case(gray.model, gray.bundle.model_copy(update={"provenance": {"dataset": "ward 7"}}))
    made.write(tmp_path / "models")
    parameters = load(tmp_path / "models")[NAME].parameters
    said = {key.removeprefix("imaging_ft."): json.loads(each.string_value) for key, each in parameters.items()}
    whole = made.bundle.model_dump(mode="json", by_alias=True)
    assert said == {key: whole[key] for key in FOR_CLIENTS}
    assert "ward 7" not in str(said)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_any_text_comes_back_from_a_configuration(texts: dict[str, str]) -> None:
    message = {"parameters": [{"key": key, "value": {"string_value": text}} for key, text in texts.items()]}
    read = text_format.Parse(pbtxt(message), PB.ModelConfig())
    assert {key: each.string_value for key, each in read.parameters.items()} == texts


def test_the_files_that_are_returned_are_all_that_lies_there(gray: Case, tmp_path: Path) -> None:
    written = gray.write(tmp_path / "models")
    assert sorted(written) == sorted(path for path in (tmp_path / "models").rglob("*") if path.is_file())
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["models"]  # nothing is left beside it


def test_version_2_stands_beside_version_1_and_is_the_one_that_answers(gray: Case, other: Case, tmp_path: Path) -> None:
    models = tmp_path / "models"
    gray.write(models)
    first = {part: contents(models / part / "1") for part in PARTS}
    other.write(models, version=2)
    assert {part: contents(models / part / "1") for part in PARTS} == first
    images = gray.images(40, 70)
    assert same(call(models, images), other.answers(images))
    assert {part: list(load(models)[part].version_policy.specific.versions) for part in PARTS} == {
        f"{NAME}_pre": [1, 2],  # until the server has the new ensemble, the old one still asks for them
        f"{NAME}_cls": [1, 2],
        NAME: [2],
    }
    gray.write(models, version=1)  # the way back
    assert same(call(models, images), gray.answers(images))
    assert (models / NAME / "2").is_dir()


def test_an_older_version_is_not_served_under_labels_or_shapes_that_are_not_its_own(
    gray: Case, rich: Case, tmp_path: Path
) -> None:
    text = gray.bundle.model_dump_json(by_alias=True).replace('"dark"', '"dim"')
    renamed = Case(gray.model, Bundle.model_validate_json(text))
    for folder, newer in [("labels", renamed), ("outputs", rich)]:
        gray.write(tmp_path / folder)
        newer.write(tmp_path / folder, version=2)
        assert {tuple(config.version_policy.specific.versions) for config in load(tmp_path / folder).values()} == {(2,)}


def test_a_damaged_version_is_named_where_the_new_one_would_stand_beside_it(gray: Case, tmp_path: Path) -> None:
    gray.write(tmp_path / "models")
    (tmp_path / "models" / f"{NAME}_cls" / "1" / "model.onnx").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"model.onnx: damaged; remove version 1") as refusal:
        gray.write(tmp_path / "models", version=2)
    assert "\n" not in str(refusal.value)


def test_the_next_version_follows_the_last_that_was_written(gray: Case, tmp_path: Path) -> None:
    assert next_version(tmp_path / "models", NAME) == 1
    gray.write(tmp_path / "models", version=9)
    gray.write(tmp_path / "models", version=10)
    assert next_version(tmp_path / "models", NAME) == 11


def test_no_version_is_answered_for_with_another_ones_engine(gray: Case, tmp_path: Path) -> None:
    # onnxruntime names a built engine by the file's name, its inputs and what its nodes give, whatever the weights.
    weights = onnx.ModelProto()
    weights.CopyFrom(gray.model)
    (bias,) = [each for each in weights.graph.initializer if each.name == "b"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.001), "b"))
    models, images = tmp_path / "models", gray.images(40, 70)
    engines: list[list[str]] = []
    for version, made in enumerate([gray, Case(weights, gray.bundle), gray], start=1):
        made.made_for(providers=(TENSORRT, CUDA, CPU)).write(models, version=version)
        assert same(call(models, images), made.answers(images))
        graph = onnx.load(models / f"{NAME}_cls" / str(version) / "model.onnx").graph
        engines.append([name for node in graph.node for name in node.output if name not in {LOGITS, PROBABILITIES}])
    assert not set(engines[0]).intersection(engines[1])
    assert engines[0] == engines[2]  # and what was built for the same weights is found again
    assert list(load(models)[f"{NAME}_cls"].version_policy.specific.versions) == [2, 3]


def test_the_same_version_is_replaced_as_a_whole(gray: Case, rich: Case, tmp_path: Path) -> None:
    models = tmp_path / "models"
    rich.write(models)
    gray.write(models)
    gray.write(tmp_path / "afresh")
    assert contents(models) == contents(tmp_path / "afresh")


def test_other_models_of_the_repository_stay_as_they_are(gray: Case, other: Case, tmp_path: Path) -> None:
    models = tmp_path / "models"
    other.write(models, name="ct", version=3)
    (models / "notes.txt").write_text("mine")
    before = contents(models)
    gray.write(models)
    assert before.items() <= contents(models).items()
    images = gray.images(33, 44)
    assert same(call(models, images, name="ct"), other.answers(images))
    assert same(call(models, images), gray.answers(images))


@pytest.mark.parametrize("taken", PARTS)
def test_a_folder_of_another_model_is_not_overwritten(gray: Case, tmp_path: Path, taken: str) -> None:
    models = tmp_path / "models"
    (models / taken / "1").mkdir(parents=True)
    (models / taken / "config.pbtxt").write_text(f'name: "{taken}"\nbackend: "python"\n')
    before = contents(models)
    with pytest.raises(InputError, match=rf"{taken}: holds another model.*choose another name"):
        gray.write(models)
    assert contents(models) == before


def test_a_model_named_as_anothers_half_does_not_replace_it(gray: Case, tmp_path: Path) -> None:
    gray.write(tmp_path / "models")
    with pytest.raises(InputError, match="holds another model"):
        gray.write(tmp_path / "models", name=f"{NAME}_cls")


@pytest.mark.parametrize("graph", [{"preprocessing": "outside"}, {"batch": 1, "batches": (1,)}])
def test_a_target_that_cannot_be_served_so_is_refused_with_one_that_can(
    gray: Case, tmp_path: Path, graph: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"target opencv-dnn takes .*--target server-cpu") as refusal:
        gray.made_for(target="opencv-dnn", **graph).write(tmp_path / "models")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "chest scan", "żuk"])
def test_a_name_that_clients_cannot_write_is_refused(gray: Case, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="can't be a model's name"):
        gray.write(tmp_path / "models", name=name)


def test_a_version_below_1_and_a_label_of_two_lines_are_refused(gray: Case, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="version 0"):
        gray.write(tmp_path / "models", version=0)
    text = gray.bundle.model_dump_json(by_alias=True).replace('"dark"', '"da\\nrk"')
    with pytest.raises(InputError, match="line break"):
        Case(gray.model, Bundle.model_validate_json(text)).write(tmp_path / "models")


def test_a_graph_that_is_not_the_bundles_is_refused(gray: Case, other: Case, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="golden sample is off"):
        Case(other.model, gray.bundle).write(tmp_path / "models")
    assert not (tmp_path / "models").exists()


class Killed(BaseException):
    """The process ends here; whatever would clean up doesn't run any more."""


def fail(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, after: int, times: int = 1_000) -> None:
    """Let renames fail after some of them; a kill may come at a removal just as well, and nothing is done after it."""
    rename, remove = Path.replace, shutil.rmtree
    left = [after]

    def replace(self: Path, target: Path) -> Path:
        left[0] -= 1
        if -times <= left[0] < 0:
            raise error
        return rename(self, target)

    def rmtree(path: Path) -> None:
        if isinstance(error, Killed):
            left[0] -= 1
            if left[0] < 0:
                raise error
        remove(path)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(shutil, "rmtree", rmtree)


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("after", range(6))
def test_a_failed_rename_leaves_the_repository_as_it_was(
    gray: Case, other: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    gray.write(tmp_path / "models")
    before = contents(tmp_path / "models")
    fail(monkeypatch, FULL, after=after, times=1)
    with pytest.raises(InputError, match=r"models: the repository can't be written: No space left on device"):
        other.write(tmp_path / "models", version=2)
    assert contents(tmp_path / "models") == before
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["models"]


@pytest.mark.parametrize("after", range(3))
def test_a_failed_rename_leaves_a_new_repository_empty(
    gray: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    fail(monkeypatch, FULL, after=after, times=1)
    with pytest.raises(InputError, match="No space left on device"):
        gray.write(tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("after", range(1, 6))
def test_what_a_failing_disk_did_not_let_be_put_back_is_kept_for_the_next_write(
    gray: Case, other: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    models = tmp_path / "models"
    gray.write(models)
    with monkeypatch.context() as patch:
        fail(patch, FULL, after=after)
        with pytest.raises(InputError, match="No space left on device"):
            other.write(models, version=2)
    other.write(models, version=2)
    assert all((models / part / version).is_dir() for part in PARTS for version in ["1", "2"])
    assert same(call(models, other.images(30, 30)), other.answers(other.images(30, 30)))


@pytest.mark.parametrize("after", range(7))
@pytest.mark.parametrize("version", [1, 2])
def test_a_kill_never_leaves_an_ensemble_of_two_models_and_the_next_write_mends_it(
    gray: Case, other: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int, version: int
) -> None:
    models, images = tmp_path / "models", gray.images(40, 70)
    gray.write(models)
    for kill in [after, *range(6)]:  # and again while it's being mended
        with monkeypatch.context() as patch:
            fail(patch, Killed(), after=kill)
            with pytest.raises(Killed):
                other.write(models, version=version)
        if (models / NAME).exists():
            found = call(models, images)
            assert same(found, gray.answers(images)) or same(found, other.answers(images))
    other.write(models, version=version)
    assert same(call(models, images), other.answers(images))
    assert all((models / part / "1").is_dir() for part in PARTS)


@pytest.mark.parametrize("after", range(4))
def test_a_kill_in_a_new_repository_leaves_no_ensemble_without_its_halves(
    gray: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    models = tmp_path / "models"
    with monkeypatch.context() as patch:
        fail(patch, Killed(), after=after)
        with pytest.raises(Killed):
            gray.write(models)
    load(models)
    gray.write(models)
    assert same(call(models, gray.images(9, 9)), gray.answers(gray.images(9, 9)))


def test_a_repository_that_cannot_be_written_is_one_line(gray: Case, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(InputError, match="models: the repository can't be written: File exists") as refusal:
        gray.write(tmp_path / "models")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / ".models.part").exists()


@pytest.fixture
def manifest(gray: Case, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def write(name: str = NAME, *, gpu: bool = False, **graph: Any) -> dict[str, Any]:
        bundle = gray.made_for(**graph).bundle
        path = write_kserve(bundle, tmp_path / "scan.kserve.yaml", name=name, storage="s3://bucket/models", gpu=gpu)
        assert [left.name for left in tmp_path.iterdir()] == ["scan.kserve.yaml"]
        return yaml.safe_load(path.read_text(encoding="utf-8"))

    return write


def test_the_manifest_runs_the_repository_on_kserves_triton(manifest: Callable[..., dict[str, Any]]) -> None:
    written = manifest("Chest_X-ray")
    assert (written["apiVersion"], written["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert written["metadata"] == {"name": "chest-x-ray"}
    model = written["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "triton", "version": "2"}
    assert (model["runtime"], model["protocolVersion"]) == ("kserve-tritonserver", "v2")
    assert model["storageUri"] == "s3://bucket/models"
    assert model["readinessProbe"]["httpGet"] == {"path": "/v2/models/Chest_X-ray/ready", "port": 8080}
    assert model["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": 8080}
    assert not any("nvidia.com/gpu" in amounts for amounts in model["resources"].values())


def test_the_manifest_goes_beside_the_repository_whatever_its_folder_is_called_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    for folder in (Path(), tmp_path / "models", Path("../models")):
        assert manifest_path(folder, NAME) == tmp_path / "scan.kserve.yaml"


def test_the_manifest_names_a_triton_that_reads_the_files(manifest: Callable[..., dict[str, Any]]) -> None:
    version = manifest()["spec"]["predictor"]["model"]["runtimeVersion"]
    assert re.fullmatch(r"\d\d\.\d\d-py3", version)
    assert version >= "24.05-py3"  # the first with onnxruntime 1.18, and so with IR version 10


def test_a_gpu_is_asked_for_and_tensorrt_has_time_to_build(manifest: Callable[..., dict[str, Any]]) -> None:
    model = manifest(gpu=True, providers=(TENSORRT, CUDA, CPU))["spec"]["predictor"]["model"]
    assert [amounts["nvidia.com/gpu"] for amounts in model["resources"].values()] == ["1", "1"]
    assert model["livenessProbe"]["initialDelaySeconds"] >= 600
    on_cuda = manifest(gpu=True, providers=(CUDA, CPU))["spec"]["predictor"]["model"]
    assert on_cuda["livenessProbe"]["initialDelaySeconds"] < 600


@pytest.mark.parametrize(("providers", "gpu"), [((CPU,), True), ((CUDA,), False), ((), True)])
def test_a_gpu_that_the_target_cannot_use_or_needs_is_refused(
    manifest: Callable[..., dict[str, Any]], providers: tuple[str, ...], gpu: bool
) -> None:
    with pytest.raises(InputError, match="a file for target server-cpu runs on a"):
        manifest(gpu=gpu, providers=providers)


@pytest.mark.parametrize("storage", ["models/", "", "s3://", "/mnt/models"])
def test_storage_that_a_cluster_cannot_reach_is_refused(gray: Case, tmp_path: Path, storage: str) -> None:
    with pytest.raises(InputError, match=re.escape(SCHEMES[0])):
        write_kserve(gray.bundle, tmp_path / "a.yaml", name=NAME, storage=storage, gpu=False)


@given(st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,51}[A-Za-z0-9]", fullmatch=True))
def test_every_short_name_of_a_model_becomes_a_valid_name_of_a_service(name: str) -> None:
    found = service_name(name)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", found)
    assert len(f"{found}-predictor") <= 63


def test_names_without_a_letter_first_or_too_long_are_refused() -> None:
    for name in ["", "3d", "---", "żółw", "x" * 54]:
        with pytest.raises(InputError, match="can't be a service's name"):
            service_name(name)
