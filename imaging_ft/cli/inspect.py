"""`imaging-ft inspect`."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from imaging_ft.cli.console import AsJson, say, show_json
from imaging_ft.cli.predict import Model
from imaging_ft.types import Task

if TYPE_CHECKING:
    from imaging_ft.bundle import Bundle, CellLoss
    from imaging_ft.inference.about import About, Tensor

_WIDTH = 80
_NAME = 14
_MOST_LABELS = 40
_MOST_LAYERS = 4
_DECIDES = {
    Task.BINARY: "one class an image, the more probable",
    Task.MULTICLASS: "one class an image, the most probable",
    Task.MULTILABEL: "any classes that reach their thresholds, or none",
}
Row = tuple[str, str]


def inspect(model: Model, as_json: AsJson = False) -> None:
    r"""Show what a model file says of itself, without running it.

    What it takes and gives, its labels and thresholds, how it was validated, what was proven when it was exported, and
    where it came from. Whether that is true, imaging-ft verify looks into.

    \b
    Example:
      imaging-ft inspect model.onnx
    """
    from imaging_ft.inference.about import about

    found = about(model)
    warning = found.warning()
    if warning is not None:
        say(_wrapped(f"warning: {warning}", 2))
    if as_json:
        show_json(found.as_json())
        return
    bundle = found.bundle
    for rows in (_file(found), _decision(bundle), _graph(found), _evidence(bundle), _origin(bundle)):
        for name, text in rows:
            print(_wrapped(f"{_printable(name):<{_NAME}}{_printable(text)}", _NAME))


def _file(found: "About") -> Iterator[Row]:
    file = found.file
    checked = {
        "agrees": f"agrees with {file.path.name}.sha256",
        "differs": f"DIFFERS from {file.path.name}.sha256: don't use this file",
        "unreadable": f"{file.path.name}.sha256 is no checksum",
        "missing": f"no {file.path.name}.sha256 beside it",
    }
    yield "file", f"{file.path.name}, {len(file.data) / 1e6:.1f} MB"
    yield "SHA-256", file.sha256
    yield "checksum", checked[found.checksum]
    if found.signed:
        yield "signature", f"{file.path.name}.sig; by whom: imaging-ft verify --public-key KEY"
    else:
        yield "signature", "not signed"
    written = "" if found.schema == found.bundle.schema_ else f", read as {found.bundle.schema_}"
    yield "schema", found.schema + written


def _decision(bundle: "Bundle") -> Iterator[Row]:
    yield "task", f"{bundle.task}: {_DECIDES[bundle.task]}"
    shown = bundle.labels[:_MOST_LABELS]
    width = min(36, max(len(label.name) for label in shown))
    for label in shown:
        code = f"  {label.code}" if label.code else ""
        told = f"{label.id:>3} {label.name:<{width}}  threshold {bundle.thresholds[label.name]:.3g}{code}"
        yield "" if label.id else "labels", told
    if len(bundle.labels) > _MOST_LABELS:
        yield "", f"… and {len(bundle.labels) - _MOST_LABELS} more: --json has all"
    scaling = bundle.vector_scaling
    if scaling is None:
        yield "calibration", f"temperature {bundle.temperature:.4g}, applied in probabilities"
    else:
        yield "calibration", "vector scaling, applied in probabilities"
        yield "", f"scale {', '.join(f'{value:.3g}' for value in scaling.scale)}"
        yield "", f"bias {', '.join(f'{value:.3g}' for value in scaling.bias)}"
    yield from _rejects(bundle)


def _rejects(bundle: "Bundle") -> Iterator[Row]:
    ood, quality = bundle.ood, bundle.quality
    if ood is None and quality is None:
        yield "rejects", "nothing"
    if ood is not None:
        yield "rejects", f"a distance over {ood.threshold:.1f} from {ood.images} training images ({ood.method})"
        yield "", f"of {ood.validation} validation images that are {ood.rejected:.1%}"
    if quality is not None:
        least, most = quality.brightness
        bounds = f"brightness below {least:.3f} or over {most:.3f}, contrast below {quality.contrast:.3f}"
        yield "" if ood is not None else "rejects", f"{bounds}, clipped over {quality.clipped:.3f}"


def _graph(found: "About") -> Iterator[Row]:
    bundle, graph, spec = found.bundle, found.bundle.graph, found.bundle.input
    yield from _tensors("input", found.inputs)
    yield "", f"images: {'gray' if spec.channels == 1 else 'RGB'}, {spec.dtype}, of any height and width"
    if spec.dtype == "uint16":
        low, high = spec.window or (0, spec.full_scale)
        yield "", f"window {low} to {high}"
    yield "", f"{spec.resize} to {spec.height} × {spec.width} (height × width)"
    yield from _tensors("outputs", found.outputs)
    yield "graph", f"{graph.precision}, opset {found.opset}, for {graph.target}"
    where = "in the graph" if graph.preprocessing == "inside" else "OUTSIDE the graph: the host's part"
    yield "", f"preprocessing {where}; resize by {graph.resize}"
    yield "", f"batches {', '.join(str(size) for size in graph.batches)}" + (" only" if graph.batch else ", or any")
    if graph.providers:
        yield "", f"providers {', '.join(graph.providers)}"
    if graph.float_layers:
        more = len(graph.float_layers) - _MOST_LAYERS
        rest = f" … and {more} more" if more > 0 else ""
        yield "", f"left in float32: {', '.join(graph.float_layers[:_MOST_LAYERS])}{rest}"
    loss = bundle.precision_loss
    if loss is not None:
        yield "it costs", f"{loss.images} images in {loss.cells} cells of {loss.suite}: {loss.top1_agreement:.2%} same"
        yield "", f"mean: {_loss(loss.mean)}"
        yield "", f"worst: {_loss(loss.worst)}"
        yield "", f"a drop of {loss.max_drop:g} was allowed"


def _tensors(name: str, tensors: "tuple[Tensor, ...]") -> Iterator[Row]:
    for index, tensor in enumerate(tensors):
        sizes = ", ".join(str(size) for size in tensor.shape)
        yield "" if index else name, f"{tensor.name}: {tensor.dtype} [{sizes}]"


def _loss(loss: "CellLoss") -> str:
    cells = " and ".join(f"{name}@{severity}" for name, severity in (loss.conditions or {}).items())
    where = "" if loss.conditions is None else f" under {cells}" if cells else " as they are"
    return f"{loss.metric} {loss.before:.3f} → {loss.after:.3f}{where} ({loss.lost} lost, {loss.won} won of {loss.n})"


def _evidence(bundle: "Bundle") -> Iterator[Row]:
    for source, values in bundle.metrics.items():
        for index, told in enumerate(_metrics(values)):
            yield "" if index else source, told
    parity = bundle.parity
    yield "parity", f"{parity.top1_agreement:.2%} of {parity.images} images as trained ({parity.provider})"
    yield "", f"probabilities at most {parity.max_probability_difference:.1e} apart, {parity.tolerance:g} allowed"
    golden = bundle.golden
    yield "golden sample", f"{golden.dtype} {list(golden.shape)}, logits within {golden.tolerance:g}"


def _metrics(values: Any) -> Iterator[str]:
    """Yield a row for each metric: a number, or one with an interval."""
    if not isinstance(values, dict):
        yield _number(values)
        return
    width = max((len(str(name)) for name in values), default=0)
    for name, value in values.items():
        yield f"{name:<{width}}  {_number(value)}"


def _number(value: Any) -> str:
    if isinstance(value, dict) and {"value", "low", "high"} <= value.keys():
        return f"{_number(value['value'])}  [{_number(value['low'])}, {_number(value['high'])}]"
    if isinstance(value, list):
        return f"[{', '.join(_number(item) for item in value)}]"
    return f"{value:.3f}" if isinstance(value, float) else "undefined" if value is None else str(value)


def _origin(bundle: "Bundle") -> Iterator[Row]:
    known = bundle.provenance
    data = _mapping(known.get("dataset"))
    sizes = ", ".join(f"{count} {split}" for split, count in _mapping(data.get("n")).items())
    libraries = ", ".join(f"{name} {version}" for name, version in _mapping(known.get("libraries")).items())
    rows: dict[str, Any] = {
        "made": ", ".join(str(known[key]) for key in ("created", "tool") if known.get(key)),
        "backbone": known.get("backbone"),
        "data set": data.get("name"),
        "images": sizes,
        "fingerprint": data.get("fingerprint"),
        "seen": _seen(bundle),
        "licence": data.get("licence"),
        "revision": known.get("git_revision"),
        "with": libraries,
    }
    yield from ((name, str(value)) for name, value in rows.items() if value)
    warnings = data.get("warnings")
    for warning in warnings if isinstance(warnings, list) else []:
        yield "warning", str(warning)
    yield "intended use", bundle.intended_use or "not stated"


def _seen(bundle: "Bundle") -> str | None:
    """Return how many images the model is known to have seen, which a report leaves out."""
    seen = bundle.seen
    if seen is None:
        return None
    listed = "listed by digest" if seen.digests else "not listed"
    return f"{seen.images} different images, {listed}" + ("" if seen.complete else "; there may be others")


def _mapping(value: Any) -> dict[str, Any]:
    """Return a part of the provenance, whose shape the schema leaves open; empty where there is none such."""
    return value if isinstance(value, dict) else {}


def _printable(text: str) -> str:
    """Return a text without what would move a terminal's cursor: it comes from a file of whoever made it."""
    return "".join(letter if letter.isprintable() else " " if letter.isspace() else "?" for letter in text)


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
