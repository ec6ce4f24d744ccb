"""The host programs, each run with its real runtime: all say what imaging_ft says, and refuse what they should."""

import ast
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from imaging_ft.bundle import PROBABILITIES
from imaging_ft.export.onnx import export_run
from imaging_ft.image import read_image
from imaging_ft.inference.activation import Activation
from imaging_ft.inference.runner import Runner
from imaging_ft.types import Task
from tests.conftest import LABELS, Exported, Trained, draw
from tests.export.hosts_browser import show
from tests.export.hosts_kit import KINDS, SOURCE, Answer, Host, browser, ready
from tests.export.hosts_nets import answer, changed, make_outside, run_outside
from tests.inference.nets import LINEAR, make, scene

IMAGES = 100
EXACT, LOSSY = 1e-3, 0.02
"""How far a probability may be off: of a PNG, and of a JPEG, whose decoders differ."""
DECIDED = 0.1
"""By how much the largest probability has to be ahead of the second."""
KINDS_OF_FILE = ("gray.png", "tint.png", "deep.png", "gray.jpg", "tint.jpg")
TAIL = LINEAR["pool, flatten, gemm"]


@pytest.fixture(scope="module")
def images(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Bars, discs and rings of many sizes: PNG of 8 and 16 bits and JPEG, gray and colour.

    Pictures on which the model is undecided are left out: there rounding, and no host, decides.
    """
    folder = tmp_path_factory.mktemp("images")
    runner = Runner.open(exported.model, threads=1)
    rng = np.random.default_rng(7)
    paths: list[Path] = []
    while len(paths) < IMAGES:
        path = folder / f"{len(paths):03}-{KINDS_OF_FILE[len(paths) % len(KINDS_OF_FILE)]}"
        height, width = (int(side) for side in rng.integers(60, 260, 2))
        pixels = draw(LABELS[len(paths) % len(LABELS)], rng, size=(height, width))
        if "deep" in path.name:
            pixels = pixels.astype(np.uint16) * 257 + rng.integers(0, 257, pixels.shape).astype(np.uint16)
        if "tint" in path.name:
            pixels = np.clip(pixels[:, :, np.newaxis] * rng.uniform(0.7, 1.1, 3), 0, 255).astype(np.uint8)
            # docs/bundle.md leaves open to which side a gray value between two levels is rounded.
            halfway = np.abs(pixels.astype(int) @ (114, 587, 299) % 1000 - 500) < 5
            pixels[:, :, 0] ^= halfway
        cv2.imwrite(str(path), pixels)
        second, first = np.sort(runner.predict([read_image(path)])[0])[-2:]
        if first - second > DECIDED:
            paths.append(path)
    return paths


@pytest.fixture(scope="module")
def opencv_model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model, exported for OpenCV."""
    path = tmp_path_factory.mktemp("opencv") / "model.onnx"
    export_run(trained.run, path, target="opencv-dnn")
    return path


@pytest.fixture(scope="module")
def browser_model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's model, exported for a page, with its class activation map."""
    path = tmp_path_factory.mktemp("browser") / "model.onnx"
    export_run(trained.run, path, target="browser")
    return path


@pytest.fixture(scope="module", params=KINDS)
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Host]:
    return request.param, ready(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def kind(host: tuple[str, Host]) -> str:
    return host[0]


@pytest.fixture
def run(host: tuple[str, Host]) -> Host:
    return host[1]


@pytest.fixture
def model(kind: str, request: pytest.FixtureRequest) -> Path:
    """The small run's model, as a host of this kind takes it."""
    if kind == "cpp-opencv":
        return request.getfixturevalue("opencv_model")
    return request.getfixturevalue("exported").model


def check(found: Answer, expected: dict[str, tuple[str, float]]) -> None:
    assert found.errors == []
    assert found.code == 0
    assert found.said.keys() == expected.keys()
    assert {path: label for path, (label, _) in found.said.items()} == {
        path: one for path, (one, _) in expected.items()
    }
    for path, (_, probability) in found.said.items():
        assert probability == pytest.approx(expected[path][1], abs=LOSSY if path.endswith(".jpg") else EXACT), path


def expected_of(model: Path, images: list[Path]) -> dict[str, tuple[str, float]]:
    """Return what the file says: by the runner, or where the host prepares its images, of levels by Pillow."""
    runner = Runner.open(model, threads=1)
    if runner.bundle.graph.preprocessing == "inside":
        found = runner.predict([read_image(path) for path in images])
    else:
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        spec = runner.bundle.input
        found = [run_outside(session, PROBABILITIES, read_image(path), spec)[0] for path in images]
    return {str(path): answer(runner.bundle, row[np.newaxis]) for path, row in zip(images, found, strict=True)}


def test_a_hundred_images_get_the_same_label_from_every_host(
    run: Host, model: Path, exported: Exported, images: list[Path]
) -> None:
    expected = expected_of(exported.model, images)
    assert {label for label, _ in expected.values()} == set(LABELS)
    # Where the host prepares an image, a level is one off here and there.
    own = expected_of(model, images)
    assert {path: label for path, (label, _) in own.items()} == {path: label for path, (label, _) in expected.items()}
    check(run(model, images), own)


def test_a_damaged_golden_sample_is_refused_in_one_line(
    run: Host, model: Path, images: list[Path], tmp_path: Path
) -> None:
    golden = Runner.open(model).bundle.golden.model_dump(mode="json")
    golden["logits"][0][1] += 10 * golden["tolerance"]
    found = run(changed(model, tmp_path / "model.onnx", golden=golden), images[:1])
    assert found.code == 1
    assert found.said == {}
    (line,) = found.errors
    assert re.search(r"model.onnx: self-test failed: a logit is off by 0\.\d+ \(allowed: 0\.01\)$", line), line


def test_a_bad_image_is_one_line_and_the_others_go_on(
    run: Host, model: Path, images: list[Path], tmp_path: Path
) -> None:
    shutil.copy(images[0], tmp_path / "good.png")
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "cut.png").write_bytes(images[0].read_bytes()[:-200])
    (tmp_path / "cut.jpg").write_bytes(images[4].read_bytes()[:-1000])
    glass = np.full((40, 50, 4), 90, np.uint8)
    cv2.imwrite(str(tmp_path / "glass.png"), glass)
    glass[:, :, 3] = 255
    cv2.imwrite(str(tmp_path / "opaque.png"), glass)
    bad = ["missing.png", "text.png", "cut.png", "cut.jpg", "glass.png"]
    found = run(model, [tmp_path / name for name in (*bad, "good.png", "opaque.png")])
    assert found.code == 2
    assert {Path(path).name for path in found.said} == {"good.png", "opaque.png"}
    assert {Path(line.split(": ")[0]).name for line in found.errors} == set(bad)
    assert len(found.errors) == len(bad)
    assert "transparent" in next(line for line in found.errors if "glass.png" in line)


