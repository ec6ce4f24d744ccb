"""The training benchmark: what is compared stays the same for all, and one command goes from images to tables."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imaging_ft.data import Sample, prepare
from imaging_ft.training.metrics import Score
from imaging_ft.types import Split

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _benchmarks_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))  # benchmarks/ is no installed package


def _samples(groups: int, per_group: int) -> tuple[Sample, ...]:
    return tuple(
        Sample(f"{label}-{group}-{index}.png", Path(), label, Split.TRAIN, f"{label}-{group}")
        for label in ("a", "b")
        for group in range(groups * (1 if label == "a" else 3))
        for index in range(per_group)
    )


def test_a_share_takes_as_much_of_every_class_and_few_groups() -> None:
    from benchmarks.training.frozen import share_of

    samples = _samples(groups=10, per_group=4)
    kept = share_of(samples, 0.25, seed=0)
    assert Counter(sample.label for sample in kept) == {"a": 10, "b": 30}
    assert len({sample.group for sample in kept if sample.label == "a"}) == 3  # 4 + 4 + 2 images
    assert share_of(samples, 0.25, seed=1) != kept
    assert share_of(samples, 1.0, seed=0) == samples


def test_a_smaller_share_is_part_of_a_larger_one_whatever_the_order_of_the_images() -> None:
    from benchmarks.training.frozen import share_of

    samples = _samples(groups=10, per_group=3)
    small, large = ({sample.id for sample in share_of(samples, share, seed=4)} for share in (0.1, 0.5))
    assert small < large
    assert small == {sample.id for sample in share_of(samples[::-1], 0.1, seed=4)}


def test_a_frozen_data_set_has_the_splits_that_training_draws_and_an_untouched_test_split(tmp_path: Path) -> None:
    from benchmarks.training.frozen import freeze

    own = prepare("baggage")
    frozen = freeze("baggage", tmp_path, fraction=0.25, seed=0, limit_test=None).data
    for split in (Split.VAL, Split.TEST):
        assert {sample.id for sample in frozen.of(split)} == {sample.id for sample in own.of(split)}
    assert {sample.id for sample in frozen.of(Split.TRAIN)} < {sample.id for sample in own.of(Split.TRAIN)}
    assert len(frozen.of(Split.TRAIN)) == len(own.of(Split.TRAIN)) / 4
    assert (frozen.labels, frozen.image, frozen.card.positive) == (own.labels, own.image, own.card.positive)


def _trained(accuracy: float, epochs: int) -> Any:
    from benchmarks.training.budget import Trained

    return Trained(model=None, validation=Score(accuracy, accuracy, 1.0), epochs=epochs, seconds=1.0, curve=[])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accuracies", "most", "tried", "kept"),
    [
        ({2: 0.5, 4: 0.6, 8: 0.7, 16: 0.8}, 8, [2, 4, 8], 8),  # the cap
        ({2: 0.5, 4: 0.6, 8: 0.6, 16: 0.9}, 16, [2, 4, 8], 4),  # no higher: the shorter one stays
        ({2: 1.0, 4: 1.0}, 16, [2], 2),  # nothing higher can come
    ],
)
def test_a_peer_has_longer_schedules_while_its_validation_accuracy_rises(
    accuracies: dict[int, float], most: int, tried: list[int], kept: int
) -> None:
    from benchmarks.training.budget import fair

    budget = fair(lambda epochs: _trained(accuracies[epochs], epochs), first=2, most=most)
    assert [schedule["epochs"] for schedule in budget.schedules] == tried
    assert budget.best.epochs == kept


def test_the_first_results_compare_ours_with_every_peer_on_the_first_data_set() -> None:
    from benchmarks.training.plan import METHODS, order

    works = list(order(["x", "y"], list(METHODS), [0, 1], [0.5, 0.1, 1.0]))
    first = [(work.dataset, work.method, work.seed, work.fraction) for work in works]
    assert [name for _, name, _, _ in first[:5]] == [
        "ours_robust",
        "lpft_trivial",
        "fastai_default",
        "fastai_strong",
        "timm",
    ]
    assert [fraction for _, _, _, fraction in first[7:9]] == [0.1, 0.5]
    assert {(dataset, seed) for dataset, _, seed, _ in first[:9]} == {("x", 0)}
    assert len({work.name for work in works}) == len(works) == 2 * 2 * 9


def _result(method: str, seed: int, *, clean: float, cells: dict[str, float], curve: list[float]) -> dict[str, Any]:
    def both(value: float) -> dict[str, float]:
        return {"accuracy": value, "balanced_accuracy": value}

    rows = [
        {"epoch": epoch, "seconds": 10.0 * (epoch + 1), "val_accuracy": value, "test_accuracy": value}
        for epoch, value in enumerate(curve)
    ]
    return {
        "schema": "imaging_ft.benchmark.training/1",
        "dataset": "things",
        "name": "things",
        "method": method,
        "seed": seed,
        "fraction": 1.0,
        "options": {"limit_test": None, "size": 64},
        "images": {"train": 10, "val": 5, "test": 5},
        "trained": {"seconds": 100.0, "mode": "fp32", "validation": both(curve[-1]), "curve": rows},
        "measured": {
            "suite": "camera",
            "practised": ["roll"],
            "test": {"n": 5, "classes": {"a": 2, "b": 3}},
            "clean": both(clean),
            "sensitivity": {"a": clean},
            "cells": [{"conditions": {name: 1}, **both(value)} for name, value in cells.items()],
        },
        "machine": {"processor": "a processor", "threads": 2, "python": "3", "libraries": {}, "git_revision": "r"},
        "created": "2026-01-01T00:00:00+00:00",
    }


def _compared() -> Any:
    from benchmarks.training.results import comparisons

    results = [
        _result("ours_robust", 0, clean=0.9, cells={"roll": 0.9, "glare": 0.8}, curve=[0.5, 0.8, 0.9]),
        _result("ours_robust", 1, clean=0.8, cells={"roll": 0.9, "glare": 0.6}, curve=[0.5, 0.8, 0.9]),
        _result("timm", 0, clean=0.8, cells={"roll": 0.5, "glare": 0.7}, curve=[0.4, 0.85]),
        _result("lpft_trivial", 0, clean=0.7, cells={"roll": 0.6, "glare": 0.4}, curve=[0.95]),
    ]
    (found,) = comparisons(results)
    return found


def test_figures_are_taken_over_seeds_and_held_out_conditions_apart() -> None:
    found = _compared()
    assert found.held_out == ("glare",)
    assert found.spread("ours_robust", found.clean("accuracy")).text() == "85.0 (80.0–90.0)"
    assert found.spread("ours_robust", found.mean_over("accuracy")).mean == pytest.approx(0.8)
    assert found.spread("ours_robust", found.mean_over("accuracy", held_out=True)).mean == pytest.approx(0.7)
    assert found.spread("ours_robust", found.worst("accuracy")).values == (0.8, 0.6)


def test_the_best_peer_is_the_best_by_each_figure_itself() -> None:
    found = _compared()
    assert found.best_peer(found.mean_over("accuracy"))[0] == "timm"
    assert found.best_peer(found.worst("accuracy"))[0] == "timm"
    worse = replace(found, results=tuple(result for result in found.results if result["method"] != "timm"))
    assert worse.best_peer(worse.clean("accuracy"))[0] == "lpft_trivial"


def test_the_time_to_a_peers_score_is_the_first_epoch_that_has_it_and_nothing_where_none_has() -> None:
    found = _compared()
    assert found.seconds_to("timm", "val_accuracy").values == (30.0,)
    assert found.seconds_to("timm", "test_accuracy").values == (20.0,)
    assert found.seconds_to("lpft_trivial", "val_accuracy") is None


def test_the_tables_say_yes_or_no_to_each_aim_and_leave_the_rest_of_the_page_alone(tmp_path: Path) -> None:
    from benchmarks.training.table import BEGIN, END, write_tables

    out, docs = tmp_path / "out", tmp_path / "docs"
    out.mkdir()
    docs.mkdir()
    for index, result in enumerate(_compared().results):
        (out / f"{index}.json").write_text(json.dumps(result))
    (docs / "benchmarks.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    text = write_tables([out], docs).read_text()
    again = (docs / "benchmark-training-things.svg").read_bytes()
    assert write_tables([out], docs).read_text() == text
    assert (docs / "benchmark-training-things.svg").read_bytes() == again
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| clean accuracy no lower | 85.0% | 80.0% (timm" in text
    assert "| mean-condition error at most half (accuracy) | error 20.0% | error 40.0% (timm" in text
    assert "| worst-condition error at most half (accuracy) | error 30.0% | error 50.0% (timm" in text
    assert [line[-5:-2] for line in text.splitlines() if "(accuracy) | error" in line] == ["yes", " no"]


def test_results_that_cannot_stand_in_one_table_are_refused(tmp_path: Path) -> None:
    from benchmarks.training.table import write_tables

    one, other, empty = (tmp_path / name for name in ("one", "other", "empty"))
    first, second = _compared().results[:2]
    for folder, result in ((one, first), (other, second)):
        folder.mkdir()
        (folder / "a.json").write_text(json.dumps(result))
    write_tables([one, other], tmp_path / "docs")
    with pytest.raises(ValueError, match="empty: no results"):
        write_tables([one, empty], tmp_path / "docs")
    with pytest.raises(ValueError, match="two results of one training"):
        write_tables([one, one], tmp_path / "docs")
    (other / "a.json").write_text(json.dumps(second | {"options": second["options"] | {"size": 96}}))
    with pytest.raises(ValueError, match="size 64 and 96"):
        write_tables([one, other], tmp_path / "docs")


def test_a_gpu_has_tables_of_its_own_and_the_fullest_comes_first() -> None:
    from benchmarks.training.results import comparisons

    results = list(_compared().results)
    gpu = [result | {"machine": result["machine"] | {"gpu": "a GPU"}} for result in results]
    assert [found.title for found in comparisons([*results, *gpu])] == ["things", "things, trained on one a GPU"]
    assert [found.gpu for found in comparisons([results[0], *gpu])] == ["a GPU", None]


def test_seconds_of_trainings_side_by_side_are_in_no_table() -> None:
    from benchmarks.training.table import section

    found = _compared()
    shared = [result | {"options": result["options"] | {"jobs": 4}} for result in found.results]
    alone, beside = section(found, "a.svg"), section(replace(found, results=tuple(shared)), "a.svg")
    assert "training seconds" in alone
    assert "Seconds until" in alone
    assert "econds" not in beside
    assert "2 threads, up to 4 trainings side by side;" in beside


def test_seconds_over_different_processors_are_said_to_be_so() -> None:
    from benchmarks.training.table import section

    found = _compared()
    first, *others = found.results
    moved = first | {"machine": first["machine"] | {"processor": "another processor", "threads": 16}}
    mixed = section(replace(found, results=(moved, *others)), "a.svg")
    assert "Seconds are means over" not in section(found, "a.svg")
    assert "Seconds are means over trainings on another processor (1 of them) and " in mixed
    assert "(3 of them)." in mixed
    assert "2 or 16 threads;" in mixed


def test_a_fastai_model_says_the_same_as_a_classifier(tmp_path: Path) -> None:
    pytest.importorskip("fastai", reason="fastai isn't installed: pip install -r benchmarks/training/requirements.txt")
    import torch

    from benchmarks.training import fastai_peer
    from benchmarks.training.frozen import freeze
    from benchmarks.training.peer import open_peer
    from benchmarks.training.plan import Options, Work

    frozen = freeze("baggage", tmp_path, fraction=0.1, seed=0, limit_test=8)
    peer = open_peer(frozen, Work("baggage", "fastai_default", 0, 0.1), Options(size=64, precision="fp32"))
    learner = fastai_peer.learner(peer, strong=False, folder=tmp_path)
    learner.model.eval()
    with torch.inference_mode(), learner.no_bar():
        expected, _ = learner.get_preds(ds_idx=1)
    logits, targets = peer.engine.predict(
        fastai_peer.as_classifier(learner.model),
        [(torch.from_numpy(peer.val.levels.transpose(0, 3, 1, 2).copy()), torch.from_numpy(peer.val.targets))],
    )
    assert np.abs(torch.softmax(torch.from_numpy(logits), dim=1).numpy() - expected.numpy()).max() < 1e-3
    assert learner.dls.valid_ds.items[0] == len(peer.train)
    assert [int(label) for _, label in learner.dls.valid_ds] == targets.argmax(axis=1).tolist()


def test_one_command_trains_peers_measures_them_and_writes_tables_and_skips_what_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "benchmarks.training", "--out", str(out), "--datasets", "baggage", "--seeds", "3"]
    command += ["--methods", "lpft_trivial", "--fractions", "1", "--size", "64", "--precision", "fp32"]
    command += ["--peer-epochs", "1", "--peer-max-epochs", "1", "--limit-test", "12", "--threads", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    path = out / "baggage-lpft_trivial-100pc-seed3.json"
    result = json.loads(path.read_text())
    assert result["images"] == {"train": 144, "val": 36, "test": 12}
    assert result["trained"]["epochs"] == len(result["trained"]["curve"]) == 1
    assert {"scatter", "roll"} <= {name for cell in result["measured"]["cells"] for name in cell["conditions"]}
    assert "LP-FT" in (out / "docs" / "benchmarks.md").read_text()

    again = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert "1 trainings, 1 of them done already" in again.stdout
    assert json.loads(path.read_text()) == result
    other = subprocess.run([*command, "--size", "96"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert other.returncode == 2
    assert "other options" in other.stderr
