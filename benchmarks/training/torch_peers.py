"""The peers that are a loop in torch: a plain timm recipe, and LP-FT with TrivialAugmentWide."""
# pyright: reportPrivateImportUsage=false
# (timm exports these names without listing them in __all__.)

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from timm.data import create_transform
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2, param_groups_layer_decay
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, PILToTensor, TrivialAugmentWide

from benchmarks.training.budget import Trained
from benchmarks.training.peer import BATCH, Epochs, Peer, pictures
from imaging_ft.data import Images
from imaging_ft.models.factory import Classifier
from imaging_ft.training.batchnorm import train_mode
from imaging_ft.training.judge import Judged
from imaging_ft.training.metrics import score
from imaging_ft.training.probe import fit_probe
from imaging_ft.types import Json

# What train.py leaves open is taken from the recipes in timm's documentation: RandAugment and erasing are its
# EfficientNet recipe's (the `inc1` form asks Pillow for 0 bits now and then, which recent Pillow refuses).
TIMM: Json = {
    "optimizer": "adamw",
    "learning_rate": 5e-4,
    "weight_decay": 0.05,
    "schedule": "cosine, a step at a time, to 0",
    "warmup_epochs": 1,
    "warmup_learning_rate": 1e-5,
    "label_smoothing": 0.1,
    "auto_augment": "rand-m9-mstd0.5",
    "random_erasing": 0.2,
    "random_erasing_mode": "pixel",
    "random_resized_crop": "scale 0.08 to 1, ratio 3/4 to 4/3 (train.py's defaults)",
    "horizontal_flip": 0.5,
    "ema": False,
    "batch_size": BATCH,
}
LPFT: Json = {
    "probe": "logistic regression on the frozen network's features of the clean training images",
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "layer_decay": 0.9,
    "weight_decay": 1e-3,
    "schedule": "cosine, a step at a time, to 0",
    "warmup": 0.1,
    "clip": 1.0,
    "batch_norm": "statistics frozen as pretrained",
    "augmentation": "torchvision TrivialAugmentWide",
    "batch_size": BATCH,
}


def train_timm(peer: Peer, epochs: int) -> Trained:
    """Return what timm's pieces give, put together as its `train.py` does."""
    model = peer.model()
    mean, std = model.normalisation
    transform: Any = create_transform(
        input_size=(3, peer.spec.height, peer.spec.width),
        is_training=True,
        auto_augment=TIMM["auto_augment"],
        interpolation="random",
        mean=mean,
        std=std,
        re_prob=TIMM["random_erasing"],
        re_mode=TIMM["random_erasing_mode"],
    )
    loader = _loader(peer.train, transform, drop_last=True)
    follow = Epochs(peer)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=TIMM["learning_rate"], weight_decay=TIMM["weight_decay"])
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=epochs,
        warmup_epochs=min(TIMM["warmup_epochs"], epochs - 1),
        warmup_lr=TIMM["warmup_learning_rate"],
        min_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=len(loader),
    )
    if scheduler is None:
        raise RuntimeError("timm made no schedule")
    loss = LabelSmoothingCrossEntropy(TIMM["label_smoothing"])

    def forward(batch: Tensor) -> Tensor:  # already normalised: erased parts are noise of unit variance
        return model.head(model.backbone(batch))

    _fit(peer, model, loader, forward, loss, optimizer, scheduler.step_update, follow, epochs)
    return follow.trained(epochs)


def train_lpft(peer: Peer, epochs: int) -> Trained:
    """Return what LP-FT (Kumar et al. 2022) gives: a linear probe, then fine-tuning by AutoGluon's defaults."""
    model = peer.model()
    loader = _loader(peer.train, Compose([TrivialAugmentWide(), PILToTensor()]), drop_last=False)
    follow = Epochs(peer)
    train, val = (peer.engine.predict_images(model, part, BATCH, features=True) for part in (peer.train, peer.val))
    targets = peer.val.targets
    probe = fit_probe(train, peer.train.targets, val, targets, lambda logits: Judged(score(logits, targets), {}))
    probe.install(model)
    optimizer = AdamW(_layer_decayed(model), lr=LPFT["learning_rate"])
    rates = [group["lr"] for group in optimizer.param_groups]
    steps = epochs * len(loader)
    rising = max(1, round(LPFT["warmup"] * steps))

    def schedule(step: int) -> None:
        falling = 0.5 * (1 + math.cos(math.pi * max(0, step - rising) / max(1, steps - rising)))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / rising) * falling

    schedule(0)
    _fit(peer, model, loader, model, nn.CrossEntropyLoss(), optimizer, schedule, follow, epochs, frozen=True, clip=1.0)
    return follow.trained(epochs)


def _fit(
    peer: Peer,
    model: Classifier,
    loader: DataLoader[tuple[Tensor, Tensor]],
    forward: Callable[[Tensor], Tensor],
    loss: nn.Module,
    optimizer: Optimizer,
    schedule: Callable[[int], object],
    follow: Epochs,
    epochs: int,
    *,
    frozen: bool = False,
    clip: float | None = None,
) -> None:
    """Train some epochs; `schedule` is told the number of steps done after each one."""
    step = 0
    for _ in range(epochs):
        train_mode(model, freeze_statistics=frozen)
        for batch, targets in loader:
            with peer.engine.fabric.autocast():
                logits = forward(peer.engine.to_device(batch))
            optimizer.zero_grad(set_to_none=True)
            loss(logits.float(), targets.to(logits.device)).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            step += 1
            schedule(step)
        follow.record(model, peer.score(model, peer.val))


class _Pictures(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, images: Images, transform: Callable[[Image.Image], Tensor]) -> None:
        self._pictures: Sequence[Image.Image] = pictures(images)
        self._labels = torch.from_numpy(images.labels)
        self._transform = transform

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._transform(self._pictures[index]), self._labels[index]


def _loader(
    images: Images, transform: Callable[[Image.Image], Tensor], *, drop_last: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return shuffled, augmented batches, made in this process as ours are on a small machine."""
    lone = len(images) % BATCH == 1  # one image alone breaks batch normalisation
    return DataLoader(
        _Pictures(images, transform),
        batch_size=min(BATCH, len(images)),
        shuffle=True,
        drop_last=(drop_last or lone) and len(images) > BATCH,
    )


def _layer_decayed(model: Classifier) -> list[Json]:
    """Return AdamW's groups: timm's layers, each with its rate, and the head with the full rate."""
    decay, rate = LPFT["weight_decay"], LPFT["learning_rate"]
    groups = param_groups_layer_decay(model.backbone, weight_decay=decay, layer_decay=LPFT["layer_decay"])
    found: list[Json] = [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": rate * group["lr_scale"]}
        for group in groups
    ]
    found.append({"params": [model.head.weight], "weight_decay": decay, "lr": rate})
    found.append({"params": [model.head.bias], "weight_decay": 0.0, "lr": rate})
    return found
