"""What a bundle says of images that it should not be asked about: unlike training's, or no picture at all."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imaging_ft.config import Frozen

Share = Annotated[float, Field(ge=0, le=1)]


class Ood(Frozen):
    """How far from training's images one may be; the file's output `distance` says how far it is."""

    method: Literal["mahalanobis"] = "mahalanobis"
    """Distance of the features before the head from the nearest class's mean, under one Gaussian for all classes."""
    threshold: Annotated[float, Field(gt=0)]
    """An image of a larger distance is rejected."""
    images: int
    """Training images that the Gaussian was fitted on."""
    components: int
    """Its principal directions; in all others the spread is taken as one and the same."""
    validation: int
    """Validation images that the threshold was chosen on."""
    rejected: Share
    """The share of them that it rejects."""


class Quality(Frozen):
    """What the network has to be given: measures of its levels as shares of full scale, with bounds from validation."""

    brightness: tuple[Share, Share]
    """The mean, from and to."""
    contrast: Share
    """The least standard deviation."""
    clipped: Share
    """The largest share of values at the bottom or the top of the range."""
    validation: int
    """Validation images that the bounds are wide enough for."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.brightness[0] > self.brightness[1]:
            raise ValueError(f"brightness from {self.brightness[0]} to {self.brightness[1]}: the first must be smaller")
        return self
