"""The batches that are made of images."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from imaging_ft.augment.recipe import Augment
from imaging_ft.data import Images
from imaging_ft.types import Ints, Levels

_BEFORE_EPOCHS = 1 << 20
"""The probe's augmented copies take epoch numbers that no training reaches."""

Batch = tuple[Tensor, Tensor]
"""Levels [batch, channels, height, width] uint8, and targets [batch, classes] float32."""


def clean_batches(images: Images, batch_size: int) -> Iterator[Batch]:
    """Yield the images as they are, in order."""
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        yield _to_tensor(images.levels[chosen]), torch.from_numpy(images.targets[chosen])


def augmented_batches(
    images: Images, augment: Augment, batch_size: int, *, order: Ints, copies: int, seed: int
) -> Iterator[Batch]:
    """Yield every image as it is, and then `copies` augmented versions of every image, in the given order.

    Batches are mixed: where statistics are taken over them, no batch is of one class.
    """
    yield from clean_batches(images.take(order), batch_size)
    augmented = _Augmented(images, augment, seed)
    for copy in range(copies):
        for start in range(0, len(order), batch_size):
            pairs = [augmented[_BEFORE_EPOCHS + copy, int(index)] for index in order[start : start + batch_size]]
            yield torch.stack([levels for levels, _ in pairs]), torch.stack([target for _, target in pairs])


def with_augmented(images: Images, augment: Augment, *, copies: int, seed: int) -> Images:
    """Return the images as they are, followed by `copies` augmented versions of each."""
    augmented = [
        augment(levels, _seed(seed, _BEFORE_EPOCHS - 1 - copy, index))
        for copy in range(copies)
        for index, levels in enumerate(images.levels)
    ]
    if not augmented:
        return images
    return Images(np.concatenate([images.levels, np.stack(augmented)]), np.tile(images.targets, (copies + 1, 1)))


class TrainingBatches:
    """Shuffled, augmented batches; each epoch and image has its own seed, whichever process augments it."""

    def __init__(self, images: Images, augment: Augment, *, batch_size: int, seed: int, workers: int) -> None:
        # One image is left out rather than sent alone through batch normalisation.
        drop_last = len(images) % batch_size == 1
        self._sampler = _EpochSampler(len(images), seed)
        self._loader = DataLoader(
            _Augmented(images, augment, seed),
            batch_size=batch_size,
            sampler=self._sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            drop_last=drop_last and len(images) > batch_size,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of one epoch."""
        self._sampler.epoch = number
        yield from self._loader


class _EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index), so that a worker process knows the epoch."""

    def __init__(self, count: int, seed: int) -> None:
        self.epoch = 0
        self._count = count
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._count)
        return ((self.epoch, int(index)) for index in order)

    def __len__(self) -> int:
        return self._count


class _Augmented(Dataset[tuple[Tensor, Tensor]]):
    def __init__(self, images: Images, augment: Augment, seed: int) -> None:
        self._images = images
        self._augment = augment
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        levels = self._augment(self._images.levels[index], _seed(self._seed, epoch, index))
        return _to_tensor(levels[np.newaxis])[0], torch.from_numpy(self._images.targets[index])


def _seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one image in one epoch of a run."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def _to_tensor(levels: Levels) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(levels.transpose(0, 3, 1, 2)))
