"""A run folder becomes one self-describing ONNX file, or nothing: the gates stand in between."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from imaging_ft.bundle import Bundle, Golden, Label, PrecisionLoss, file_sha256
from imaging_ft.errors import InputError
from imaging_ft.export.candidate import candidates
from imaging_ft.export.cells import Prepare, make_cells
from imaging_ft.export.further import Further
from imaging_ft.export.graph import Built, build
from imaging_ft.export.parity import at_size, check_parity, reference_logits
from imaging_ft.export.precision import MAX_DROP, hold, lower
from imaging_ft.export.rejection import rejecting
from imaging_ft.export.saliency import with_saliency
from imaging_ft.export.target import Target, load_target
from imaging_ft.export.validation import Validation, validation_images
from imaging_ft.inference.signature import withdraw
from imaging_ft.models.factory import Classifier
from imaging_ft.training.run import ModelInfo, RunFolder, replacing, write_text
from imaging_ft.types import Pixels, Precision, Track, silent

DEFAULT_TARGET = "server-cpu"
GOLDEN_WIDTH = 24
GOLDEN_TOLERANCE = {Precision.FP32: 1e-2, Precision.FP16: 0.1, Precision.INT8: 0.25}
"""By how much a logit may be off on another machine: kernels round differently, and of few bits one step is much."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and the graph and the trained model that it's made of."""

    bundle: Bundle
    graph: onnx.ModelProto
    """With its metadata."""
    model: Classifier
    info: ModelInfo
    further: list[tuple[str, Path]] = field(default_factory=list)
    """What was written beside it on request: its kind and its path."""


