"""Features of the embedded backbone, and how its channels behave on these images; needs torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imaging_ft.data import Prepared, input_spec, load_images
from imaging_ft.models.factory import Classifier, create
from imaging_ft.models.weights import EMBEDDED
from imaging_ft.types import Split, Track

SIZE = 160
"""Height and width that the backbone sees: training's default, so that both share the image cache."""
BATCH = 32


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of one layer's channels, here and in what the backbone was trained on."""

    layer: str
    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    stored_mean: npt.NDArray[np.float64]
    stored_std: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What the frozen backbone gave for n images."""

    backbone: str
    features: npt.NDArray[np.float32]
    """[n, features], in the data set's order."""
    moments: tuple[Moments, ...]
    """At the input of each batch-normalisation layer, in the order of the network."""


def see(data: Prepared, track: Track) -> Seen:
    """Return features of every image and the statistics of the backbone's channels, in one pass without gradients.

    Raises WeightsError where the embedded weights are missing.
    """
    model = create(EMBEDDED, classes=len(data.labels))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]
    mean, std = model.normalisation
    spec = input_spec(data, height=SIZE, width=SIZE, mean=mean, std=std)
    features = np.empty((len(data.samples), model.head.in_features), np.float32)
    place = {sample.id: index for index, sample in enumerate(data.samples)}
    with _listening(model) as sums, torch.inference_mode():
        for split in Split:  # by split, as training loads them
            samples = data.of(split)
            if not samples:
                continue
            levels = load_images(data, samples, spec, track=track, what=f"loading {split}").levels
            places = np.array([place[sample.id] for sample in samples])
            starts = range(0, len(samples), BATCH)
            for start in track(starts, f"features of {split}", len(starts)):
                batch = np.array(
                    levels[start : start + BATCH].transpose(0, 3, 1, 2), order="C"
                )  # the cache is read-only
                tensor = torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)
                features[places[start : start + BATCH]] = model.embed(tensor).float().cpu().numpy()
        moments = tuple(_moments(name, layer, sums[name], len(data.samples)) for name, layer in _norms(model))
    return Seen(model.name, features, moments)


def _norms(model: Classifier) -> list[tuple[str, nn.BatchNorm2d]]:
    layers = model.backbone.named_modules()
    return [(name, layer) for name, layer in layers if isinstance(layer, nn.BatchNorm2d)]


@contextmanager
def _listening(model: Classifier) -> Iterator[dict[str, Tensor]]:
    """Sum the first and second moments [2, channels] of what enters each batch-normalisation layer."""
    sums: dict[str, Tensor] = {}

    def listener(name: str):
        def hear(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            entering = inputs[0].float()
            both = torch.stack([entering.mean(dim=(0, 2, 3)), entering.square().mean(dim=(0, 2, 3))])
            weighed = both.double() * len(entering)
            sums[name] = sums[name] + weighed if name in sums else weighed

        return hear

    hooks = [layer.register_forward_pre_hook(listener(name)) for name, layer in _norms(model)]
    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


def _moments(name: str, layer: nn.BatchNorm2d, total: Tensor, n: int) -> Moments:
    mean, square = (total / n).cpu().numpy()
    stored_mean, stored_var = layer.running_mean, layer.running_var
    if stored_mean is None or stored_var is None:
        raise RuntimeError(f"{name}: holds no running statistics")
    return Moments(
        name,
        mean,
        np.sqrt(np.maximum(square - mean**2, 0)),
        stored_mean.double().cpu().numpy(),
        np.sqrt(stored_var.double().cpu().numpy() + layer.eps),
    )
