"""Every setting of a training run; `config.yaml` of the run folder holds them as they were used."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Field

from imaging_ft.config import Frozen
from imaging_ft.models.weights import EMBEDDED


class TrainSettings(Frozen):
    """How a model is fine-tuned. Every field can be given with `--set key=value` or in a `--config` file."""

    model: str = EMBEDDED
    """Backbone: `timm/NAME`, `monai/NAME`, or a bare timm name. The default needs no network."""
    weights: str = "pretrained"
    """`pretrained`, `none` (from scratch), or the path of a state dict (safetensors or torch)."""
    augmentation: str | None = None
    """Recipe name or YAML file; null: the dataset card's, else by the images' channels."""
    size: Annotated[int, Field(ge=32, le=2048)] = 160
    """Height and width that the network sees, in pixels."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """How an image of another shape becomes square: stretched, or padded with black."""
    epochs: Annotated[int, Field(ge=0)] = 8
    """Passes over the training images after the linear probe; 0 keeps the probe."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images a step."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's peak rate for the head; deeper stages of the backbone get less."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Factor on the rate for each stage further from the head."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    """AdamW's decay of weights; biases and norms are not decayed."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the rate rises; it then falls along a cosine."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""
    batch_norm: Literal["auto", "frozen", "trained"] = "auto"
    """Statistics of batch normalisation while fine-tuning; auto: whichever validates better in a trial."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: measured on this machine, together with the memory layout."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where torch sees it, else the CPU."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that augment; null: none on a small machine, else one less than its cores, up to 8."""
    seed: int = 0
    """Of augmentation, order and the head; the same seed on the same machine gives the same run in fp32."""
    split_seed: int = 0
    """Of the splits that the data doesn't declare; reports draw the same ones."""


def settings_page() -> str:
    """Return `docs/settings.md`: every setting with its values, its default and what it means.

    Written by `python -c "from imaging_ft.training.settings import settings_page as s; print(s(), end='')"`.
    """
    lines = [
        "# Training settings",
        "",
        "Each one is given as `--set key=value`, or in a YAML file with `--config FILE`; `config.yaml` of a run folder"
        " holds them as they were used.",
        "",
        "| key | values | default | what it does |",
        "|---|---|---|---|",
    ]
    for name, field in TrainSettings.model_fields.items():
        values = _values(field.annotation)
        limits = [f"{_SIGNS[kind]} {limit:g}" for kind, limit in _limits(field.metadata)]
        if limits:
            values += f" {', '.join(limits)}"
        default = "null" if field.default is None else f"{field.default}"
        what = " ".join((field.description or "").split())
        lines.append(f"| `{name}` | {values} | `{default}` | {what} |")
    return "\n".join(lines) + "\n"


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _limits(metadata: list[Any]) -> list[tuple[str, float]]:
    return [(kind, getattr(item, kind)) for item in metadata for kind in _SIGNS if hasattr(item, kind)]


def _values(annotation: Any) -> str:
    """Return a type in a reader's words: `integer`, `auto, cpu or cuda`, `integer ≥ 0, or null`."""
    if get_origin(annotation) is Literal:
        *first, last = get_args(annotation)
        return f"{', '.join(f'`{value}`' for value in first)} or `{last}`"
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        limits = [
            f"{_SIGNS[kind]} {limit:g}"
            for item in metadata
            for kind, limit in _limits([*getattr(item, "metadata", [item])])
        ]
        return f"{_values(inner)} {', '.join(limits)}"
    if get_origin(annotation) in {Union, types.UnionType}:
        return ", or ".join(_values(inner) for inner in get_args(annotation))
    return {int: "integer", float: "number", str: "text", type(None): "null"}[annotation]
