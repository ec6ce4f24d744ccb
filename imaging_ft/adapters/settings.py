"""What a service takes: limits that hold before anything is decoded."""

from typing import Annotated

from pydantic import Field

from imaging_ft.config import Frozen

Seconds = Annotated[float, Field(gt=0)]


class Limits(Frozen):
    """How much one request, and all of them together, may ask for."""

    body_bytes: Annotated[int, Field(ge=1)] = 32 << 20
    """Of a request, as it was sent and once it is unpacked."""
    head_bytes: Annotated[int, Field(ge=1024)] = 64 << 10
    """Of a request's first line and headers."""
    pixels: Annotated[int, Field(ge=1)] = 50_000_000
    """Of one image, by its header."""
    images: Annotated[int, Field(ge=1)] = 64
    """In one request."""
    requests: Annotated[int, Field(ge=1)] = 128
    """At the same time; more are answered 429."""
    body_seconds: Seconds = 30
    """For a request's head to arrive, and again for its body."""
    answer_seconds: Seconds = 60
    """From the whole body to the answer; later it is dropped, and answered 504."""
    drain_seconds: Seconds = 30
    """For what was accepted to be answered once the service stops."""
    decoders: Annotated[int, Field(ge=1)] = 2
    """Threads that decode and prepare images."""
