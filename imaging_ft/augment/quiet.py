"""albumentations, imported so that it calls no network: the one place of this project that imports it."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # without it, the import asks an index for newer versions
import albumentations as A

__all__ = ["A"]
