"""Hashes, pairs and parts."""

import cv2
import numpy as np
import pytest

from imaging_ft.audit import duplicates
from imaging_ft.audit.duplicates import Pairs, candidates, confirm, joined, same_key
from imaging_ft.audit.measure import measure_image
from imaging_ft.preprocess import InputSpec
from imaging_ft.types import silent
from tests.conftest import LABELS, draw

SPEC = InputSpec(channels=1)


def bits(first: np.ndarray, second: np.ndarray) -> int:
    hashes = [
        np.array(measure_image(image.reshape(*image.shape[:2], 1), SPEC)[9], np.uint64) for image in (first, second)
    ]
    return int(np.bitwise_count(hashes[0] ^ hashes[1]))


@pytest.mark.parametrize("change", ["jpeg", "half", "double", "brighter", "darker"])
def test_the_hash_bears_encoding_size_and_light(change: str) -> None:
    rng = np.random.default_rng(0)
    changes = {
        "jpeg": lambda image: cv2.imdecode(cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 50))[1], 0),
        "half": lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        "double": lambda image: cv2.resize(image, None, fx=2, fy=2),
        "brighter": lambda image: np.clip(image * 1.15, 0, 255).astype(np.uint8),
        "darker": lambda image: (image * 0.7).astype(np.uint8),
    }
    for label in LABELS:
        image = draw(label, rng, size=(160, 200))
        assert bits(image, changes[change](image)) <= duplicates.HASH_BITS
        assert bits(image, draw(label, rng, size=(160, 200))) > duplicates.HASH_BITS


def test_candidates_are_all_pairs_within_the_limit_over_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_BLOCK", 7)
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2**63, 6, dtype=np.uint64)
    flips = np.array([sum(1 << int(b) for b in rng.choice(64, n, replace=False)) for n in range(12)], np.uint64)
    hashes = (base[:, None] ^ flips[None]).ravel()
    usable = rng.random(len(hashes)) < 0.9
    found = candidates(hashes, usable, silent)
    expected = {
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if usable[i] and usable[j] and (int(hashes[i]) ^ int(hashes[j])).bit_count() <= duplicates.HASH_BITS
    }
    assert expected
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == expected


def test_too_many_pairs_lower_the_limit_instead_of_filling_memory() -> None:
    hashes = np.array([(1 << n) - 1 for n in range(12)] * 4, np.uint64)
    found = candidates(hashes, np.ones(len(hashes), np.bool_), silent, most=100)
    assert len(found) <= 100
    assert found.limit < duplicates.HASH_BITS
    assert found.bits.max() <= found.limit


def test_features_decide_where_pixels_leave_a_doubt() -> None:
    rng = np.random.default_rng(2)
    thumbs = rng.integers(0, 255, (30, 32, 32)).astype(np.uint8)
    mixed = thumbs[0] * 0.7 + rng.integers(0, 255, (32, 32)) * 0.3
    thumbs[1] = mixed.astype(np.uint8)
    thumbs[3] = thumbs[2]
    unknown = np.full(2, np.nan)
    pairs = Pairs(np.array([0, 2]), np.array([1, 3]), np.array([8, 0]), unknown, unknown, limit=10)
    assert confirm(pairs, thumbs).first.tolist() == [2]
    features = rng.normal(size=(30, 64)).astype(np.float32)
    assert confirm(pairs, thumbs, features).first.tolist() == [2]
    features[1] = features[0] + 0.1 * features[5]
    assert confirm(pairs, thumbs, features).first.tolist() == [0, 2]


def test_links_and_shared_keys_join() -> None:
    parts = joined(5, (np.array([0]), np.array([1])), same_key(["a", "b", "b", None, None]))
    assert parts[0] == parts[1] == parts[2]
    assert len(set(parts.tolist())) == 3