def test_a_file_that_is_no_model_is_one_line(run: Host, model: Path, images: list[Path], tmp_path: Path) -> None:
    later = changed(model, tmp_path / "later.onnx", schema="imaging_ft.bundle/9")
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    text.with_name("text.onnx.json").write_text("{}")
    for path, reason in ((later, "imaging_ft.bundle/9"), (text, "text.onnx: ")):
        found = run(path, images[:1])
        assert found.code == 2
        assert len(found.errors) == 1
        assert reason in found.errors[0]


def test_windows_letterboxes_colour_and_several_labels_are_as_in_imaging_ft(
    kind: str, run: Host, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    wide = scene(50, 90, (10, 40, 25, 30), full=65535)
    pictures = {"wide": wide, "tall": wide.transpose(1, 0, 2) // 2, "eight": scene(90, 80, (5, 5, 40, 60))}
    pictures["colour"] = rng.integers(0, 60000, (70, 30, 3)).astype(np.uint16)
    pictures["bits"] = rng.integers(0, 256, (33, 65, 3)).astype(np.uint8)
    paths = [tmp_path / f"{name}.png" for name in pictures if not (kind == "python" and name == "colour")]
    for path in paths:
        cv2.imwrite(str(path), pictures[path.stem])
    models: list[tuple[str, Task, dict[str, Any]]] = [
        ("deep", Task.MULTILABEL, {"dtype": "uint16", "window": (2000, 50000), "resize": "letterbox"}),
        ("rgb", Task.MULTICLASS, {"channels": 3, "width": 96} if kind == "cpp-opencv" else {"channels": 3}),
    ]
    for name, task, changes in models:
        model = tmp_path / f"{name}.onnx"
        if kind == "cpp-opencv":
            make_outside(model, task=task, **changes)
        else:
            make(TAIL, model, task=task, **changes)
        expected = expected_of(model, paths)
        assert len({label for label, _ in expected.values()}) > 1
        check(run(model, paths), expected)


def test_a_photo_is_turned_upright(
    run: Host, model: Path, exported: Exported, images: list[Path], tmp_path: Path
) -> None:
    runner = Runner.open(exported.model, threads=1)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    gaps: dict[float, Image.Image] = {}
    for path in images[:30]:
        picture = Image.open(path).convert("L")
        both = [np.asarray(one)[:, :, np.newaxis] for one in (picture, picture.transpose(Image.Transpose.ROTATE_270))]
        as_stored, upright = runner.predict(both)
        gaps[float(np.abs(as_stored - upright).max())] = picture
    gap = max(gaps)
    assert gap > 2 * LOSSY
    gaps[gap].save(turned, quality=100, exif=exif)
    check(run(model, [turned]), expected_of(model, [turned]))


def test_a_host_says_which_target_it_wants(
    kind: str, run: Host, exported: Exported, opencv_model: Path, images: list[Path]
) -> None:
    found = run(exported.model if kind == "cpp-opencv" else opencv_model, images[:1])
    assert found.code == 2
    assert len(found.errors) == 1
    assert "--target" in found.errors[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page is served from."""
    return browser(Path(shutil.copytree(SOURCE, tmp_path_factory.mktemp("page") / "hosts")))


def test_the_page_lays_the_heat_map_where_the_evidence_is_and_fits_a_phone(
    page: Path, browser_model: Path, images: list[Path]
) -> None:
    gray = next(path for path in images if path.name.endswith("gray.png"))
    opened, shown = show(page, [browser_model, gray], width=390)
    assert opened["error"] is None
    assert shown["heat"]
    assert shown["width"] <= 390
    pixels = read_image(gray)
    assert shown["size"] == list(pixels.shape[:2])
    runner = Runner.open(browser_model, threads=1)
    label = int(runner.predict([pixels])[0].argmax())
    expected = Activation.open(browser_model, runner.bundle, threads=1).map(pixels, label)
    painted = np.array(shown["pixels"], float).reshape(*shown["size"], 4)[:, :, :3]
    colourful = painted.max(axis=2) - painted.min(axis=2)
    assert colourful[expected == 0].max(initial=0) == 0
    assert np.median(colourful[expected > 0.5]) > 20
    names = [name for name, _, threshold in shown["classes"] if float(threshold) == 0.5]
    assert names == list(LABELS)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.skipif(
    shutil.which("node") is None, reason="not run here: node is not installed (Debian: apt install nodejs)"
)
def test_the_page_and_the_report_put_the_heat_in_the_same_place(resize: str, tmp_path: Path) -> None:
    made = make(TAIL, tmp_path / "model.onnx", resize=resize)
    code = (
        f"import {{ heatOver }} from {json.dumps((SOURCE / 'browser' / 'heat.mjs').as_uri())};"
        "import { readFileSync } from 'node:fs';"
        "const asked = JSON.parse(readFileSync(0, 'utf8'));"
        "console.log(JSON.stringify(asked.map(([map, size, input]) => {"
        " const heat = heatOver(map, size, input); return heat && Array.from(heat.data); })));"
    )
    asked: list[Any] = []
    expected: list[np.ndarray] = []
    for image, label in ((scene(50, 90, (10, 40, 25, 30)), 0), (scene(131, 40, (90, 10, 30, 20)), 1)):
        cells = made.activation.evidence(image)[0][label]
        height, width = image.shape[:2]
        size = {"height": height, "width": width}
        for map_ in (cells, -np.abs(cells)):
            rows, columns = map_.shape
            saliency = {"data": map_.ravel().tolist(), "rows": rows, "columns": columns}
            asked.append([saliency, size, made.bundle.input.model_dump(mode="json")])
        expected.append(made.activation.map(image, label))
    command = ["node", "--input-type=module", "--eval", code]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True)
    first, nothing, second, nothing_either = json.loads(done.stdout)
    assert nothing is None
    assert nothing_either is None
    for found, wanted in zip((first, second), expected, strict=True):
        assert np.array(found).reshape(wanted.shape) == pytest.approx(wanted, abs=1e-5)


def test_the_python_host_needs_onnxruntime_numpy_and_pillow_alone() -> None:
    tree = ast.parse((SOURCE / "python" / "predict.py").read_text())
    found = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in found if name.partition(".")[0] not in sys.stdlib_module_names} == {
        "PIL",
        "numpy",
        "onnxruntime",
    }


def test_every_host_is_short() -> None:
    sources = [path for path in SOURCE.rglob("*") if path.suffix in {".py", ".mjs", ".html", ".hpp", ".cpp", ".css"}]
    assert len(sources) > 10
    assert {path.name: count for path in sources if (count := len(path.read_text().splitlines())) >= 150} == {}
