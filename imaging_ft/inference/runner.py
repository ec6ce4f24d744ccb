"""The runner: a bundle, opened on a device, that takes stored images and gives probabilities."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import DISTANCE, INPUT, LEVELS, LOGITS, PROBABILITIES, Bundle
from imaging_ft.config import reason
from imaging_ft.errors import BundleError, InputError
from imaging_ft.inference.model_file import ModelFile
from imaging_ft.inference.network import MAX_BATCH, SIZES, TOO_LARGE, Batch, Lanes, Network, Outputs, open_network
from imaging_ft.inference.parts import split
from imaging_ft.inference.providers import Device, Opened, Tuning, engine_cache, open_session, usable_cores
from imaging_ft.inference.rejection import Rejection, rejection
from imaging_ft.preprocess import conform, prepare
from imaging_ft.types import Pixels, Precision

if TYPE_CHECKING:
    from onnx import ModelProto

Probabilities = npt.NDArray[np.float32]
"""[batch, classes]; each row sums to one, but not in a multi-label task."""

GRAPHS_VARIABLE = "IMAGING_FT_CUDA_GRAPHS"
ON_A_GPU = 0.1
"""TensorFloat-32 and half precision on a GPU move a logit by so much, and harmlessly so."""


class Runner:
    """A model that is ready to predict.

    It holds the file's two halves: the preprocessing, which runs on the CPU image by image, and the network, which runs
    on the device in batches. So images of any sizes go together, and what crosses to a GPU is small.
    """

    def __init__(
        self, file: ModelFile, bundle: Bundle, pre: Any, network: Network, device: Device, *, whole: bool
    ) -> None:
        self.path = file.path
        self.bundle = bundle
        self.sha256 = file.sha256
        self.device = device
        """Where the network really runs."""
        self.outputs: tuple[str, ...] = (LOGITS, PROBABILITIES)
        """What the network gives by name."""
        self.best_batch = network.best
        """How many images at once keep the device busy; more of them only wait longer."""
        self.output_shapes: dict[str, tuple[int, ...]] = {}
        """The shape of each for one image."""
        self._pre = pre
        self._network = network
        self._whole = whole

    @property
    def judged(self) -> list[str]:
        """The outputs that tell what to say of an image, and whether to reject it."""
        return [PROBABILITIES, *([DISTANCE] if DISTANCE in self.outputs else [])]

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        device: Device = Device.AUTO,
        threads: int | None = None,
        public_key: Path | None = None,
        spinning: bool = True,
    ) -> "Runner":
        """Return a runner for a bundle on a device, after its self-test.

        `threads` are those that one batch runs on, on the CPU; where they spin, a batch starts sooner, but threads that
        decode images meanwhile get less of the cores. With `public_key`, nothing runs but the bytes that the key's
        holder signed. Raises BundleError where the file is missing, damaged, not a bundle, not signed, or gives
        other logits than its golden sample says, and DeviceError where the device can't run.
        """
        file = ModelFile.read(path)
        if public_key is not None:
            from imaging_ft.inference.signature import PublicKey

            PublicKey.read(public_key).prove(file)
        model = file.parse()
        return cls.of(file, file.bundle(model), model, device=device, threads=threads, spinning=spinning)

    @classmethod
    def of(
        cls,
        file: ModelFile,
        bundle: Bundle,
        model: "ModelProto",
        *,
        device: Device,
        threads: int | None,
        spinning: bool = True,
        tested: bool = True,
    ) -> "Runner":
        """Return a runner for a model that was read already, after its self-test where it is to be `tested`.

        Raises as `open` does.
        """
        where = str(file.path)
        spec, graph = bundle.input, bundle.graph
        halves = _halves(file, bundle, model)
        pre = None
        if halves.pre is not None:
            # One thread: images are prepared side by side.
            pre = open_session(halves.pre, Device.CPU, where=where, threads=1).session
        shape = (spec.channels, spec.height, spec.width)
        if halves.whole:
            shape = (spec.height, spec.width, spec.channels)
        sizes = (1,) if graph.batch == 1 else graph.batches or SIZES
        tuning = Tuning(
            shape,
            sizes,
            graph.precision,
            cache=engine_cache(file.path, file.sha256),
            for_tensorrt="TensorrtExecutionProvider" in graph.providers,
            name=INPUT if halves.whole else LEVELS,
        )

        def start(*, graphs: bool) -> Opened:
            return open_session(
                halves.network,
                device,
                where=where,
                threads=threads,
                spinning=spinning,
                tuning=tuning,
                graphs=graphs and may_capture(graph.precision),
            )

        def alone() -> Any:
            return open_session(halves.network, Device.CPU, where=where, threads=1, spinning=False).session

        cores = threads or usable_cores() or os.cpu_count() or 1
        lanes = Lanes(cores, alone) if cores > 1 and len(halves.network) < TOO_LARGE else None
        opened, network = open_network(start, shape, sizes, most=graph.batch or MAX_BATCH, lanes=lanes)
        runner = cls(file, bundle, pre, network, opened.device, whole=halves.whole)
        runner.outputs = tuple(output.name for output in opened.session.get_outputs())
        if tested:
            runner.self_test()
        return runner

    def self_test(self) -> None:
        """Run the golden sample; raises BundleError where its logits differ from the trained model's."""
        golden = self.bundle.golden
        try:
            levels = np.stack([self.levels(image) for image in golden.image()])
            found = self.run(levels, self.outputs)
        except InputError as error:
            raise BundleError(f"{error} (its golden sample)") from error
        self.output_shapes = {name: values.shape[1:] for name, values in found.items()}
        logits = np.asarray(found[LOGITS], dtype=np.float64)
        expected = np.asarray(golden.logits)
        apart = float(np.abs(logits - expected).max()) if logits.shape == expected.shape else float("inf")
        allowed = allowed_difference(self.bundle, self.device)
        if not apart <= allowed:
            raise BundleError(
                f"{self.path}: its self-test failed on {self.device}: a logit is off by {apart:.3g}"
                f" (at most {allowed:g} is allowed); the file is damaged or this provider computes wrongly"
            )

    def levels(self, image: Pixels) -> Batch:
        """Return what the network is given for a stored image [height, width, channels] of any size.

        [channels, height, width], from 0 to 255. An image of another dtype or channel count is brought to the model's.
        Raises InputError where it is of another kind. Safe from any thread.
        """
        if image.ndim != 3 or image.shape[2] not in {1, 3} or image.dtype.name not in {"uint8", "uint16"}:
            raise InputError(
                f"an image is {image.dtype} {image.shape}, but [height, width, 1 or 3] of uint8 or uint16 is wanted"
            )
        if 0 in image.shape:
            raise InputError(f"an image of {image.shape[0]} × {image.shape[1]} has no pixels")
        stored = conform(image, self.bundle.input)
        if self._pre is None:
            levels = prepare(stored, self.bundle.input).transpose(2, 0, 1)
            return levels if self._whole else levels.astype(np.float32)
        try:
            return self._pre.run([LEVELS], {INPUT: stored[np.newaxis]})[0][0]
        except Exception as error:  # onnxruntime raises its own kinds, without a common base
            raise InputError(f"{self.path}: onnxruntime failed on an image {image.shape}: {reason(error)}") from error

    def checked(self, levels: Batch) -> Batch:
        """Return levels that a host prepared, as the network takes them; raises InputError where they can't be."""
        spec = self.bundle.input
        wanted = (spec.channels, spec.height, spec.width)
        if levels.shape != wanted or levels.dtype != np.float32:
            raise InputError(f"levels are {levels.dtype} {levels.shape}, but float32 {wanted} is wanted, from 0 to 255")
        if not ((levels >= 0) & (levels <= 255)).all():
            raise InputError("levels are outside 0 to 255, or no numbers")
        return levels

    def run(self, levels: Batch, outputs: Sequence[str] = (LOGITS, PROBABILITIES)) -> Outputs:
        """Return outputs [n, …] for levels [n, channels, height, width] of any number of images.

        Raises InputError where onnxruntime fails, or a value is no number: that nothing reaches its threshold has to be
        the model's word. Safe from any thread.
        """
        batch = np.ascontiguousarray(levels.transpose(0, 2, 3, 1)) if self._whole else levels
        try:
            found = self._network.run(batch, outputs)
        except Exception as error:  # onnxruntime raises its own kinds, without a common base
            raise InputError(f"{self.path}: onnxruntime failed on a batch {levels.shape}: {reason(error)}") from error
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise InputError(
                    f"{self.path}: gives {name} that are no numbers on {self.device}; try --device cpu, or export the"
                    " model again"
                )
        return found

    def predict(self, images: Sequence[Pixels]) -> Probabilities:
        """Return probabilities [n, classes] for stored images [height, width, channels] of any sizes.

        Raises InputError where an image is of another kind, or a probability is no number.
        """
        found = [outputs[PROBABILITIES] for _, outputs in self._batches(images, [PROBABILITIES])]
        return np.concatenate(found) if found else np.empty((0, len(self.bundle.labels)), np.float32)

    def judge(self, images: Sequence[Pixels]) -> tuple[Probabilities, list[Rejection | None]]:
        """Return probabilities as `predict` does, and why the bundle's bounds reject an image, for each that they do.

        Raises as `predict` does.
        """
        found: list[Probabilities] = [np.empty((0, len(self.bundle.labels)), np.float32)]
        why: list[Rejection | None] = []
        for levels, outputs in self._batches(images, self.judged):
            found.append(outputs[PROBABILITIES])
            distances = np.ravel(outputs[DISTANCE]).tolist() if DISTANCE in outputs else [None] * len(levels)
            why += [rejection(self.bundle, *pair) for pair in zip(levels, distances, strict=True)]
        return np.concatenate(found), why

    def _batches(self, images: Sequence[Pixels], outputs: Sequence[str]) -> Iterator[tuple[Batch, Outputs]]:
        for start in range(0, len(images), MAX_BATCH):
            levels = np.stack([self.levels(image) for image in images[start : start + MAX_BATCH]])
            yield levels, self.run(levels, outputs)


