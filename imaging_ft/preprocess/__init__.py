"""The input contract: how a stored image becomes the levels that a network sees.

There is one copy of it: an ONNX graph made from `InputSpec`. Training runs it to prepare its images, and
the exported file carries it; a host only has to decode its image.

```
stored pixels ── conform ──> the model's dtype and channels      the host's part
              ── window ───> 256 levels                          in the ONNX graph from here on
              ── resize ───> network height × width, still integer levels
              ── (x / 255 − mean) / std, one channel repeated to three
```
"""

from imaging_ft.preprocess.prepare import prepare
from imaging_ft.preprocess.spec import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    INPUT,
    LEVELS,
    InputSpec,
    Triple,
    conform,
    letterbox,
    reference_levels,
    resize_levels,
    to_levels,
    window_terms,
)

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "INPUT",
    "LEVELS",
    "InputSpec",
    "Triple",
    "conform",
    "letterbox",
    "prepare",
    "reference_levels",
    "resize_levels",
    "to_levels",
    "window_terms",
]
