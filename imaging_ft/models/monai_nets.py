"""MONAI's two-dimensional classification nets: how each is built, and where its ImageNet weights come from.

MONAI loads weights by dropping what doesn't fit, without a word. So we build the net, get the file ourselves
(its name holds the start of its SHA-256, which is checked), and load it tensor by tensor.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import nn

from imaging_ft.errors import WeightsError
from imaging_ft.models.weights import load_local, offline

_DENSENET = "https://download.pytorch.org/models"
_EFFICIENTNET = "https://github.com/lukemelas/EfficientNet-PyTorch/releases/download/1.0"


BLOCKS = re.compile(r"features\.denseblock\d+\.\w+|layer\d\.\d+|_blocks\.\d+\.\d+")
"""The names of their blocks: what takes one tensor and gives one."""


@dataclass(frozen=True)
class MonaiNet:
    """One net of MONAI."""

    build: Callable[[], nn.Module]
    """Returns the net with random weights and some classifier."""
    input_size: int
    """Height and width that its weights were trained at."""
    url: str | None = None
    """A state dict in torchvision's names (DenseNet) or lukemelas' (EfficientNet); None where there is none in 2-D."""
    licence: str | None = None
    """Of the weights, as their publisher states it."""
    instead: str = ""
    """What to take where there are no weights."""


def _densenet(name: str, file: str | None = None) -> MonaiNet:
    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(spatial_dims=2, in_channels=3, out_channels=2)

    # torchvision's own licence leaves the weights' open ("may have their own licenses").
    return MonaiNet(build, 224, f"{_DENSENET}/{file}" if file else None)


def _efficientnet(name: str, size: int, file: str) -> MonaiNet:
    def build() -> nn.Module:
        from monai.networks.nets.efficientnet import EfficientNetBN

        net = EfficientNetBN(name, pretrained=False, spatial_dims=2, in_channels=3, num_classes=2)
        net.set_swish(memory_efficient=False)  # the other one is an autograd function, which can't be exported
        return net

    return MonaiNet(build, size, f"{_EFFICIENTNET}/{file}", "apache-2.0")


def _resnet(name: str, instead: str) -> MonaiNet:
    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(spatial_dims=2, n_input_channels=3, num_classes=2)

    return MonaiNet(build, 224, instead=f"take timm/{instead}")


def _senet(name: str, instead: str) -> MonaiNet:
    def build() -> nn.Module:
        from monai.networks import nets

        return getattr(nets, name)(spatial_dims=2, in_channels=3, num_classes=2)

    return MonaiNet(build, 224, instead=f"take timm/{instead}")


MONAI: dict[str, MonaiNet] = {
    "densenet121": _densenet("DenseNet121", "densenet121-a639ec97.pth"),
    "densenet169": _densenet("DenseNet169", "densenet169-b2777c0a.pth"),
    "densenet201": _densenet("DenseNet201", "densenet201-c1103571.pth"),
    "densenet264": _densenet("DenseNet264"),
    "efficientnet-b0": _efficientnet("efficientnet-b0", 224, "efficientnet-b0-355c32eb.pth"),
    "efficientnet-b1": _efficientnet("efficientnet-b1", 240, "efficientnet-b1-f1951068.pth"),
    "efficientnet-b2": _efficientnet("efficientnet-b2", 260, "efficientnet-b2-8bb594d6.pth"),
    "efficientnet-b3": _efficientnet("efficientnet-b3", 300, "efficientnet-b3-5fb5a3c3.pth"),
    "efficientnet-b4": _efficientnet("efficientnet-b4", 380, "efficientnet-b4-6ed6700e.pth"),
    "resnet10": _resnet("resnet10", "resnet10t"),
    "resnet18": _resnet("resnet18", "resnet18"),
    "resnet34": _resnet("resnet34", "resnet34"),
    "resnet50": _resnet("resnet50", "resnet50"),
    "resnet101": _resnet("resnet101", "resnet101"),
    "resnet152": _resnet("resnet152", "resnet152"),
    "se_resnet50": _senet("SEResNet50", "seresnet50"),
    "se_resnext50": _senet("SEResNext50", "seresnext50_32x4d"),
}
"""By the names that --model takes after `monai/`."""


def cached_file(net: MonaiNet) -> Path:
    """Return where torch's hub keeps (or would keep) a net's weights; `TORCH_HOME` moves it."""
    return hub_file(net.url or "")


def hub_file(url: str) -> Path:
    """Return where torch's hub keeps (or would keep) what it downloads from an address."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name


def load_pretrained(name: str, backbone: nn.Module) -> None:
    """Load the ImageNet weights of a MONAI net, from torch's hub cache or its publisher.

    Raises WeightsError where MONAI has none for images, or where they can't be had.
    """
    net = MONAI[name]
    if net.url is None:
        raise WeightsError(
            f"there are no pretrained weights of monai/{name} for images (MONAI's are for volumes);"
            f" {f'{net.instead}, ' if net.instead else ''}give a local file (--set weights=FILE), or start from"
            " scratch (--set weights=none)"
        )
    path = cached_file(net)
    if not path.is_file():
        _download(net.url, path)
    load_local(backbone, path, aliases=aliases)


def _download(url: str, path: Path) -> None:
    if offline(url):
        raise OSError(f"{path} is not there and {urlsplit(url).hostname} can't be reached")
    path.parent.mkdir(parents=True, exist_ok=True)
    found = re.search(r"-([0-9a-f]{8,})\.pth$", url)
    torch.hub.download_url_to_file(url, str(path), hash_prefix=found.group(1) if found else None, progress=False)


def aliases(name: str) -> Iterator[str]:
    """Yield the names that publishers of ImageNet weights give a tensor of MONAI's nets.

    `…denselayer1.layers.norm1.weight` is torchvision's `…denselayer1.norm1.weight`, and was `…norm.1.weight`;
    MONAI's EfficientNet counts its blocks by stack, `_blocks.1.0.…`, lukemelas' through all of them.
    """
    if ".layers." in name:
        flat = name.replace(".layers.", ".")
        yield flat
        yield re.sub(r"\.(norm|conv)([12])\.", r".\1.\2.", flat)
    if name.startswith("_blocks."):
        yield re.sub(r"^_blocks\.\d+\.", "_blocks.", name)
