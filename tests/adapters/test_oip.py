"""The protocol's JSON and tensors: what is taken, what comes back, and that a wrong request costs next to nothing."""

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imaging_ft.adapters import oip
from imaging_ft.errors import InputError
from imaging_ft.inference.batching import Answer
from imaging_ft.inference.models import Models, Served
from tests.inference.nets import LINEAR, make

WANTED = {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 1]}
THERE = ("logits", "probabilities")
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.just(1))


@contextmanager
def cheaply(most: int = 4 << 20) -> Iterator[None]:
    """Hold that a block takes little memory, whatever it is asked for."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    models = Models()
    yield models.load(make(LINEAR["pool, flatten, gemm"], tmp_path_factory.mktemp("oip") / "net.onnx").path)
    models.close()


def asking(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 4]} | changes]}


@given(shape=SHAPES, data=st.data())
def test_a_tensor_is_the_same_flat_nested_and_in_binary(shape: tuple[int, ...], data: st.DataObject) -> None:
    count = int(np.prod(shape))
    values = data.draw(st.lists(st.integers(0, 255), min_size=count, max_size=count))
    tensor = np.array(values, np.uint8).reshape(shape)
    size = {"binary_data_size": tensor.nbytes}
    in_binary = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(shape), "parameters": size}]}
    for request, tail in (
        (asking(shape=list(shape), data=values), b""),
        (asking(shape=list(shape), data=tensor.tolist()), b""),
        (asking(shape=list(shape), data=tensor.reshape(shape[0], -1).tolist()), b""),
        (in_binary, tensor.tobytes()),
    ):
        found = oip.images_of(request, tail, WANTED, 64)
        assert np.array_equal(np.stack(found), tensor)


def test_16_bits_come_little_endian() -> None:
    wanted = WANTED | {"datatype": "UINT16"}
    request = asking(datatype="UINT16", parameters={"binary_data_size": 8})
    del request["inputs"][0]["data"]
    (found,) = oip.images_of(request, bytes([1, 0, 0, 1, 255, 255, 2, 0]), wanted, 64)
    assert found.dtype == np.uint16
    assert found.ravel().tolist() == [1, 256, 65535, 2]


@pytest.mark.parametrize(
    "data",
    [
        ["x" * 100_000, *[0] * 3000],  # as an array of texts: 1.2 GB
        [0] * 3000 + ["x" * 100_000],
        [[0, 1], ["x" * 100_000, 1]],
        [True, False, True, False],
        [1, 2, 3, None],
        [[[[[[1]]]]], 2, 3, 4],
        [[1, 2], 3, 4],
        [[1, 2], [3, 4], []],
        {"0": 1},
        "1234",
        None,
        1,
        [],
        [1, 2, 3, 10**400],
        [1, 2, 3, float("inf")],
        [1, 2, 3, float("nan")],
        [1, 2, 3, -1],
    ],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_tensor_of_numbers_is_refused_before_an_array_is_made_of_it(data: Any) -> None:
    with cheaply(), pytest.raises(InputError, match="data:"):
        oip.images_of(asking(data=data), b"", WANTED, 64)


@pytest.mark.parametrize("side", [10**4000, 1 << 60, -(10**4000), 0, True, 1.0, "1", None])
def test_no_side_of_a_shape_is_too_long_for_a_message(side: Any) -> None:
    for request in (asking(shape=[1, side, side, 1]), asking(shape=[1, side, side, 1], parameters={})):
        with pytest.raises(InputError, match="shape"):
            oip.images_of(json.loads(json.dumps(request)), b"", WANTED, 64)


@pytest.mark.parametrize("length", ["²", "-1", "3", "1e0", "", " 1", "9" * 5000])
def test_a_length_that_is_none_within_the_body_is_refused(length: str) -> None:
    with pytest.raises(InputError, match="no length within the body of 2 bytes"):
        oip.parse(b"{}", length)


@pytest.mark.parametrize("best", ["2", -1, 1.5, True, None, [1]])
def test_so_many_classes_have_to_be_a_whole_number(best: Any) -> None:
    with pytest.raises(InputError, match="how many classes"):
        oip.wanted_outputs({"outputs": [{"name": "logits", "parameters": {"classification": best}}]}, THERE)


def test_an_output_is_sent_once_however_often_it_is_asked_for() -> None:
    with pytest.raises(InputError, match="twice"):
        oip.wanted_outputs({"outputs": [{"name": "logits"}] * 1000}, THERE)
    both = [{"name": "logits"}, {"name": "probabilities"}]
    assert oip.wanted_outputs({"outputs": both}, THERE) == both
    assert [one["name"] for one in oip.wanted_outputs({}, THERE)] == list(THERE)


def test_an_answer_holds_each_output_as_it_was_asked_for(served: Served) -> None:
    rows = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]], np.float32)
    answers = [Answer({"logits": row * 8, "probabilities": row}, 0, 0, 2) for row in rows]
    outputs = [
        {"name": "logits", "parameters": {"binary_data": True}},
        {"name": "probabilities", "parameters": {"classification": 1}},
    ]
    content, length = oip.response({"id": 7}, served, answers, outputs)
    assert length is not None
    found = json.loads(content[:length])
    assert (found["id"], found["model_name"], found["model_version"]) == ("7", "net", "1")
    logits, best = found["outputs"]
    assert logits == {
        "name": "logits",
        "datatype": "FP32",
        "shape": [2, 3],
        "parameters": {"binary_data_size": rows.nbytes},
    }
    assert np.frombuffer(content[length:], "<f4").tolist() == (rows * 8).ravel().tolist()
    names = served.runner.bundle.names
    assert best["data"] == [f"0.500000:0:{names[0]}", f"0.750000:2:{names[2]}"]
    assert (best["datatype"], best["shape"]) == ("BYTES", [2, 1])


def test_an_answer_in_json_is_all_of_it(served: Served, tmp_path: Path) -> None:
    answers = [Answer({"logits": np.array([1, 2, 3], np.float32)}, 0, 0, 1)]
    content, length = oip.response({}, served, answers, [{"name": "logits"}])
    assert length is None
    assert json.loads(content)["outputs"][0]["data"] == [1, 2, 3]
