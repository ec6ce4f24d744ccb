"""What a file's graph is fed with: stored images where the preprocessing is inside, else the levels made of them."""

from collections.abc import Iterator

import numpy as np

from imaging_ft.bundle import INPUT, LEVELS, Bundle
from imaging_ft.preprocess import prepare
from imaging_ft.types import Floats, Pixels


def feeds(bundle: Bundle, batch: Pixels) -> Iterator[dict[str, Pixels | Floats]]:
    """Yield the inputs for stored images [n, height, width, channels], in the model's dtype and channels.

    All at once, or as many at a time as the file takes; one after the other they are the batch.
    """
    step = bundle.graph.batch or len(batch)
    for start in range(0, len(batch), step):
        images = batch[start : start + step]
        if bundle.graph.preprocessing == "inside":
            yield {INPUT: images}
            continue
        levels = np.stack([prepare(image, bundle.input).transpose(2, 0, 1) for image in images])
        yield {LEVELS: levels.astype(np.float32)}