@dataclass(frozen=True)
class _Halves:
    """What of a file is run, as bytes."""

    pre: bytes | None
    """Its preprocessing; None where that is the host's."""
    network: bytes
    whole: bool
    """Whether the network is the file as it is, which takes images, at the size that its preprocessing leaves alone."""


def _halves(file: ModelFile, bundle: Bundle, model: "ModelProto") -> _Halves:
    """Return a file's halves; where it can't be parted, as after other tools, the host prepares and all of it runs.

    Raises BundleError where it can't be parted and takes 16 bits, which a host can't prepare for it.
    """
    if bundle.graph.preprocessing == "outside":
        return _Halves(None, model.SerializeToString(), whole=False)
    try:
        parts = split(model, where=str(file.path))
        return _Halves(parts.pre.SerializeToString(), parts.cls.SerializeToString(), whole=False)
    except BundleError:
        if bundle.input.dtype != "uint8" or [value.name for value in model.graph.input] != [INPUT]:
            raise
    return _Halves(None, model.SerializeToString(), whole=True)


def may_capture(precision: Precision) -> bool:
    """Return whether CUDA graphs are tried: for float32, unless IMAGING_FT_CUDA_GRAPHS is 0.

    On an H100 with onnxruntime 1.31, replaying a half-precision network's graph ended in an illegal memory access,
    after which the process can't use the GPU any more.
    """
    return precision is Precision.FP32 and os.environ.get(GRAPHS_VARIABLE, "1") != "0"


def allowed_difference(bundle: Bundle, device: Device) -> float:
    """Return by how much a logit of the golden sample may be off on a device."""
    tolerance = bundle.golden.tolerance
    return tolerance if device is Device.CPU else max(ON_A_GPU, tolerance)
