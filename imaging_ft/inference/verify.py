"""Whether a model file holds on this machine: unaltered, signed, loadable, and computing what it should."""

import importlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imaging_ft.bundle import LOGITS, PROBABILITIES, Bundle, probabilities
from imaging_ft.config import reason
from imaging_ft.errors import BundleError, GateError, InputError
from imaging_ft.inference.feed import feeds
from imaging_ft.inference.model_file import Checksum, ModelFile, check_self_contained
from imaging_ft.inference.providers import Device, open_session
from imaging_ft.inference.runner import Runner, allowed_difference
from imaging_ft.inference.signature import PublicKey
from imaging_ft.types import Json, Pixels, Precision

CHECKS = ("checksum", "signature", "loads", "golden sample", "batch", "probabilities", "finite")
_PROBABILITY = {Precision.FP32: 1e-3, Precision.INT8: 1e-3, Precision.FP16: 1e-2}
"""How far a probability may be from what the logits make it: as parity allows; half precision divides coarsely."""

Outputs = dict[str, npt.NDArray[np.float32]]
"""By name: [batch, …]."""


class Outcome(StrEnum):
    """How a check came out."""

    OK = "ok"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True)
class Check:
    """One check, with its figure where it has one."""

    name: str
    outcome: Outcome
    told: str
    """For a person: what was found, or why nothing was looked at."""
    value: float | None = None
    allowed: float | None = None

    def as_json(self) -> Json:
        """Return the check for a script; a figure that is no number is null."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return {
            "name": self.name,
            "outcome": self.outcome.value,
            "value": value,
            "allowed": self.allowed,
            "told": self.told,
        }


@dataclass(frozen=True)
class Verification:
    """What was found of one file on one device."""

    path: Path
    sha256: str
    device: Device | None
    """Where it ran; None where it was not run."""
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)

    def require(self) -> None:
        """Raise GateError where a check failed."""
        if self.failed:
            names = [check.name for check in self.failed]
            altered = not set(names).isdisjoint(CHECKS[:2])
            remedy = "fetch it again from who exported it" if altered else "export it again, or try another --device"
            raise GateError(f"{self.path}: don't use it: {', '.join(names)} failed; {remedy}")

    def as_json(self) -> Json:
        """Return the verification for a script."""
        return {
            "file": str(self.path),
            "sha256": self.sha256,
            "device": None if self.device is None else self.device.value,
            "ok": not self.failed,
            "checks": [check.as_json() for check in self.checks],
        }


def verify(path: Path, *, device: Device = Device.AUTO, public_key: Path | None = None) -> Verification:
    """Return whether a bundle holds on a device: every check of `CHECKS`, all on one reading of the file.

    A file whose signature fails isn't run. Raises BundleError where the key is wrong, and where the file can't be read
    or is no bundle although its checksum and signature don't say that it was altered; DeviceError where the device
    can't run.
    """
    file = ModelFile.read(path)
    key = None if public_key is None else PublicKey.read(public_key)
    checks = [_checksum(file), _signature(file, key)]
    if checks[1].outcome is Outcome.FAILED:
        return _ended(file, checks, "what isn't proven isn't run")
    try:
        bundle = file.bundle(file.parse())
    except BundleError as error:
        if checks[0].outcome is not Outcome.FAILED:
            raise
        return _ended(file, [*checks, _failed("loads", error, file)], "the file can't be read")
    try:
        trial = _open(file, bundle, device)
    except BundleError as error:
        return _ended(file, [*checks, _failed("loads", error, file)], "the file can't be run")
    ort: Any = importlib.import_module("onnxruntime")
    checks.append(Check("loads", Outcome.OK, f"onnxruntime {ort.__version__} on {trial.device}"))
    checks += trial.checks()
    return Verification(path, file.sha256, trial.device, tuple(checks))


def _checksum(file: ModelFile) -> Check:
    name = file.beside(".sha256").name
    match file.checksum():
        case Checksum.AGREES:
            return Check("checksum", Outcome.OK, f"agrees with {name}")
        case Checksum.DIFFERS:
            return Check("checksum", Outcome.FAILED, f"not the file that {name} is of")
        case Checksum.UNREADABLE:
            return Check("checksum", Outcome.FAILED, f"{name} is no checksum")
        case Checksum.MISSING:
            return Check("checksum", Outcome.NOT_CHECKED, f"no {name} beside it")


def _signature(file: ModelFile, key: PublicKey | None) -> Check:
    if key is None:
        return Check("signature", Outcome.NOT_CHECKED, "no --public-key was given")
    try:
        key.prove(file)
    except BundleError as error:
        return _failed("signature", error, file)
    return Check("signature", Outcome.OK, f"by the key {key.path}")


def _open(file: ModelFile, bundle: Bundle, device: Device) -> "_Trial":
    """Return what runs a file as it will be run: whole on the CPU, and on a GPU its network, prepared on the CPU."""
    model = file.parse()
    check_self_contained(model, where=str(file.path))
    if device is not Device.CPU:
        runner = Runner.of(file, bundle, model, device=device, threads=None, tested=False)
        if runner.device is not Device.CPU:
            return _Trial(bundle, runner.device, runner.outputs, lambda images: _prepared(runner, images))
    session = open_session(file.data, Device.CPU, where=str(file.path)).session
    names = tuple(output.name for output in session.get_outputs())
    for name in (LOGITS, PROBABILITIES):
        if name not in names:
            raise BundleError(f"{file.path}: its graph gives no {name}")
    return _Trial(bundle, Device.CPU, names, lambda images: _whole(session, bundle, names, images))


def _whole(session: Any, bundle: Bundle, names: tuple[str, ...], images: Pixels) -> Outputs:
    runs = [session.run(list(names), fed) for fed in feeds(bundle, images)]
    return {name: np.concatenate([run[index] for run in runs]) for index, name in enumerate(names)}


def _prepared(runner: Runner, images: Pixels) -> Outputs:
    return runner.run(np.stack([runner.levels(image) for image in images]), runner.outputs)


def _failed(name: str, error: BundleError, file: ModelFile) -> Check:
    return Check(name, Outcome.FAILED, str(error).removeprefix(f"{file.path}: "))


def _ended(file: ModelFile, checks: list[Check], why: str) -> Verification:
    rest = (Check(name, Outcome.NOT_CHECKED, why) for name in CHECKS[len(checks) :])
    return Verification(file.path, file.sha256, None, (*checks, *rest))


@dataclass(frozen=True)
class _Trial:
    """A loaded bundle, and what it computes for its golden sample alone and among images of another kind."""

    bundle: Bundle
    device: Device
    names: tuple[str, ...]
    """Of its outputs."""
    run: Callable[[Pixels], Outputs]
    """Gives them for stored images [n, height, width, channels]."""

    def checks(self) -> Iterator[Check]:
        """Yield the checks of what the file computes."""
        for name, check in (
            ("golden sample", self._golden),
            ("batch", self._batch),
            ("probabilities", self._probabilities),
            ("finite", self._finite),
        ):
            try:
                yield check(name)
            except InputError as error:
                yield Check(name, Outcome.FAILED, str(error))

    @cached_property
    def alone(self) -> Outputs:
        """The outputs for the golden sample."""
        return self._run(self.bundle.golden.image())

    @cached_property
    def among(self) -> Outputs:
        """The outputs for the golden sample's first image, a black image and one of full scale, as one batch."""
        first = self.bundle.golden.image()[:1]
        full = np.full_like(first, self.bundle.input.full_scale)
        return self._run(np.concatenate([first, np.zeros_like(first), full]))

    def _run(self, images: Pixels) -> Outputs:
        try:
            return self.run(images)
        except Exception as error:  # onnxruntime raises its own kinds, without a common base
            raise InputError(f"onnxruntime failed on a batch of {len(images)}: {reason(error)}") from error

    def _golden(self, name: str) -> Check:
        apart = _apart(self.alone[LOGITS], np.asarray(self.bundle.golden.logits))
        return _within(name, "logits off by", apart, allowed_difference(self.bundle, self.device))

    def _batch(self, name: str) -> Check:
        if self.bundle.graph.batch is not None:
            return Check(name, Outcome.NOT_CHECKED, "it takes one image at a time")
        apart = _apart(self.among[LOGITS][:1], self.alone[LOGITS][:1])
        return _within(name, "logits move in a batch by", apart, allowed_difference(self.bundle, self.device))

    def _probabilities(self, name: str) -> Check:
        bundle = self.bundle
        with np.errstate(invalid="ignore"):  # logits that are no numbers make a difference that is none, which fails
            wanted = probabilities(
                self.among[LOGITS],
                task=bundle.task,
                temperature=bundle.temperature,
                vector_scaling=bundle.vector_scaling,
            )
        apart = _apart(self.among[PROBABILITIES], wanted)
        return _within(name, "off what the logits say by", apart, _PROBABILITY[bundle.graph.precision])

    def _finite(self, name: str) -> Check:
        bad = [
            output
            for output, values in self.among.items()
            if not (np.isfinite(values).all() and np.isfinite(self.alone[output]).all())
        ]
        if bad:
            return Check(name, Outcome.FAILED, f"{', '.join(bad)}: values that are no numbers")
        return Check(name, Outcome.OK, ", ".join(self.among))


def _apart(found: npt.ArrayLike, wanted: npt.ArrayLike) -> float:
    """Return the largest difference; infinite where the shapes are different."""
    first, second = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.abs(first - second).max()) if first.shape == second.shape else math.inf


def _within(name: str, what: str, apart: float, allowed: float) -> Check:
    outcome = Outcome.OK if apart <= allowed else Outcome.FAILED
    return Check(name, outcome, f"{what} {apart:.1e}, {allowed:g} allowed", apart, allowed)
