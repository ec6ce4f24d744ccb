"""Where a model's pretrained weights are: on this machine, or where they would come from. Nothing is downloaded."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from imaging_ft.catalog import suggest
from imaging_ft.errors import WeightsError
from imaging_ft.models.monai_nets import MONAI, cached_file, hub_file
from imaging_ft.models.weights import EMBEDDED, embedded_weights


class AtHand(StrEnum):
    """Where pretrained weights are."""

    EMBEDDED = "embedded"
    """In a Python package that comes with imaging-ft[train]."""
    CACHED = "cached"
    """In the Hugging Face cache, or torch hub's."""
    DOWNLOAD = "download"
    """At their publisher; a network is needed once."""
    NONE = "none"
    """Nobody publishes any, or the embedded ones' package is missing."""

    @property
    def offline(self) -> bool:
        """Whether no network is needed."""
        return self in {AtHand.EMBEDDED, AtHand.CACHED}


def weights_at_hand(name: str) -> AtHand:
    """Return where the weights of `timm/NAME`, `monai/NAME` or a bare timm name are.

    Raises WeightsError where timm knows no such name.
    """
    library, _, model = name.rpartition("/")
    if library == "monai":
        net = MONAI.get(model)
        if net is None or net.url is None:
            return AtHand.NONE
        return AtHand.CACHED if cached_file(net).is_file() else AtHand.DOWNLOAD
    if library not in {"", "timm"}:
        return AtHand.NONE
    if model == EMBEDDED:
        return AtHand.EMBEDDED if _has_embedded() else AtHand.NONE
    config = timm_config(model)
    if not config.has_weights:
        return AtHand.NONE
    return AtHand.CACHED if cached_weights(config) else AtHand.DOWNLOAD


def timm_config(model: str) -> Any:
    """Return timm's pretrained configuration of a name, `MODEL` or `MODEL.TAG`.

    Raises WeightsError, with the nearest name, where timm knows no such model or no such tag of it.
    """
    import timm
    from timm.models import get_pretrained_cfg

    name = model.partition(".")[0]
    if not timm.is_model(model):
        raise WeightsError(f"timm has no model named {model!r}; {suggest(name, timm.list_models())}")
    try:
        return get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{name}.*")
        raise WeightsError(f"timm has no weights named {model!r}; {suggest(model, tags)}") from error


def cached_weights(config: Any) -> Path | None:
    """Return the file in a cache that timm would load for its pretrained configuration, or None.

    The caches are Hugging Face's (`HF_HOME`, `HF_HUB_CACHE`) and, of models with an address alone, torch hub's
    (`TORCH_HOME`).
    """
    if config.hf_hub_id:
        from huggingface_hub import try_to_load_from_cache

        names = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        for name in names:
            found = try_to_load_from_cache(config.hf_hub_id, name)
            if isinstance(found, str):
                return Path(found)
        return None
    if not config.url:
        return None
    path = hub_file(config.url)
    return path if path.is_file() else None


def _has_embedded() -> bool:
    try:
        embedded_weights()
    except WeightsError:
        return False
    return True
