"""One optimiser step after the other: a batch in parts, over all processes, with what may go wrong in it."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imaging_ft.augment.recipe import Augment
from imaging_ft.errors import RunError
from imaging_ft.models.factory import Classifier
from imaging_ft.models.recompute import in_every_pass
from imaging_ft.training.average import MovingAverage
from imaging_ft.training.batchnorm import synchronised, train_mode
from imaging_ft.training.engine import Engine, ran_out
from imaging_ft.training.images import Batch, TrainingBatches
from imaging_ft.training.objective import Objective
from imaging_ft.training.optimiser import Optimiser
from imaging_ft.training.settings import TrainSettings

_RAW, _OPTIMISER, _SCALER = "raw/", "optimiser/", "scaler/scale and growth"


class NotFinite(Exception):  # noqa: N818 - not an error for the user: the run rolls back
    """The loss or its gradient is no longer a number."""


class Trainer:
    """Fine-tunes one model; holds what goes from one step to the next."""

    def __init__(
        self,
        engine: Engine,
        model: Classifier,
        batches: TrainingBatches,
        settings: TrainSettings,
        objective: Objective,
        *,
        frozen: bool,
        steps: int | None = None,
    ) -> None:
        self._engine = engine
        self._model = model
        self._batches = batches
        self._settings = settings
        self._objective = objective
        self._frozen = frozen
        self.steps = steps if steps is not None else max(1, (settings.epochs or 0) * len(batches))
        self._optimiser = Optimiser(model, settings, steps=self.steps)
        self._average = MovingAverage(model, steps_per_epoch=len(batches), on=settings.average is not False)
        self._scaler = torch.amp.GradScaler(engine.fabric.device.type, enabled=engine.scales_loss)
        self.parts = settings.accumulate
        """Parts that each process's share of a batch passes the network in."""
        self.factor = 1.0
        """On all rates; halved where the loss was no number."""

    @property
    def averaged(self) -> Classifier:
        """The moving average of the weights: what is validated and kept."""
        return self._average.model

    @property
    def model(self) -> Classifier:
        """The weights as the last step left them."""
        return self._model

    @property
    def rate(self) -> float:
        """The head's rate in the last step."""
        return self._optimiser.rate

    @property
    def waited(self) -> float:
        """Seconds that steps have waited for batches."""
        return self._batches.waited

    def draw_by(self, augment: Augment) -> None:
        """Let the next epoch draw by another augmentation."""
        self._batches.augment = augment

    def images_of(self, step: int) -> int:
        """Return how many images the batch of an epoch's step has, over all processes."""
        return self._batches.size_of(step)

    @property
    def trainable_share(self) -> float:
        """The share of the weights that train at the end."""
        return self._optimiser.share()

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[int, float]]:
        """Train one epoch (from 1), from one of its steps on; yield each step's number and loss once it is done.

        Raises NotFinite where the loss is no number, RunError where even single images don't fit into memory.
        """
        done = (number - 1) * len(self._batches)
        for step, batch in enumerate(self._batches.epoch(number, start=start), start):
            yield step, self.step(batch, done + step, self._batches.size_of(step))

    def step(self, batch: Batch, step: int, images: int) -> float:
        """Make one optimiser step with this process's share of a batch, and return the batch's mean loss.

        `step` counts from the training's start; `images` is the batch's size over all processes.
        """
        self._optimiser.prepare(step, factor=self.factor)
        loss = self._gradients(batch, step, images)
        parameters = self._optimiser.trainable()
        self._engine.team.sum_gradients(parameters)
        optimiser = self._optimiser.raw
        self._scaler.unscale_(optimiser)
        norm = float(nn.utils.clip_grad_norm_(parameters, self._settings.clip))
        if not math.isfinite(loss) or not (math.isfinite(norm) or self._engine.scales_loss):
            raise NotFinite
        self._scaler.step(optimiser)
        self._scaler.update()
        self._optimiser.pull_back()
        self._average.update(self._model)
        return loss

    def _gradients(self, batch: Batch, step: int, images: int) -> float:
        """Leave the gradients of the batch's mean loss in the model, and return that loss over all processes.

        Where memory runs out in any process, the whole batch is passed again in twice as many parts.
        """
        team = self._engine.team
        statistics = [] if self._frozen else [buffer.clone() for buffer in self._model.buffers()]
        while True:
            train_mode(self._model, freeze_statistics=self._frozen)
            self._optimiser.raw.zero_grad(set_to_none=True)
            torch.manual_seed(self._seed(step))
            found = team.sum(self._pass(batch, images))
            loss, full = float(found[0]), bool(found[1])
            if not full:
                return loss
            if self.parts >= self._settings.batch_size // (1 if self._frozen else 2):
                raise RunError(
                    "memory runs out even with one image at a time; take a smaller --size or model, or"
                    " --set recompute=true"
                )
            self.parts *= 2
            for buffer, value in zip(self._model.buffers(), statistics, strict=False):  # they have taken parts in
                buffer.copy_(value)

    def _seed(self, step: int) -> int:
        """Return the seed of a step's dropout in this process: it follows from the step, as all else that is drawn."""
        return int(np.random.SeedSequence((self._settings.seed, step, self._engine.team.rank)).generate_state(1)[0])

    def _pass(self, batch: Batch, images: int) -> Tensor:
        """Return this process's share of the mean loss, and 1 where its memory ran out (else 0)."""
        levels, targets = batch
        device = self._engine.fabric.device
        total = torch.zeros(2, dtype=torch.float64, device=device)
        together = self._engine.team.size > 1 and not self._frozen
        # Statistics of a single image are none.
        parts = self.parts if self._frozen or together else min(self.parts, max(1, len(levels) // 2))
        try:
            with self._shared_statistics(on=together):
                for chunk, truth in zip(_parts(levels, parts), _parts(targets, parts), strict=True):
                    if not len(chunk) and not together:  # where statistics are shared, every process takes part
                        continue
                    with self._engine.fabric.autocast():
                        logits = self._model(self._engine.to_device(chunk)).float()
                    loss = self._objective(logits, truth.to(device)).sum() / images
                    self._scaler.scale(loss).backward()
                    total[0] += loss.detach().double()
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if together:  # the others wait for this process's statistics, and can't begin again
                raise RunError(
                    "memory ran out in one of several processes that share batch-normalisation statistics; write"
                    f" --set accumulate={2 * self.parts}, or --set batch_norm=frozen"
                ) from error
            total[1] = 1
        if total[1]:  # outside of the handler, which would keep the activations alive
            self._optimiser.raw.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.empty_cache()
        return total

    def _shared_statistics(self, *, on: bool) -> AbstractContextManager[None]:
        """Return a context in which batch normalisation takes the whole team's statistics, on the way back as well.

        Where activations are recomputed, the way back sends statistics once more, and their gradients. The order is the
        graph's and so the same in every process: autograd runs a device's nodes in one thread, and a process without
        images has all of them too.
        """
        layers = [module for module in self._model.modules() if isinstance(module, _BatchNorm)] if on else []
        return in_every_pass(layers, synchronised(self._engine.team, on=on))

    def state(self) -> dict[str, Tensor]:
        """Return everything that the next step depends on; the averaged weights by their own names."""
        found = dict(self.averaged.state_dict())
        found |= {_RAW + name: value for name, value in self._model.state_dict().items()}
        found |= {_OPTIMISER + name: value for name, value in self._optimiser.state().items()}
        if self._engine.scales_loss:
            scaler = self._scaler.state_dict()
            found[_SCALER] = torch.tensor([scaler["scale"], scaler["_growth_tracker"]], dtype=torch.float64)
        return found

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up the state that `state` gave."""
        self._average.model.load_state_dict({name: tensors[name] for name in self._average.model.state_dict()})
        self._model.load_state_dict({name: tensors[_RAW + name] for name in self._model.state_dict()})
        self._optimiser.load(
            {name.removeprefix(_OPTIMISER): value for name, value in tensors.items() if name.startswith(_OPTIMISER)}
        )
        if self._engine.scales_loss:
            scale, tracker = tensors[_SCALER].tolist()
            self._scaler.load_state_dict({**self._scaler.state_dict(), "scale": scale, "_growth_tracker": int(tracker)})


def _parts(values: Tensor, count: int) -> list[Tensor]:
    """Return a batch in exactly so many parts, of about the same size; some are empty where it is smaller."""
    return list(torch.tensor_split(values, count))