def export_run(
    run_path: Path,
    out: Path,
    *,
    data: str | None = None,
    target: str = DEFAULT_TARGET,
    precision: Precision | None = None,
    max_drop: float = MAX_DROP,
    embedding: bool = False,
    digests: bool = True,
    saliency: bool | None = None,
    triton: Path | None = None,
    monai_bundle: Path | None = None,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write a run's model as one ONNX file with `<out>.sha256` beside it, and return it with what it says of itself.

    The file is written only if it agrees with the trained model on every validation image (`check_parity`), and, in a
    lower precision than float32, if no cell of the data set's condition suite loses more than `max_drop`
    (`precision.lower`). Without `digests` it doesn't list the images that the model has seen. `data` names the data set
    where it has moved since the training; `precision` and `saliency` are the target's where they are None. `triton` and
    `monai_bundle` are folders for a model repository and a MONAI bundle under the file's name. Raises ParityError,
    PrecisionError, InputError, ConfigError, RunError, DataError.
    """
    if out.suffix != ".onnx":
        raise InputError(f"{out}: the file's name should end in .onnx")
    made_for = load_target(target)
    precision = made_for.chosen(precision)
    further = Further(out.stem, triton, monai_bundle)
    further.check(made_for)
    run = RunFolder.open(run_path)
    model, info = run.read_model()
    if info.seen is not None and not digests:
        info = info.model_copy(update={"seen": info.seen.brief()})
    validation = validation_images(run, info, data=data, track=track)
    bundle, graph = assemble(
        model,
        info,
        validation,
        made_for,
        precision=precision,
        max_drop=max_drop,
        embedding=embedding,
        saliency=saliency,
        track=track,
        say=say,
    )
    write_model(graph, bundle, out, sidecar=made_for.sidecar)
    if withdraw(out):
        say(f"note: {out.name}.sig was the signature of the file that stood here, and is removed; sign the new one")
    beside = [("metadata", sidecar_of(out))] if made_for.sidecar else []
    return Exported(bundle, graph, model, info, beside + further.write(graph, bundle, model, info))


def assemble(
    model: Classifier,
    info: ModelInfo,
    validation: Validation,
    target: Target,
    *,
    precision: Precision = Precision.FP32,
    max_drop: float = MAX_DROP,
    embedding: bool = False,
    saliency: bool | None = None,
    track: Track = silent,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Bundle, onnx.ModelProto]:
    """Return a trained model's bundle and its graph, metadata included, once both gates are passed."""
    built = build(model, info, target, embedding=embedding)
    if target.saliency if saliency is None else saliency:
        built = _with_saliency(built, info, target, demanded=bool(saliency), say=say)
    parity = check_parity(built.whole(), model, info, validation.images, target, track=track)
    network, float_layers, loss = _lowered(
        built, info, validation, target, precision, max_drop=max_drop, track=track, say=say
    )
    network, ood, quality = rejecting(network, info.input, validation, target, track=track)
    graph = built.whole(network)
    bundle = Bundle(
        task=info.task,
        labels=tuple(Label(id=index, name=name) for index, name in enumerate(info.labels)),
        thresholds=info.thresholds,
        temperature=info.temperature,
        vector_scaling=info.vector_scaling,
        input=info.input,
        graph=target.graph(precision, float_layers=float_layers),
        ood=ood,
        quality=quality,
        metrics={"validation": info.metrics},
        parity=parity,
        precision_loss=loss,
        golden=_golden(graph, model, info, target, precision, validation.images[0]),
        provenance=info.provenance,
        seen=info.seen,
        intended_use=info.intended_use,
    )
    for key, text in bundle.to_metadata().items():
        graph.metadata_props.add(key=key, value=text)
    return bundle, graph


def _with_saliency(
    built: Built, info: ModelInfo, target: Target, *, demanded: bool, say: Callable[[str], None]
) -> Built:
    made = with_saliency(built.network) if target.preprocessing == "inside" else None
    if made is not None:
        return Built(built.pre, made)
    why = (
        f"{info.backbone}: its head is not linear on averages over space, so there is no exact class activation map"
        if target.preprocessing == "inside"
        else f"target {target.name}: its opset has no operator that picks the map of one class"
    )
    if demanded:
        raise InputError(f"--saliency: {why}; leave it out (a report's pictures show occlusion instead)")
    say(f"warning: no saliency output: {why}")
    return built


def _lowered(
    built: Built,
    info: ModelInfo,
    validation: Validation,
    target: Target,
    precision: Precision,
    *,
    max_drop: float,
    track: Track,
    say: Callable[[str], None],
) -> tuple[onnx.ModelProto, tuple[str, ...], PrecisionLoss | None]:
    """Return the network in its precision, its layers in float32 and what it cost, where something could cost."""
    if precision is Precision.FP32 and target.resize == "antialias":
        return built.network, (), None
    own = _own_resize(built, info, target) if target.resize == "matmul" else None
    with make_cells(validation, info.input, own, track=track) as cells:
        if precision is Precision.FP32:
            loss = hold(cells, built.network, info, max_drop=max_drop, track=track)
            return built.network, (), loss
        lowered = lower(built.network, info, cells, precision, max_drop=max_drop, track=track, say=say)
    return lowered.network, lowered.float_layers, lowered.loss


def _own_resize(built: Built, info: ModelInfo, target: Target) -> Prepare:
    """Return what makes levels [height, width, channels] of a stored image as the file itself does."""
    (candidate,) = candidates(built.whole(), info.input, target)
    return lambda image: candidate.levels([image])[0].transpose(1, 2, 0)


def _golden(
    graph: onnx.ModelProto,
    model: Classifier,
    info: ModelInfo,
    target: Target,
    precision: Precision,
    image: Pixels,
) -> Golden:
    """Return a golden sample from an image: a strip of its pixels, or where the host prepares its images, all of it.

    The strip is narrower than the network's input and twice as high, so that the graph both enlarges and reduces it;
    its rows are shuffled, so that neighbours differ: a runtime that reduces without antialias, as OpenVINO does, gives
    other logits. A host that resizes by another filter of its own would be off there; at the network's own size it has
    nothing to resize, and proves what it can.
    """
    spec = info.input
    if target.preprocessing == "outside":
        sample = at_size(image, spec.height, spec.width)
    else:
        sample = golden_strip(image, 2 * spec.height)
    if precision is Precision.FP32 and target.resize == "antialias":
        logits = reference_logits(model, spec, [sample])
    else:
        logits, _ = candidates(graph, spec, target)[0].run([sample])
    return Golden.of(sample[np.newaxis], logits.tolist(), tolerance=GOLDEN_TOLERANCE[precision])


def golden_strip(image: Pixels, height: int) -> Pixels:
    """Return the middle columns of an image [height, columns, channels], its rows repeated and shuffled."""
    left = max(0, (image.shape[1] - GOLDEN_WIDTH) // 2)
    rows = np.random.default_rng(0).permutation(np.arange(height) % len(image))
    return np.ascontiguousarray(image[rows, left : left + GOLDEN_WIDTH])


def write_model(graph: onnx.ModelProto, bundle: Bundle, out: Path, *, sidecar: bool) -> None:
    """Write a graph with its checksum beside it, and on request its metadata too, as `<out>.json`."""
    with replacing(out) as temporary:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(graph.SerializeToString())
    write_text(out.with_name(f"{out.name}.sha256"), f"{file_sha256(out)}  {out.name}\n")
    if sidecar:
        values = bundle.model_dump(mode="json", by_alias=True, exclude_none=True)
        write_text(sidecar_of(out), json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def sidecar_of(out: Path) -> Path:
    """Return where a file's metadata lies that its runtime can't read from it."""
    return out.with_name(f"{out.name}.json")
