"""The batches that are made of images."""

import mmap
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from imaging_ft.augment.recipe import Augment
from imaging_ft.data import Images
from imaging_ft.errors import ImagingFtError
from imaging_ft.training.mixing import Mixer
from imaging_ft.types import Ints, Levels

_BEFORE_EPOCHS = 1 << 20
"""The probe's augmented copies take epoch numbers that no training reaches."""

Batch = tuple[Tensor, Tensor]
"""Levels [batch, channels, height, width] uint8, and targets [batch, classes] float32."""


def clean_batches(images: Images, batch_size: int) -> Iterator[Batch]:
    """Yield the images as they are, in order."""
    for start in range(0, len(images), batch_size):
        chosen = slice(start, start + batch_size)
        yield _to_tensor(images.levels[chosen]), torch.from_numpy(np.array(images.targets[chosen]))


def augmented_copies(images: Images, augment: Augment, *, copies: int, seed: int, draw: int = 0) -> Images:
    """Return `copies` augmented versions of each image; another `draw` of the same seed gives others."""
    if not copies or not len(images):
        return Images(images.levels[:0], images.targets[:0])
    levels = np.empty((copies * len(images), *images.levels.shape[1:]), np.uint8)
    for place in range(len(levels)):
        copy, index = divmod(place, len(images))
        levels[place] = augment(images.levels[index], _seed(seed, _BEFORE_EPOCHS + draw + copy, index))
    return Images(levels, np.tile(images.targets, (copies, 1)))


def with_copies(images: Images, augment: Augment, positions: Ints, *, seed: int) -> Images:
    """Return some of the images followed by their first augmented copies: position n + i is the copy of image i of n.

    They are those of `augmented_copies`, but no other one is made.
    """
    indices = positions % len(images)
    found = images.take(indices)
    levels = np.array(found.levels)
    for place, index in enumerate(indices.tolist()):
        if positions[place] >= len(images):
            levels[place] = augment(levels[place], _seed(seed, _BEFORE_EPOCHS, index))
    return Images(levels, found.targets)


def joined(parts: Sequence[Images]) -> Images:
    """Return images one after the other, in memory."""
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    return Images(np.concatenate([part.levels for part in filled]), np.concatenate([part.targets for part in filled]))


@dataclass(frozen=True)
class Share:
    """One process's part of an epoch's batches."""

    rank: int = 0
    size: int = 1


