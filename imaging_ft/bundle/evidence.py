"""What a bundle says was proven of it: its golden sample, its parity, and what its precision costs."""

import base64
import math
from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from imaging_ft.config import Frozen
from imaging_ft.types import Pixels


class Golden(Frozen):
    """A small input and the logits that the file has to give for it: a host's self-test.

    In float32 they are the trained model's own; of a lower precision, what the file gave where it was exported.
    """

    shape: tuple[int, int, int, int]
    """[batch, height, width, channels]."""
    dtype: Literal["uint8", "uint16"]
    data: str
    """The pixels in C order, little-endian, as base64."""
    logits: tuple[tuple[float, ...], ...]
    """[batch, classes]."""
    tolerance: float
    """How far a logit may be off."""

    @model_validator(mode="after")
    def _data_fits(self) -> Self:
        wanted = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if len(base64.b64decode(self.data)) != wanted:
            raise ValueError(f"the golden sample's data are not the {wanted} bytes of its shape")
        if len(self.logits) != self.shape[0]:
            raise ValueError(f"{len(self.logits)} rows of golden logits for {self.shape[0]} images")
        return self

    @classmethod
    def of(cls, image: Pixels, logits: list[list[float]], *, tolerance: float) -> Self:
        """Return the golden sample for a batch of images [batch, height, width, channels]."""
        little = np.ascontiguousarray(image.astype(image.dtype.newbyteorder("<")))
        return cls.checked(
            {
                "shape": image.shape,
                "dtype": image.dtype.name,
                "data": base64.b64encode(little.tobytes()).decode("ascii"),
                "logits": logits,
                "tolerance": tolerance,
            },
            where="golden",
        )

    def image(self) -> Pixels:
        """Return the input [batch, height, width, channels]."""
        flat = np.frombuffer(base64.b64decode(self.data), np.dtype(self.dtype).newbyteorder("<"))
        return flat.reshape(self.shape).astype(self.dtype)


class Parity(Frozen):
    """How closely the exported file agrees with the trained model, on every validation image."""

    images: int
    top1_agreement: float
    """Share of everything compared on which both say the same: the same largest class, so 1; of a multi-label task
    the same set of classes, so below 1 where a probability lies within `tolerance` of its threshold."""
    max_probability_difference: float
    max_logit_difference: float
    max_level_difference: int
    """How far the graph's preprocessing is from NumPy's and Pillow's, in levels of 256; 2 are allowed."""
    tolerance: float
    """The probability difference that was allowed."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of the image sizes that were tried besides the images' own."""
    batches: tuple[int, ...]
    provider: str


class CellLoss(Frozen):
    """What a lower precision cost by one metric, in one cell of a condition suite or on average over all of them."""

    conditions: dict[str, int] | None
    """Severity by condition; empty: the images as they are; null: the mean over all cells."""
    metric: str
    """`balanced_accuracy` or `sensitivity[<label>]`."""
    before: float
    """In float32."""
    after: float
    n: int
    """How many images the metric is over: a label's own for its sensitivity."""
    lost: int
    """On how many of them only float32 was right; over all cells for the mean."""
    won: int
    """On how many only the lower precision was."""

    @property
    def drop(self) -> float:
        """What was lost; negative where it was won."""
        return self.before - self.after


class PrecisionLoss(Frozen):
    """How a file of lower precision compares with the float32 model, on validation images under a condition suite."""

    suite: str
    images: int
    cells: int
    """Conditions at their severities, and the images as they are."""
    top1_agreement: float
    """Share of all images in all cells of which both say the same."""
    max_probability_difference: float
    """Over the images as they are."""
    max_drop: float
    """The drop that was allowed."""
    mean: CellLoss
    """The metric that lost most on average over the cells."""
    worst: CellLoss
    """The single cell and metric that lost most. Of few images one or two change sides by rounding alone."""
