"""Every setting of a training run; `config.yaml` of the run folder holds them as they were used."""

import math
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, cast, get_args, get_origin

from pydantic import Field, field_validator, model_validator

from imaging_ft.config import Frozen
from imaging_ft.errors import ConfigError
from imaging_ft.models.weights import EMBEDDED
from imaging_ft.training.schedule import Annealing
from imaging_ft.types import BackboneStage, Json

Preset = Literal["fast", "balanced", "robust"]
Metric = Literal["balanced_accuracy", "accuracy", "macro_f1", "auroc", "loss", "worst_condition"]
OperatingKind = Literal["sensitivity", "specificity"]

PRESETS: dict[Preset, Json] = {
    "fast": {"trained": "affine", "epochs": 4, "average": False, "interpolate": False, "steer": False},
    "balanced": {"trained": "all", "epochs": 8, "average": True, "interpolate": False, "steer": False},
    "robust": {"trained": "all", "epochs": 12, "average": True, "interpolate": True, "steer": True},
}
"""What each preset sets; everything else has one default for all."""

_DURATION = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>s|m|min|h)")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


class TrainSettings(Frozen):
    """How a model is fine-tuned. Every field can be given with `--set key=value` or in a `--config` file."""

    preset: Preset = "balanced"
    """`fast`: probe, head and batch-normalisation affine. `balanced`: LP-FT, moving average, layer decay. `robust`: and
    augmentation steered by validation errors, weight interpolation. It sets `trained`, `epochs`, `average`, `steer`
    and `interpolate`, where these are not given."""
    model: str = EMBEDDED
    """Backbone: `timm/NAME`, `monai/NAME`, or a bare timm name. The default needs no network; with `from_run` it is
    the earlier run's."""
    weights: str = "pretrained"
    """`pretrained`, `none` (from scratch), or the path of a state dict (safetensors or torch) or of an earlier run."""
    from_run: str | None = None
    """Folder of an earlier run to go on from: its backbone, and its head where it knows every label of the new data."""
    augmentation: str | None = None
    """Recipe name or YAML file; null: the dataset card's, else by the images' channels."""
    hold_out: tuple[str, ...] = ()
    """Condition families that training must not practise, such as `[low_dose]`: reports then prove, not repeat."""
    focus: str | None = None
    """`report.json` of an earlier round: families in which it found errors are drawn more often from the start."""
    size: Annotated[int, Field(ge=32, le=2048)] = 160
    """Height and width that the network sees, in pixels; with `from_run`, the default is the earlier run's."""
    resize: Literal["stretch", "letterbox"] = "stretch"
    """How an image of another shape becomes square: stretched, or padded with black; with `from_run`, the default is
    the earlier run's."""
    epochs: Annotated[int, Field(ge=0)] | None = None
    """Passes over the training images after the linear probe; 0 keeps the probe; null: the preset's."""
    time_budget: str | None = None
    """Longest training, such as `90s`, `10m`, `1.5h`: epochs are cut to what fits, and the best so far is kept."""
    batch_size: Annotated[int, Field(ge=2)] = 32
    """Images a step, over all processes."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts that a batch passes the network in, one after the other, to save memory; doubled where memory runs out."""
    recompute: bool = False
    """Compute activations again on the way back instead of keeping them (gradient checkpointing), to save memory."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """AdamW's peak rate for the head; a stage of the backbone gets less, the further it is from the head."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Factor on the rate for each layer group further from the head."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    """AdamW's decay of weights; biases and norms are not decayed."""
    annealing: Annealing = "cosine"
    """How the rate falls after its warm-up."""
    warmup: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the steps over which the rate rises; null: 0.1, for one_cycle 0.3, for constant 0."""
    clip: Annotated[float, Field(gt=0)] = 1.0
    """Largest norm of the gradient."""
    trained: Literal["all", "affine"] | None = None
    """`all` weights, or only the head and the scale and shift of normalisation layers; null: the preset's."""
    freeze: tuple[BackboneStage, ...] = ()
    """Stages that are never trained, such as `[stem, stage1]`."""
    unfreeze_over: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Gradual unfreezing: the head trains first, and stage after stage joins until this share of the training."""
    batch_norm: Literal["auto", "frozen", "reestimated", "trained"] = "auto"
    """Statistics of batch normalisation: `frozen` as pretrained, re-estimated on the training images and then frozen,
    or re-estimated and trained on; auto: whichever validates best in short trials."""
    adapt: bool = True
    """Where the probe shows a domain far from the pretrained one: train all stages at higher rates, and longer."""
    l2_sp: Annotated[float, Field(ge=0)] = 0.0
    """Pull of the backbone's weights towards where they started (L2-SP, Li et al. 2018)."""
    average: bool | None = None
    """Keep the exponential moving average of the weights; null: the preset's."""
    interpolate: bool | None = None
    """Mix starting and fine-tuned weights (WiSE-FT), by a share chosen on validation; null: the preset's."""
    steer: bool | None = None
    """Draw condition families more often in which validation finds errors; null: the preset's."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Focal loss counts what is right already for less (Lin et al. 2017)."""
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    """How much less, with `loss=focal`."""
    class_weights: Literal["none", "auto"] | dict[str, float] = "none"
    """`auto`: by inverse frequency; or a number for each named class, such as `{handgun: 2}`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that is spread over all classes."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """α of mixup's Beta distribution (Zhang et al. 2018); 0: none."""
    augmix: bool = False
    """Train on AugMix mixtures of augmented versions (Hendrycks et al. 2020)."""
    metric: Metric = "balanced_accuracy"
    """What the best epoch is chosen by, on validation clean and under each condition family; and what ends early."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """End after so many epochs without a better one; null: never."""
    calibration: Literal["temperature", "vector", "none"] = "temperature"
    """How logits become probabilities: one temperature, or a scale and a shift for each class."""
    operating_point: str | None = None
    """Thresholds by validation, such as `sensitivity=0.95` or `specificity=0.9`; null: 0.5 for each class."""
    retain: str | None = None
    """DATASET of an earlier site or camera whose accuracy must not fall; it needs `from_run`."""
    max_forgetting: Annotated[float, Field(ge=0, le=1)] = 0.02
    """How far balanced accuracy on the retained validation images may fall."""
    replay: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each epoch's images that is drawn from the retained training images."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: measured on this machine, together with the memory layout; fp16 needs CUDA."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where torch sees it, else the CPU."""
    workers: Annotated[int, Field(ge=0)] | None = None
    """Processes that augment; null: none on a small machine, else one less than its cores, up to 8."""
    deterministic: bool = False
    """fp32, and torch's deterministic algorithms alone: the same seed gives the same bytes on the same machine."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Of augmentation, order and the head."""
    split_seed: int = 0
    """Of the splits that the data doesn't declare; reports draw the same ones."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Cross-validation in so many grouped folds, each a run of its own."""
    fold: Annotated[int, Field(ge=1)] | None = None
    """Which of the folds this run trains on, from 1."""
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    """Longest time between two checkpoints; there is one after each epoch in any case."""
    track: Literal["none", "tensorboard", "mlflow"] = "none"
    """Where figures go besides `history.csv`: TensorBoard's into RUN/tensorboard, MLflow's to MLFLOW_TRACKING_URI, else
    into RUN/mlflow; needs `pip install 'imaging-ft[track]'`."""

    @field_validator("time_budget")
    @classmethod
    def _is_a_duration(cls, value: str | None) -> str | None:
        found = _DURATION.fullmatch(value) if value is not None else None
        if value is not None and found is None:
            raise ValueError("a time such as 90s, 10m or 1.5h is expected")
        if found is not None and not float(found["count"]):
            raise ValueError("a time above zero is expected; leave it out to train without a limit")
        return value

    @field_validator("class_weights", mode="before")
    @classmethod
    def _by_class_names(cls, value: Any) -> Any:
        """Return weights by names as they stand in a manifest, where a number is text."""
        if not isinstance(value, Mapping):
            return value
        return dict(_class_weight(name, weight) for name, weight in cast("Mapping[Any, Any]", value).items())

    @field_validator("operating_point")
    @classmethod
    def _is_an_operating_point(cls, value: str | None) -> str | None:
        if value is not None:
            parse_operating_point(value)
        return value

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.retain is not None and self.from_run is None:
            raise ValueError("retain needs from_run: the run whose accuracy is to be kept")
        if self.fold is not None and (self.folds is None or self.fold > self.folds):
            raise ValueError(f"fold {self.fold} of {self.folds}: give folds, and a fold from 1 to it")
        if self.weights != "pretrained" and self.from_run is not None:
            raise ValueError("weights and from_run both say where to start; give one")
        return self

    @property
    def budget_seconds(self) -> float | None:
        """The time budget in seconds."""
        found = _DURATION.fullmatch(self.time_budget or "")
        return float(found["count"]) * _SECONDS[found["unit"]] if found else None

    def resolved(self) -> Self:
        """Return the settings with what is left to the preset filled in, and what `deterministic` asks for."""
        values = {name: value for name, value in PRESETS[self.preset].items() if getattr(self, name) is None}
        if self.deterministic:
            values["precision"] = "fp32"
        return self.model_copy(update=values)


