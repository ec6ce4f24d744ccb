"""The page, in a real browser before the real service: used with a mouse, with the keyboard, on a phone, offline."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import onnx
import pytest

from imaging_ft.adapters import page as mounted
from imaging_ft.bundle import Quality
from imaging_ft.types import Task
from tests.adapters.chromium import CHROMIUM, Page, browser
from tests.adapters.serving import KEY, Server, png, server
from tests.inference.nets import FLAT, GEMM, LINEAR, POOL, make, noise

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
RESULT = "!document.getElementById('result').hidden"
READY = "!document.getElementById('card').hidden"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(png(seed))
    (folder / "broken.png").write_bytes(png()[:50])
    done, tiff = cv2.imencode(".tiff", noise((40, 50, 1)))
    assert done
    (folder / "scan.tiff").write_bytes(tiff.tobytes())
    (folder / "mislabelled.png").write_bytes(tiff.tobytes())
    assert cv2.imwrite(str(folder / "dark.png"), noise((40, 50, 1)) // 16)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Server]:
    from imaging_ft.inference.runner import Runner

    models = [make(LINEAR["pool, flatten, gemm"], folder / "one.onnx").path, strict(folder / "two.onnx")]
    report = {
        "model": {"sha256": Runner.open(models[0]).sha256},
        "dataset": {"name": "bags"},
        "overall": {"n": 90, "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}}},
        "cells": [
            {
                "source": "synthetic",
                "conditions": {"fog": level},
                "n": 90,
                "metrics": {"accuracy": {"value": 0.9 - level / 10, "low": 0.1, "high": 0.95}},
            }
            for level in range(1, 8)
        ],
    }
    (folder / "report.json").write_text(json.dumps(report))
    with server(folder, "--report", str(folder / "report.json"), models=models) as found:
        yield found


def strict(path: Path) -> Path:
    """Write a multi-label model that rejects dark images."""
    made = make([POOL, FLAT, GEMM], path, task=Task.MULTILABEL)
    quality = Quality(brightness=(0.2, 0.9), contrast=0.01, clipped=0.9, validation=10)
    proto = onnx.load(path)
    del proto.metadata_props[:]
    for key, value in made.bundle.model_copy(update={"quality": quality}).to_metadata().items():
        proto.metadata_props.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.fixture
def page(served: Server) -> Iterator[Page]:
    with browser() as found:
        found.open(served.url("/"))
        found.until(READY)
        yield found


def choose_model(page: Page, name: str) -> None:
    page.run(
        f"(() => {{ const field = document.getElementById('model'); field.value = {json.dumps(name)};"
        " field.dispatchEvent(new Event('change')); })()"
    )


def shown(page: Page, name: str) -> bool:
    return page.run(f"document.getElementById({json.dumps(name)}).checkVisibility()")


def named(page: Page) -> dict[str, list[str]]:
    """Return what a screen reader is told of: names by role."""
    found: dict[str, list[str]] = {}
    for node in page.call("Accessibility.getFullAXTree")["nodes"]:
        if not node["ignored"]:
            found.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    return found


def give(page: Page, file: Path, event: str) -> None:
    """Drop or paste a file."""
    data = base64.b64encode(file.read_bytes()).decode()
    held = "dataTransfer" if event == "drop" else "clipboardData"
    kind = "DragEvent" if event == "drop" else "ClipboardEvent"
    page.run(
        f"(() => {{ const bytes = Uint8Array.from(atob('{data}'), (one) => one.charCodeAt(0));"
        f" const given = new DataTransfer();"
        f" given.items.add(new File([bytes], '{file.name}', {{ type: 'image/png' }}));"
        f" dispatchEvent(new {kind}('{event}', {{ {held}: given, bubbles: true, cancelable: true }})); }})()"
    )


def text(page: Page, selector: str) -> str:
    return page.run(f"document.querySelector({json.dumps(selector)}).innerText")


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_an_image_is_chosen_and_its_answer_shown(
    width: int, dark: bool, served: Server, folder: Path, tmp_path: Path
) -> None:
    with browser(width=width, height=800, dark=dark) as page:
        page.open(served.url("/"))
        page.until(READY)
        assert text(page, "#title") == "one"
        page.choose("#file", folder / "1.png")
        page.until(RESULT)
        _, answer, _ = served.ask("/v1/predict?model=one", (folder / "1.png").read_bytes())
        (one,) = answer["predictions"]
        assert text(page, "#verdict").startswith(one["label"])
        rows = page.run("[...document.querySelectorAll('#bars tbody tr')].map((row) => row.innerText.split('\\t'))")
        assert [row[0].removesuffix(" ✓") for row in rows] == sorted(
            one["probabilities"], key=lambda name: -one["probabilities"][name]
        )
        assert page.run("document.getElementById('picture').naturalWidth") == 50
        assert page.run("document.getElementById('heat').naturalWidth") == 50
        assert "fog 7" in text(page, "#cells tr")
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.errors == []
        own = served.url("/")
        assert all(address.startswith((own, "blob:" + own, "data:")) for address in page.requests)
        page.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000


def test_a_broken_file_is_told_and_the_next_one_is_answered(page: Page, folder: Path) -> None:
    page.choose("#file", folder / "1.png")
    page.until(RESULT)
    page.choose("#file", folder / "broken.png")
    page.until("document.getElementById('status').classList.contains('wrong')")
    assert "truncated" in text(page, "#status")
    assert not shown(page, "result")
    page.choose("#file", folder / "2.png")
    page.until(RESULT)
    assert text(page, "#status").startswith("Done: ")


@pytest.mark.parametrize("name", ["scan.tiff", "mislabelled.png"])
def test_what_a_browser_cannot_show_is_answered_with_the_heat_map_alone(name: str, page: Page, folder: Path) -> None:
    page.choose("#file", folder / name)
    page.until(RESULT)
    assert text(page, "#caption") == f"{name}: browsers can't show this kind; this is the heat map alone."
    assert [shown(page, one) for one in ("picture", "heat", "fade")] == [False, True, False]
    assert page.run("getComputedStyle(document.getElementById('heat')).opacity") == "1"
    page.choose("#file", folder / "0.png")
    page.until("document.getElementById('caption').textContent === '0.png'")
    assert [shown(page, one) for one in ("picture", "heat", "fade")] == [True, True, True]
    assert page.errors == []


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(event: str, page: Page, folder: Path) -> None:
    give(page, folder / "2.png", event)
    page.until(RESULT)
    assert text(page, "#caption") == "2.png"
    assert page.run("document.getElementById('picture').naturalWidth") == 50


def test_a_heat_map_is_made_where_it_is_wanted_and_lies_over_the_image(page: Page, folder: Path) -> None:
    page.run("document.getElementById('wanted').click()")
    page.choose("#file", folder / "1.png")
    page.until(RESULT)
    assert [shown(page, one) for one in ("picture", "heat", "fade")] == [True, False, False]
    assert any("heatmap=false" in one for one in page.requests)
    page.run("document.getElementById('wanted').click()")
    page.until("document.getElementById('heat').checkVisibility()")
    place = "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('%s').getBoundingClientRect())"
    assert page.run(place % "heat") == page.run(place % "picture")
    page.run("document.getElementById('opacity').focus()")
    before = float(page.run("getComputedStyle(document.getElementById('heat')).opacity"))
    page.press("ArrowLeft", 37)
    assert float(page.run("getComputedStyle(document.getElementById('heat')).opacity")) < before


def test_a_rejected_image_is_told_with_its_reason_and_without_a_class(page: Page, folder: Path) -> None:
    choose_model(page, "two")
    assert "too dark" in text(page, "#facts")
    page.choose("#file", folder / "dark.png")
    page.until(RESULT)
    assert text(page, "#verdict") == "No answer: rejected"
    assert text(page, "#reason").startswith("This image is too dark (")
    assert page.run("document.querySelectorAll('tr.said').length") == 0
    page.choose("#file", folder / "1.png")
    page.until("document.getElementById('caption').textContent === '1.png'")
    assert text(page, "#reason") == ""
    assert "reaches its threshold" in text(page, "#rule")


def test_a_screen_reader_is_told_of_everything(page: Page, folder: Path) -> None:
    page.choose("#file", folder / "1.png")
    page.until(RESULT)
    found = named(page)
    for role in ("combobox", "checkbox", "slider", "button", "image"):
        assert found[role], role
        assert all(found[role]), (role, found[role])
    assert "is said to be there" in found["image"]
    assert found["cell"].count("50.0%") >= 3  # the thresholds
    assert page.run("document.querySelector('main').getAttribute('aria-busy')") == "false"
    assert page.run("document.getElementById('status').getAttribute('aria-live')") == "polite"


def test_another_model_is_asked_by_the_keyboard_alone(page: Page, folder: Path) -> None:
    page.press("Tab", 9)
    assert page.run("document.activeElement.id") == "file"
    page.choose("#file", folder / "0.png")
    page.until(RESULT)
    page.press("Tab", 9)
    assert page.run("document.activeElement.id") == "model"
    page.press("ArrowDown", 40)
    page.until("document.getElementById('title').textContent === 'two'")
    page.until("performance.getEntriesByType('resource').some((one) => one.name.includes('model=two'))")
    assert not shown(page, "worst")
    for wanted in ("wanted", "opacity"):
        page.press("Tab", 9)
        assert page.run("document.activeElement.id") == wanted


def test_where_a_key_is_wanted_it_is_asked_for_and_kept_for_the_tab_alone(folder: Path, tmp_path: Path) -> None:
    with server(tmp_path, env={"IMAGING_FT_API_KEYS": KEY}) as served, browser() as page:
        page.open(served.url("/"))
        page.until("!document.getElementById('entry').hidden")
        assert "API key" in text(page, "#status")
        assert page.run("document.activeElement.id") == "key"
        for wrong, told in (("another key, of nobody", "unknown one"), ("ключ", "no API key")):
            page.run(f"document.getElementById('key').value = {json.dumps(wrong)}")
            page.run("document.querySelector('#entry button').click()")
            page.until(f"document.getElementById('status').textContent.includes({json.dumps(told)})")
        page.run(f"document.getElementById('key').value = {json.dumps(KEY)}")
        page.run("document.querySelector('#entry button').click()")
        page.until(READY)
        page.choose("#file", folder / "0.png")
        page.until(RESULT)
        assert page.run("localStorage.length") == 0
        assert page.run("sessionStorage.length") == 1
        assert page.run("document.getElementById('entry').hidden")


def test_the_page_may_ask_nobody_else_and_be_framed_by_nobody(served: Server) -> None:
    _, _, headers = served.ask("/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_each_of_its_files_is_served_as_it_is_and_names_no_other_host(served: Server) -> None:
    for path, (content, kind) in mounted.files().items():
        code, _, headers = served.ask(path)
        assert (code, headers["content-type"]) == (200, kind)
        assert int(headers["content-length"]) == len(content)
        others: list[Any] = [word for word in content.decode().split() if "://" in word and "this-host" not in word]
        assert all("www.w3.org/2000/svg" in word for word in others), others
