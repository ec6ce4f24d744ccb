"""The runner: a bundle, opened on a device, that takes stored images and gives probabilities."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import LOGITS, PROBABILITIES, Bundle, file_sha256
from imaging_ft.config import reason
from imaging_ft.errors import BundleError, InputError
from imaging_ft.inference.feed import feeds
from imaging_ft.inference.providers import Device, Opened, open_session
from imaging_ft.preprocess import conform
from imaging_ft.types import Pixels

Probabilities = npt.NDArray[np.float32]
"""[batch, classes]; each row sums to one, but not in a multi-label task."""

MAX_BATCH = 32
MAX_BATCH_PIXELS = 1 << 24


class Runner:
    """A model that is ready to predict."""

    def __init__(self, path: Path, bundle: Bundle, sha256: str, opened: Opened) -> None:
        self.path = path
        self.bundle = bundle
        self.sha256 = sha256
        self.device = opened.device
        self._session: Any = opened.session

    @classmethod
    def open(cls, path: Path, *, device: Device = Device.AUTO, threads: int | None = None) -> "Runner":
        """Return a runner for a bundle on a device, after its self-test.

        Raises BundleError where the file is missing, damaged, not a bundle, or gives other logits than its
        golden sample says, and DeviceError where the device can't run.
        """
        if not path.is_file():
            raise BundleError(f"{path}: no such model file")
        data = path.read_bytes()
        if not data:
            raise BundleError(f"{path}: the file is empty (0 bytes)")
        opened = open_session(data, device, where=str(path), threads=threads)
        metadata: dict[str, str] = opened.session.get_modelmeta().custom_metadata_map
        bundle = Bundle.from_metadata(metadata, where=str(path))
        runner = cls(path, bundle, file_sha256(path), opened)
        runner.self_test()
        return runner

    def self_test(self) -> None:
        """Run the golden sample; raises BundleError where its logits differ from the trained model's."""
        golden = self.bundle.golden
        logits = np.asarray(self._run(LOGITS, golden.image()), dtype=np.float64)
        expected = np.asarray(golden.logits)
        apart = float(np.abs(logits - expected).max()) if logits.shape == expected.shape else float("inf")
        # TensorFloat-32 and half precision on a GPU are off by more than float32, and harmlessly so.
        allowed = golden.tolerance if self.device is Device.CPU else max(0.1, golden.tolerance)
        if not apart <= allowed:
            raise BundleError(
                f"{self.path}: its self-test failed on {self.device}: a logit is off by {apart:.3g}"
                f" (at most {allowed:g} is allowed); the file is damaged or this provider computes wrongly"
            )

    def predict(self, images: Sequence[Pixels]) -> Probabilities:
        """Return probabilities [n, classes] for stored images [height, width, channels] of any sizes.

        An image of another dtype or channel count is brought to the model's. Images of one size run together. Raises
        InputError where an image is of another kind, or where a probability is no number: that nothing reaches its
        threshold has to be the model's word.
        """
        spec = self.bundle.input
        found = np.empty((len(images), len(self.bundle.labels)), np.float32)
        by_shape: dict[tuple[int, ...], list[int]] = {}
        ready: list[Pixels] = []
        for position, image in enumerate(images):
            if image.ndim != 3 or image.shape[2] not in {1, 3} or image.dtype.name not in {"uint8", "uint16"}:
                raise InputError(
                    f"an image is {image.dtype} {image.shape}, but [height, width, 1 or 3] of uint8 or uint16 is wanted"
                )
            ready.append(conform(image, spec))
            by_shape.setdefault(image.shape[:2], []).append(position)
        for (height, width), positions in by_shape.items():
            step = max(1, min(MAX_BATCH, MAX_BATCH_PIXELS // (height * width)))
            for start in range(0, len(positions), step):
                chosen = positions[start : start + step]
                found[chosen] = self._run(PROBABILITIES, np.stack([ready[index] for index in chosen]))
        if not np.isfinite(found).all():
            raise InputError(
                f"{self.path}: gives probabilities that are no numbers on {self.device}; try --device cpu, or export"
                " the model again"
            )
        return found

    def _run(self, output: str, batch: Pixels) -> Any:
        try:
            return np.concatenate([self._session.run([output], fed)[0] for fed in feeds(self.bundle, batch)])
        except Exception as error:  # onnxruntime raises its own kinds, without a common base
            raise InputError(f"{self.path}: onnxruntime failed on a batch {batch.shape}: {reason(error)}") from error
