"""Conditions beside the `imagecorruptions` package: `python -m benchmarks.report.conditions`.

Images a second of comparable conditions at severity 3, on one thread, 224×224 RGB, both in the same run and turn by
turn. `pip install imagecorruptions-imaug` first: a maintained fork, and no dependency of imaging_ft.
"""
# ruff: noqa: T201 - a command prints

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from imaging_ft.augment.conditions import CONDITIONS, Setting
from imaging_ft.types import Pixels

PAIRS = {
    "low_light": "shot_noise",
    "glare": "brightness",
    "fog": "fog",
    "motion": "motion_blur",
    "defocus": "defocus_blur",
    "compression": "jpeg_compression",
    "distance": "pixelate",
    "occlusion": "spatter",
}
"""Ours, and what comes nearest to it there; they are not the same: ours have a scene's physics and units."""
SEVERITY = 3


def main() -> int:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report.conditions", description=__doc__)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    import cv2
    from imagecorruptions import corrupt

    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    images: list[Pixels] = [rng.integers(0, 256, (224, 224, 3), np.uint8) for _ in range(given.images)]
    print(f"{'imaging_ft':<14}{'images/s':>9}   {'imagecorruptions':<18}{'images/s':>9}   ratio")
    for ours, theirs in PAIRS.items():
        setting = Setting(((CONDITIONS[ours], SEVERITY),))

        def here(image: Pixels, setting: Setting = setting) -> object:
            return setting.apply(image, sample_id="", seed=0)

        def there(image: Pixels, name: str = theirs) -> object:
            return corrupt(image, severity=SEVERITY, corruption_name=name)

        turns = [(_rate(here, images), _rate(there, images)) for _ in range(given.turns)]
        mine, other = (median(side) for side in zip(*turns, strict=True))
        print(f"{ours:<14}{mine:>9.0f}   {theirs:<18}{other:>9.0f}   {mine / other:>5.1f}")
    return 0


def _rate(change: Callable[[Pixels], object], images: list[Pixels]) -> float:
    start = time.perf_counter()
    for image in images:
        change(image)
    return len(images) / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main())
