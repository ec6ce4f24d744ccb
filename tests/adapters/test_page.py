"""The page, in a real browser before the real service: used with a mouse, with the keyboard, on a phone, offline."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.chromium import CHROMIUM, Page, browser
from tests.adapters.serving import KEY, Server, png, server
from tests.inference.nets import LINEAR, make

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
RESULT = "!document.getElementById('result').hidden"
READY = "!document.getElementById('card').hidden"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(png(seed))
    (folder / "broken.png").write_bytes(png()[:50])
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Server]:
    from imaging_ft.inference.runner import Runner

    models = [
        make(LINEAR[kind], folder / name).path for kind, name in zip(LINEAR, ("one.onnx", "two.onnx"), strict=False)
    ]
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


def test_a_broken_file_is_told_and_the_next_one_is_answered(served: Server, folder: Path) -> None:
    with browser() as page:
        page.open(served.url("/"))
        page.until(READY)
        page.choose("#file", folder / "broken.png")
        page.until("document.getElementById('status').classList.contains('wrong')")
        assert "truncated" in text(page, "#status")
        assert page.run("document.getElementById('result').hidden")
        page.choose("#file", folder / "2.png")
        page.until(RESULT)
        assert text(page, "#status").startswith("Done: ")


def test_another_model_is_asked_by_the_keyboard_alone(served: Server, folder: Path) -> None:
    with browser() as page:
        page.open(served.url("/"))
        page.until(READY)
        page.press("Tab", 9)
        assert page.run("document.activeElement.id") == "file"
        page.choose("#file", folder / "0.png")
        page.until(RESULT)
        page.press("Tab", 9)
        assert page.run("document.activeElement.id") == "model"
        page.press("ArrowDown", 40)
        page.until("document.getElementById('title').textContent === 'two'")
        page.until("performance.getEntriesByType('resource').some((one) => one.name.includes('model=two'))")
        assert page.run("document.getElementById('worst').hidden")


def test_where_a_key_is_wanted_it_is_asked_for_and_kept_for_the_tab_alone(folder: Path, tmp_path: Path) -> None:
    with server(tmp_path, env={"IMAGING_FT_API_KEYS": KEY}) as served, browser() as page:
        page.open(served.url("/"))
        page.until("!document.getElementById('entry').hidden")
        assert "API key" in text(page, "#status")
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
