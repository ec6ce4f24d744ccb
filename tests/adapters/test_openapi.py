"""The OpenAPI document against the service, by schemathesis: what it says is what is answered."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.adapters.serving import server

pytest.importorskip("schemathesis", reason="schemathesis isn't installed")


def test_every_answer_is_one_that_the_document_names(tmp_path: Path) -> None:
    with server(tmp_path) as served:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", served.url("/openapi.json")),
                *("--max-examples", "6", "--seed", "1", "--phases", "examples,coverage,fuzzing"),
                # That random bytes are no image, a document can't say.
                *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        assert served.ask("/v2/health/ready")[0] == 200
