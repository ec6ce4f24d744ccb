"""Near-duplicates: pairs of images that show the same picture, re-encoded, resized or a little brighter.

A perceptual hash names candidates among all pairs; a second, finer look confirms them: by the pixels of a small
gray picture, and where those leave a doubt by the features of a network.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from imaging_ft.audit.measure import Hashes
from imaging_ft.types import Floats, Ints, Levels, Track

HASH_BITS = 10
"""Candidates differ in at most so many of 64 bits."""
SAME_PIXELS = 0.95
"""Correlation of the 32 × 32 pictures, less the data set's mean picture, from which a candidate is confirmed."""
LIKE_PIXELS = 0.85
"""From here on the features decide."""
FEATURE_COSINE = 0.85
"""Cosine of the features, less their mean, from which a candidate with like pixels is confirmed."""
MOST_PAIRS = 2_000_000
_BLOCK = 1024


@dataclass(frozen=True)
class Pairs:
    """Pairs of images, each once, first < second."""

    first: Ints
    second: Ints
    bits: Ints
    """In how many bits the hashes differ."""
    pixels: npt.NDArray[np.float64]
    """Correlation of the small pictures, at most 1; NaN before it was measured."""
    features: npt.NDArray[np.float64]
    """Cosine of the features, at most 1; NaN where there are none."""
    limit: int
    """Up to how many bits were looked at."""

    def __len__(self) -> int:
        return len(self.first)


def candidates(hashes: Hashes, usable: npt.NDArray[np.bool_], track: Track, *, most: int = MOST_PAIRS) -> Pairs:
    """Return every pair of usable images whose hashes differ in at most HASH_BITS bits.

    All pairs are compared, block by block: exact, and 100,000 images take under a minute. Where more than
    `most` pairs come together (frames of a film), the limit falls until they fit; `Pairs.limit` tells it.
    """
    places = np.flatnonzero(usable)
    wanted = hashes[places]
    limit = HASH_BITS
    kept = [np.empty((3, 0), np.int64)]
    total = 0
    for start in track(range(0, len(wanted), _BLOCK), "comparing hashes", -(-len(wanted) // _BLOCK)):
        rows = wanted[start : start + _BLOCK]
        for other in range(start, len(wanted), _BLOCK):
            distance = np.bitwise_count(rows[:, None] ^ wanted[None, other : other + _BLOCK])
            near = distance <= limit
            if other == start:
                near = np.triu(near, 1)
            row, column = np.nonzero(near)
            if not len(row):
                continue
            found = np.stack([places[start + row], places[other + column], distance[row, column].astype(np.int64)])
            kept.append(found)
            total += found.shape[1]
            while total > most and limit > 0:
                limit -= 1
                kept = [block[:, block[2] <= limit] for block in kept]
                total = sum(block.shape[1] for block in kept)
    first, second, bits = np.concatenate(kept, axis=1)[:, :most]
    unknown = np.full(len(first), np.nan)
    return Pairs(first, second, bits, unknown, unknown, limit)


def confirm(pairs: Pairs, thumbs: Levels, features: Floats | None = None) -> Pairs:
    """Return the candidates that show the same picture, by gray pictures [n, 32, 32] and features [n, features].

    What all images of the data set share is taken off both: any two chest films correlate, and what tells them
    apart is what they don't share. Pixels decide where they are clear; where they are not (a turn of two degrees,
    another gamma) the features do. Features alone would not: a re-encoding that no eye sees moves a radiograph's
    features further than another patient does.
    """
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    pixels = _likeness(_unit(flat - flat.mean(axis=1, keepdims=True)), pairs)
    seen = np.full(len(pairs), np.nan) if features is None else _likeness(np.asarray(features, np.float32), pairs)
    same = pixels >= SAME_PIXELS
    if features is not None:
        same |= (pixels >= LIKE_PIXELS) & (seen >= FEATURE_COSINE)
    return Pairs(pairs.first[same], pairs.second[same], pairs.bits[same], pixels[same], seen[same], pairs.limit)


def joined(n: int, *links: tuple[Ints, Ints]) -> Ints:
    """Return for n images the number of the connected part that each belongs to, given links between images."""
    first = np.concatenate([np.empty(0, np.int64), *(link[0] for link in links)])
    second = np.concatenate([np.empty(0, np.int64), *(link[1] for link in links)])
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def same_key(keys: list[str | None]) -> tuple[Ints, Ints]:
    """Return links that join the images with the same key; None joins nothing."""
    seen: dict[str, int] = {}
    links = [(seen.setdefault(key, place), place) for place, key in enumerate(keys) if key is not None]
    both = np.array([link for link in links if link[0] != link[1]], np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _likeness(rows: npt.NDArray[np.float32], pairs: Pairs) -> npt.NDArray[np.float64]:
    """Return the cosine of each pair of rows [n, d], less their mean."""
    centred = _unit(rows - rows.mean(axis=0, dtype=np.float64).astype(np.float32))
    found = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        part = slice(start, start + _BLOCK)
        found[part] = np.einsum("ij,ij->i", centred[pairs.first[part]], centred[pairs.second[part]])
    return found


def _unit(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)