class TrainingBatches:
    """Shuffled, augmented batches; each epoch and image has its own seed, whichever process augments it.

    With `replay`, that share of each epoch's images is drawn anew from other images (an earlier site's).
    """

    def __init__(
        self,
        images: Images,
        augment: Augment,
        *,
        batch_size: int,
        seed: int,
        workers: int,
        share: Share | None = None,
        mixup: float = 0.0,
        augmix: bool = False,
        replay: Images | None = None,
        replay_share: float = 0.0,
    ) -> None:
        self._own = len(images)
        self._replayed = len(replay) if replay is not None else 0
        self._seed = seed
        self._batch_size = batch_size
        self._workers = workers
        self._share = share or Share()
        drawn = round(self._own * replay_share / (1 - replay_share)) if self._replayed else 0
        self.images_an_epoch = self._own + drawn
        # One image is left out rather than sent alone through batch normalisation.
        if self.images_an_epoch > batch_size and self.images_an_epoch % batch_size == 1:
            self.images_an_epoch -= 1
        self._source = _mapped(images) if replay is None else _one_after_the_other(_mapped(images), _mapped(replay))
        self._mixup, self._augmix = mixup, augmix
        self.augment = augment
        """May be replaced between epochs: what the next one draws by."""
        self.waited = 0.0
        """Seconds that training has waited for batches."""

    def __len__(self) -> int:
        return -(-self.images_an_epoch // self._batch_size)

    def size_of(self, step: int) -> int:
        """Return how many images the batch of a step has, over all processes."""
        return min(self._batch_size, self.images_an_epoch - step * self._batch_size)

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield this process's share of the batches of one epoch, from a step on; it may be empty in the last one.

        Raises ConfigError where the augmentation does, in whichever process.
        """
        shares = [
            [(number, index) for index in batch[self._share.rank :: self._share.size]]
            for batch in self._order(number)[start:]
        ]
        mixer = Mixer(self._source, self.augment, mixup=self._mixup, augmix=self._augmix)
        loader: Any = DataLoader(
            _Samples(mixer, self._seed),
            batch_sampler=_Listed([share for share in shares if share]),
            num_workers=self._workers,
            collate_fn=_collated,
            worker_init_fn=_begin_worker if self._workers else None,
            # The loader's own draws would otherwise move torch's generator, which dropout draws from.
            generator=torch.Generator(),
        )
        batches: Iterator[Any] = iter(loader)
        for share in shares:
            asked = time.perf_counter()
            batch = next(batches) if share else self._nothing()
            self.waited += time.perf_counter() - asked
            if isinstance(batch, ImagingFtError):
                # Each worker answers in turn: one that still starts when the loader goes would end with a traceback.
                with suppress(RuntimeError):
                    for _ in zip(range(self._workers - 1), batches, strict=False):
                        pass
                raise batch
            yield batch

    def _order(self, number: int) -> list[list[int]]:
        """Return the images of each batch of an epoch; those that are replayed have numbers after our own."""
        generator = np.random.default_rng((self._seed, number))
        order = generator.permutation(self._own)
        drawn = self.images_an_epoch - self._own
        if drawn > 0 and self._replayed:
            again = self._own + generator.integers(self._replayed, size=drawn)
            order = generator.permutation(np.concatenate([order, again]))
        order = order[: self.images_an_epoch].tolist()
        return [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]

    def _nothing(self) -> Batch:
        height, width, channels = self._source.levels.shape[1:]
        return torch.zeros((0, channels, height, width), dtype=torch.uint8), torch.zeros(
            (0, self._source.targets.shape[1])
        )


def _one_after_the_other(first: Images, second: Images) -> Images:
    """Return two sets of images as one that is only ever asked for single images."""
    levels: Any = _Joined(first.levels, second.levels)
    return Images(levels, np.concatenate([first.targets, second.targets]))


def _mapped(images: Images) -> Images:
    """Return images that a worker process is not sent where they lie in a memory-mapped file."""
    # A part of a file (its base is another array) has no path of its own.
    if not isinstance(images.levels, np.memmap) or not isinstance(images.levels.base, mmap.mmap):
        return images
    levels: Any = _Mapped(images.levels)
    return Images(levels, images.targets)


class _Mapped:
    """A memory-mapped file of images, which a worker process that isn't forked opens by its path."""

    def __init__(self, levels: Levels) -> None:
        self._levels = levels
        self.shape = levels.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Levels:
        return self._levels[index]

    def __reduce__(self) -> tuple[Any, ...]:
        path = _file_of(self._levels)
        return (np.array, (np.asarray(self._levels),)) if path is None else (_reopened, (path,))


def _reopened(path: Path) -> _Mapped:
    return _Mapped(np.load(path, mmap_mode="r"))


def _file_of(levels: Any) -> Path | None:
    """Return the file that holds an array, or None where it's gone or is another by now."""
    path = Path(levels.filename)
    try:
        stored = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return path if stored.shape == levels.shape and stored.dtype == levels.dtype else None


class _Joined:
    """Two arrays of images as one, without a copy: either may be a memory-mapped file."""

    def __init__(self, first: Levels, second: Levels) -> None:
        self._first, self._second = first, second
        self.shape = (len(first) + len(second), *first.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Levels:
        return self._first[index] if index < len(self._first) else self._second[index - len(self._first)]


class _Listed(Sampler[list[tuple[int, int]]]):
    """Yields batches of (epoch, index) that are listed beforehand, so that a worker process knows the epoch."""

    def __init__(self, batches: list[list[tuple[int, int]]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class _Samples(Dataset[tuple[Tensor, Tensor] | ImagingFtError]):
    def __init__(self, mixer: Mixer, seed: int) -> None:
        self._mixer = mixer
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor] | ImagingFtError:
        epoch, index = key
        try:
            levels, target = self._mixer(index, _seed(self._seed, epoch, index))
        except ImagingFtError as error:
            return error  # raised in a worker, its message would be the whole traceback
        return _to_tensor(levels[np.newaxis])[0], torch.from_numpy(target)


def _collated(samples: Sequence[tuple[Tensor, Tensor] | ImagingFtError]) -> Any:
    """Return samples as a batch, or the first failure among them."""
    return next((one for one in samples if isinstance(one, ImagingFtError)), None) or default_collate(list(samples))


def _begin_worker(_number: int) -> None:
    cv2.setNumThreads(1)  # as in the process that trains; only a forked one knows of it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all: the process that trains ends it


def _seed(seed: int, epoch: int, index: int) -> int:
    """Return the seed of one image in one epoch of a run."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1)[0])


def _to_tensor(levels: Levels) -> Tensor:
    # A copy: the image cache is read-only, and torch wants to be able to write.
    return torch.from_numpy(np.array(levels.transpose(0, 3, 1, 2), order="C"))


def shuffled(count: int, seed: int) -> Ints:
    """Return a seeded order of images: where statistics are taken over batches, none is then of one class."""
    return np.random.default_rng(seed).permutation(count)
