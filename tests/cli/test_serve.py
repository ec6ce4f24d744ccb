"""`imaging-ft serve` as it is started: names, a report on the card, TLS, and the record of predictions."""

import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from imaging_ft.inference.runner import Runner
from imaging_ft.types import Task
from tests.adapters.serving import KEY, lines, png, server
from tests.inference.nets import LINEAR, make


def run(*options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "imaging_ft", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def report(sha256: str) -> str:
    """Return a report.json with ten conditions, the worst not first."""
    cells = [
        {
            "source": "synthetic",
            "conditions": {"blur": place},
            "n": 50,
            "metrics": {"accuracy": {"value": 0.5 + 0.04 * ((place * 7) % 10), "low": 0.1, "high": 0.9}},
        }
        for place in range(10)
    ]
    cells += [
        {"source": "recorded", "conditions": {"site": "B"}, "n": 3, "metrics": {"accuracy": {"value": 0.0}}},
        {"source": "synthetic", "conditions": {"fog": 1}, "n": 0, "metrics": {}},
    ]
    overall = {"n": 60, "metrics": {"accuracy": {"value": 0.97, "low": 0.9, "high": 0.99}}}
    return json.dumps({"model": {"sha256": sha256}, "dataset": {"name": "bags"}, "overall": overall, "cells": cells})


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl isn't installed")
def test_two_models_over_tls_with_a_key_and_a_report_on_the_card_of_one(tmp_path: Path) -> None:
    tasks = {"chest": Task.MULTICLASS, "hand": Task.MULTILABEL}
    models = [
        make(LINEAR["pool, flatten, gemm"], tmp_path / f"{name}.onnx", task=task).path for name, task in tasks.items()
    ]
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        ["openssl", *made, "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    (tmp_path / "report.json").write_text(report(Runner.open(models[1]).sha256))
    (tmp_path / "keys").write_text(f"# who may ask\n{KEY}\n")
    options = ["--tls-cert", str(certificate), "--tls-key", str(key), "--api-keys", str(tmp_path / "keys")]
    with server(tmp_path, *options, "--report", str(tmp_path / "report.json"), models=models) as served:
        trusted = ssl.create_default_context(cafile=str(certificate))

        def ask(path: str, data: bytes | None = None) -> Any:
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "image/png"}
            request = urllib.request.Request(f"https://{served.address}{path}", data, headers)
            with urllib.request.urlopen(request, context=trusted, timeout=60) as answer:
                return json.load(answer)

        chest, hand = ask("/v1/models")
        assert (chest["name"], hand["name"]) == ("chest", "hand")
        assert chest["report"] is None
        found = hand["report"]
        assert (found["dataset"], found["n"], found["clean"]["value"]) == ("bags", 60, 0.97)
        values = [one["value"] for one in found["worst"]]
        assert values == pytest.approx([0.5, 0.54, 0.58, 0.62, 0.66])
        assert found["worst"][0]["conditions"] == {"blur": 0}
        for name in ("chest", "hand"):
            assert ask(f"/v1/predict?model={name}", png())["model"] == name
        (shown,) = [line for line in lines(tmp_path) if line.startswith("serving ")]
        assert shown.startswith("serving chest, hand on cpu: https://127.0.0.1:")
        assert KEY not in "".join(lines(tmp_path))


def test_a_model_may_have_another_name_than_its_file(tmp_path: Path) -> None:
    with server(tmp_path, "--name", "thorax") as served:
        assert served.ask("/v1/predict?model=thorax", png())[1]["model"] == "thorax"
        assert served.ask("/v1/predict?model=net", png())[0] == 404


def test_names_that_clash_are_one_line(tmp_path: Path) -> None:
    first = make(LINEAR["pool, flatten, gemm"], tmp_path / "net.onnx").path
    (tmp_path / "other").mkdir()
    second = shutil.copy(first, tmp_path / "other" / "net.onnx")
    for options, message in (
        ([str(first), str(second)], "two files are both named 'net'"),
        ([str(first), str(second), "--name", "one"], "--name is for one model"),
        ([], "MODEL.onnx is missing"),
    ):
        done = run(*options)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_record_that_was_changed_fails_its_check(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    with server(tmp_path, "--audit", str(path)) as served:
        for seed in range(3):
            assert served.ask("/v1/predict", png(seed))[0] == 200
    good = run("--check-audit", str(path))
    assert (good.returncode, good.stdout.splitlines()[0][:13]) == (0, "3 predictions")
    path.write_text(path.read_text().replace('"model":"net"', '"model":"nut"', 1))
    changed = run("--check-audit", str(path))
    assert changed.returncode == 1
    assert "line 2 doesn't follow" in changed.stderr
