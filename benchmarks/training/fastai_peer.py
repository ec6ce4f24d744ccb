"""fastai's `vision_learner` and `fine_tune`, with its defaults but for the images, the weights and the epochs.

fastai reads the embedded weights through its own timm path, and keeps its own head (concatenated pooling, two linear
layers, BatchNorm and dropout), normalisation, optimiser, one-cycle schedule and batch size of 64.
"""

import tempfile
from pathlib import Path
from typing import Any

import fastai.callback.schedule  # noqa: F401 - it gives Learner its fine_tune
import torch
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.core import DataLoaders
from fastai.data.transforms import IndexSplitter
from fastai.layers import AdaptiveConcatPool2d
from fastai.metrics import accuracy
from fastai.vision.augment import RandomErasing, aug_transforms
from fastai.vision.data import ImageBlock
from fastai.vision.learner import vision_learner
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.training.budget import Trained
from benchmarks.training.peer import Epochs, Peer, pictures, seed_everything
from imaging_ft.augment.steer import walk
from imaging_ft.models.factory import Classifier, Source, create
from imaging_ft.models.weights import EMBEDDED
from imaging_ft.types import Json

BATCH = 64
"""fastai's default."""
STRONG: Json = {
    "max_rotate": 45.0,
    "min_zoom": 0.5,
    "max_zoom": 1.5,
    "max_lighting": 0.8,
    "max_warp": 0.4,
    "p_affine": 0.9,
    "p_lighting": 0.9,
}
"""Each range of `aug_transforms` about as wide as the conditions of a report, and each drawn nearly always."""
ERASING: Json = {"p": 0.5, "max_count": 1, "sh": 0.4}
"""`RandomErasing`, the one further transform that fastai's documentation adds to `aug_transforms`."""


def settings(peer: Peer, *, strong: bool) -> Json:
    """Return what is set, for the result file."""
    flips = _flips_vertically(peer)
    augmented = {**STRONG, "flip_vert": flips, "xtra_tfms": f"RandomErasing {ERASING}"} if strong else "defaults"
    return {"fine_tune": "defaults", "aug_transforms": augmented, "batch_size": BATCH}


def train_fastai(peer: Peer, epochs: int, *, strong: bool) -> Trained:
    """Return what `fine_tune(epochs)` gives; it trains one more epoch before, with the network frozen."""
    with tempfile.TemporaryDirectory() as folder:
        trained = learner(peer, strong=strong, folder=Path(folder))
        follow = Epochs(peer)
        with trained.no_bar(), trained.no_logging():
            trained.fine_tune(epochs, cbs=[_Precision(peer), _Follow(follow)])
    return follow.trained(epochs)


def learner(peer: Peer, *, strong: bool, folder: Path) -> Any:
    """Return fastai's learner, untrained; `folder` holds the weights for it to read."""
    seed_everything(peer.seed)
    extra = {"flip_vert": _flips_vertically(peer), "xtra_tfms": [RandomErasing(**ERASING)]} if strong else {}
    transforms: list[Any] = aug_transforms(**(STRONG if strong else {}), **extra)
    weights = folder / "backbone.safetensors"
    save_file(create(EMBEDDED, classes=2).backbone.state_dict(), weights)
    overlay = {"file": str(weights)}
    return vision_learner(_loaders(peer, transforms), EMBEDDED, metrics=accuracy, pretrained_cfg_overlay=overlay)


def _loaders(peer: Peer, transforms: list[Any]) -> DataLoaders:
    """Return fastai's batches of the same images; it augments whole batches, after the images are stacked."""
    every = [*pictures(peer.train), *pictures(peer.val)]
    names = [peer.labels[label] for part in (peer.train, peer.val) for label in part.labels.tolist()]
    block = DataBlock(
        blocks=[ImageBlock, CategoryBlock(vocab=list(peer.labels), sort=False)],
        get_x=lambda index: every[index],
        get_y=lambda index: names[index],
        splitter=IndexSplitter(range(len(peer.train), len(every))),
        batch_tfms=transforms,
    )
    return block.dataloaders(
        range(len(every)), bs=min(BATCH, len(peer.train)), num_workers=0, device=peer.engine.fabric.device
    )


def _flips_vertically(peer: Peer) -> bool:
    """Return whether up and down are alike in these images, by our recipe's word."""
    return any(name == "VerticalFlip" for name, _ in walk(peer.recipe.transforms))


class _Precision(Callback):
    """Runs the network in the engine's precision and memory layout; fastai's own `to_bf16` is for CUDA alone."""

    order = 10
    learn: Any = None

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._engine = peer.engine

    def before_fit(self) -> None:
        self.learn.model.to(memory_format=self._engine.layout)

    def before_batch(self) -> None:
        self.learn.xb = tuple(part.contiguous(memory_format=self._engine.layout) for part in self.xb)
        self._autocast = self._engine.fabric.autocast()
        self._autocast.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self._autocast.__exit__(None, None, None)


class _Follow(Callback):
    """Records every epoch, after fastai has validated it itself."""

    order = 60
    learn: Any = None

    def __init__(self, follow: Epochs) -> None:
        super().__init__()
        self._follow = follow

    def after_epoch(self) -> None:
        with self._follow.watch.paused():  # fastai has validated in its own time; this is the same in our terms
            peer = self._follow.peer
            model = peer.engine.place(as_classifier(self.learn.model))
            validation = peer.score(model, peer.val)
        self._follow.record(model, validation)
        self.learn.model.train()


def as_classifier(model: nn.Module) -> Classifier:
    """Return a fastai model (body, head) as a Classifier that shares its layers; all but the last linear one embed."""
    body, head = model[0], model[1]  # pyright: ignore[reportIndexIssue]
    *before, last = head.children()
    if not isinstance(last, nn.Linear):
        raise TypeError(f"fastai's head ends in {type(last).__name__}, not in a linear layer")
    before = [_ConcatPool() if isinstance(layer, AdaptiveConcatPool2d) else layer for layer in before]
    reference = create(EMBEDDED, classes=2, weights="none")
    mean, std = reference.normalisation
    source = Source(f"timm/{EMBEDDED} (fastai's head)", nn.Sequential(body, *before), last.in_features, mean, std)
    classifier = Classifier(source, last.out_features)
    classifier.head = last
    return classifier


class _ConcatPool(nn.Module):
    """fastai's concatenated pooling, in operators that every torch exports (2.11 has none for adaptive maxima)."""

    def forward(self, features: Tensor) -> Tensor:
        """Return the maximum and the mean of each channel [n, 2 · channels, 1, 1]."""
        return torch.cat([features.amax((2, 3), keepdim=True), features.mean((2, 3), keepdim=True)], 1)