def merged(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config file's values and the command line's, which win.

    A preset on the command line also wins over what the file says of the preset's own settings.
    """
    values = dict(config)
    if "preset" in options:
        values = {name: value for name, value in values.items() if name not in PRESETS["robust"]}
    return values | dict(options)


RESUMABLE = ("device", "workers", "time_budget", "checkpoint_minutes", "track")
"""What may change when a run is taken up again: nothing that its result depends on."""


def resumed_settings(path: Path, options: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of a run that is taken up again, from its `config.yaml`.

    Options that say the same, and those in RESUMABLE, are fine; raises ConfigError naming any other.
    """
    recorded = TrainSettings.from_yaml(path)
    given = {name: value for name, value in options.items() if value is not None or name not in PRESETS["robust"]}
    asked = TrainSettings.checked(recorded.model_dump() | given, where="settings")
    for name in TrainSettings.model_fields:
        if name not in RESUMABLE and getattr(asked, name) != getattr(recorded, name):
            raise ConfigError(
                f"{path}: the run was begun with {name}={getattr(recorded, name)}, which --resume can't change;"
                " leave the option out, or train anew with another --out"
            )
    return asked


def parse_operating_point(text: str) -> tuple[OperatingKind, float]:
    """Return `sensitivity=0.95` as its parts; raises ValueError where it isn't one."""
    kind, _, number = (part.strip() for part in text.partition("="))
    for known in get_args(OperatingKind):
        if kind == known:
            try:
                value = float(number)
            except ValueError:
                break
            if 0 < value < 1:
                return known, value
    raise ValueError("an operating point such as sensitivity=0.95 or specificity=0.9 is expected")


def _class_weight(name: Any, weight: Any) -> tuple[str, float]:
    """Return a class's name as text and its weight; raises ValueError where they are no name and no weight."""
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise ValueError(f"the class name {name} is no text as YAML reads it; write it in quotes")
    try:
        number = float(weight)  # YAML reads 1e1 as text
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(weight, bool) or not 0 < number < math.inf:
        raise ValueError(f"the weight of class {name!r} must be a number above 0, such as {{{name}: 2}}")
    return str(name), number


def settings_page() -> str:
    """Return `docs/settings.md`: every setting with its values, its default and what it means.

    Written by `python -c "from imaging_ft.training.settings import settings_page as s; print(s(), end='')"`.
    """
    lines = [
        "# Training settings",
        "",
        "Each one is given as `--set key=value`, or in a YAML file with `--config FILE`; `config.yaml` of a run folder"
        " holds them as they were used. How they work together: [training.md](training.md).",
        "",
        "| key | values | default | what it does |",
        "|---|---|---|---|",
    ]
    for name, field in TrainSettings.model_fields.items():
        values = _values(field.annotation)
        limits = [f"{_SIGNS[kind]} {limit:.10g}" for kind, limit in _limits(field.metadata)]
        if limits:
            values += f" {', '.join(limits)}"
        default = "null" if field.default is None else _plain(field.default)
        what = " ".join((field.description or "").split())
        lines.append(f"| `{name}` | {values} | `{default}` | {what} |")
    lines += [
        "",
        "What each preset sets:",
        "",
        "| preset | " + " | ".join(f"`{key}`" for key in PRESETS["fast"]) + " |",
    ]
    lines.append("|---" * (1 + len(PRESETS["fast"])) + "|")
    for name, preset in PRESETS.items():
        lines.append(f"| `{name}` | " + " | ".join(f"`{_plain(value)}`" for value in preset.values()) + " |")
    return "\n".join(lines) + "\n"


_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _plain(value: object) -> str:
    """Return a value as YAML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else f"{value}"


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
            f"{_SIGNS[kind]} {limit:.10g}"
            for item in metadata
            for kind, limit in _limits([*getattr(item, "metadata", [item])])
        ]
        return f"{_values(inner)} {', '.join(limits)}"
    if get_origin(annotation) in {Union, types.UnionType}:
        return ", or ".join(_values(inner) for inner in get_args(annotation))
    if get_origin(annotation) is tuple:
        return f"list of {_values(get_args(annotation)[0])}"
    if get_origin(annotation) is dict:
        return "numbers by name"
    return {int: "integer", float: "number", str: "text", bool: "`true` or `false`", type(None): "null"}[annotation]
