"""The epochs of a training: one after the other, from wherever the last checkpoint stands."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imaging_ft.errors import RunError
from imaging_ft.models.factory import Classifier
from imaging_ft.training.checkpoint import BEST, LAST, START, Checkpoint, read_checkpoint, write_checkpoint
from imaging_ft.training.job import Job
from imaging_ft.training.judge import Judged
from imaging_ft.training.odds import follow
from imaging_ft.training.run import plain
from imaging_ft.training.start import Start
from imaging_ft.training.team import CtrlC, await_ctrl_c
from imaging_ft.training.trainer import NotFinite, Trainer
from imaging_ft.training.trials import Treatment
from imaging_ft.types import Json

ROLL_BACKS = 3
"""How often a loss that is no number rolls the run back and halves its rate, before it ends."""


@dataclass
class Progress:
    """How far a training has come; with the trainer's tensors, all that its next step depends on."""

    start: Start
    treatment: Treatment
    mode: str
    """The engine's."""
    epochs: int
    """How many there are to be."""
    epoch: int = 0
    """Epochs that are finished."""
    step: int = 0
    """Steps done in the one that runs."""
    loss: float = 0.0
    """Sum of the losses in it."""
    rows: list[Json] = field(default_factory=list[Json])
    """`history.csv`."""
    best_epoch: int = 0
    best: Judged | None = None
    odds: dict[str, float] = field(default_factory=dict[str, float])
    parts: int = 1
    factor: float = 1.0
    rollbacks: int = 0
    seconds: float = 0.0
    """Of the epochs, over all starts of the run."""
    epoch_seconds: float = 0.0
    """Of the epoch that runs."""
    waited: float = 0.0
    """Of these, what steps waited for augmented batches."""
    images: int = 0
    """Images that were trained on."""
    ended: str | None = None
    """Why there are fewer epochs than planned."""

    def to_json(self) -> Json:
        """Return the progress for a checkpoint."""
        simple = {name: value for name, value in vars(self).items() if name not in {"start", "treatment", "best"}}
        nested = {
            "start": self.start.as_json(),
            "treatment": self.treatment.as_json(),
            "best": self.best.as_json() if self.best else None,
        }
        return copy.deepcopy(simple) | nested

    @classmethod
    def from_json(cls, values: Json) -> "Progress":
        """Return the progress that `to_json` gave."""
        nested = {
            "start": Start.from_json(values["start"]),
            "treatment": Treatment.from_json(values["treatment"]),
            "best": Judged.from_json(values["best"]) if values["best"] else None,
        }
        return cls(**{**values, **nested})


@dataclass
class Outcome:
    """What the epochs gave."""

    model: Classifier
    """The best one, in evaluation mode."""
    judged: Judged
    epoch: int
    progress: Progress
    trainable_share: float
    interrupted: bool = False


class Stopped(Exception):  # noqa: N818 - not an error for the user: the best model so far is kept
    """Ctrl-C has reached a process of the team, and all of them know."""


class Loop:
    """Runs the epochs of a job; `stop_at` is the time (of `time.monotonic`) by which they are to end."""

    def __init__(
        self,
        job: Job,
        trainer: Trainer,
        progress: Progress,
        *,
        steps: int,
        stop_at: float | None = None,
        on_epoch: Callable[[int, Json], None] = lambda _, __: None,
    ) -> None:
        """Take a trainer and how far it has come; `steps` are an epoch's, `on_epoch` gets each row of the history."""
        self._job = job
        self._trainer = trainer
        self._steps = steps
        self._stop_at = stop_at
        self._on_epoch = on_epoch
        self._ctrl_c = CtrlC()
        self._saved = time.monotonic()
        self._snapshot: tuple[dict[str, Tensor], Json] | None = None
        self._best = copy.deepcopy(trainer.averaged).eval()
        self.progress = progress

    def begin(self) -> None:
        """Record the start as epoch 0."""
        judged = self.progress.start.judged
        if self._job.team.leads:
            state = self._trainer.averaged.state_dict()
            write_checkpoint(self._job.run.checkpoints, START, dict(state), {}, row={"epoch": 0})
        self._record(judged, loss=None, seconds=0.0)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Take up a run where a checkpoint stands."""
        self._trainer.load(checkpoint.tensors)
        self._trainer.parts, self._trainer.factor = self.progress.parts, self.progress.factor
        self._remember(checkpoint.tensors, checkpoint.progress)
        found = self._job.team.agree(self._find_best(checkpoint) if self._job.team.leads else None)
        if found is None:
            found = start_weights(self._job)
            self.progress.best, self.progress.best_epoch = self.progress.start.judged, 0
        self._best.load_state_dict(found)

    def run(self) -> Outcome:
        """Train what is left; a KeyboardInterrupt ends it and keeps the best so far.

        In a team, Ctrl-C to any process ends it after the same step in all of them: `CtrlC` says what that promises. A
        KeyboardInterrupt (a second Ctrl-C) then goes through: the other processes can't know where it came.

        Raises RunError where the loss stays no number, or a checkpoint can't be written; the run can be taken up
        again from the last one.
        """
        interrupted, ending = False, KeyboardInterrupt
        if self._job.team.size > 1:
            ending, self._ctrl_c = Stopped, await_ctrl_c()
        try:
            while self.progress.epoch < self.progress.epochs and not self.progress.ended:
                self._stop_together()
                try:
                    self._epoch()
                except NotFinite:
                    self._roll_back()
        except ending:
            interrupted = True
            self._job.say(f"stopped; the best model so far (epoch {self.progress.best_epoch}) is kept")
        progress = self.progress
        judged = progress.best or progress.start.judged
        share = self._trainer.trainable_share
        return Outcome(self._best, judged, progress.best_epoch, progress, share, interrupted)

    def _epoch(self) -> None:
        job, progress, trainer = self._job, self.progress, self._trainer
        number = progress.epoch + 1
        began, waited = time.monotonic() - progress.epoch_seconds, trainer.waited
        trainer.draw_by(job.augment(progress.odds))
        steps = trainer.epoch(number, start=progress.step)
        done = self._steps
        for step, loss in job.track(steps, f"epoch {number}/{progress.epochs}", self._steps - progress.step):
            progress.step, progress.loss = step + 1, progress.loss + loss
            progress.images += trainer.images_of(step)
            if trainer.parts != progress.parts:
                job.say(f"memory ran out: batches now pass in {trainer.parts} parts")
                progress.parts = trainer.parts
            progress.epoch_seconds = time.monotonic() - began
            self._stop_together()
            if self._lead_says(over=self._out_of_time()):
                done = progress.step
                progress.ended = "the time budget"
                break
            old = time.monotonic() - self._saved > 60 * job.settings.checkpoint_minutes
            if progress.step < self._steps and self._lead_says(over=old):
                progress.waited, waited = progress.waited + trainer.waited - waited, trainer.waited
                self._save(progress.rows[-1])
        mean = progress.loss / max(1, done)
        judged = job.judge(job.engine, trainer.averaged)
        seconds = time.monotonic() - began
        progress.epoch, progress.step, progress.loss, progress.epoch_seconds = number, 0, 0.0, 0.0
        progress.seconds += seconds
        progress.waited += trainer.waited - waited
        if job.settings.steer:
            progress.odds = follow(judged, progress.odds)
        self._end_early(judged, seconds)
        self._record(judged, loss=mean, seconds=seconds)

    def _end_early(self, judged: Judged, seconds: float) -> None:
        """Note why no epoch follows: patience, or a time budget that another epoch would break."""
        progress, patience = self.progress, self._job.settings.patience
        better = progress.best is None or judged.beats(progress.best, self._job.settings.metric)
        last_better = progress.epoch if better else progress.best_epoch
        if progress.ended or progress.epoch >= progress.epochs:
            return
        if patience is not None and progress.epoch - last_better >= patience:
            progress.ended = f"no better epoch in {patience}"
        elif self._lead_says(over=self._out_of_time(ahead=seconds)):
            progress.ended = "the time budget"

    def _out_of_time(self, *, ahead: float = 0.0) -> bool:
        """Return whether the time budget is over, or would be in some seconds."""
        return self._stop_at is not None and time.monotonic() + ahead > self._stop_at

    def _lead_says(self, *, over: bool) -> bool:
        """Return whether a time is over by the first process's clock: no other clock counts, as all do the same."""
        team = self._job.team
        if team.size == 1:
            return over
        mine = torch.tensor(float(over and team.leads), device=self._job.engine.fabric.device)
        return bool(team.sum(mine) > 0)

    def _stop_together(self) -> None:
        """Raise Stopped where Ctrl-C has reached any process of the team; all of them ask at the same steps."""
        team = self._job.team
        if team.size > 1:
            mine = torch.tensor(float(self._ctrl_c.came), device=self._job.engine.fabric.device)
            if team.sum(mine) > 0:
                raise Stopped

    def _record(self, judged: Judged, *, loss: float | None, seconds: float) -> None:
        """Add an epoch to the history, keep its weights where they are the best so far, and write a checkpoint."""
        job, progress = self._job, self.progress
        name, worst = judged.worst
        mean = judged.mean
        progress.rows.append(
            plain(
                {
                    "epoch": progress.epoch,
                    "phase": "fine-tune" if progress.epoch else progress.start.head,
                    "learning_rate": self._trainer.rate if progress.epoch else 0.0,
                    "train_loss": loss,
                    **{f"val_{metric}": value for metric, value in judged.clean.as_json().items()},
                    **{f"judged_{metric}": value for metric, value in mean.as_json().items()},
                    "worst_condition": name,
                    "worst_balanced_accuracy": worst,
                    **{f"odds_{family}": progress.odds.get(family, 1.0) for family in job.families},
                    "seconds": seconds,
                }
            )
        )
        better = progress.best is None or judged.beats(progress.best, job.settings.metric)
        if better:
            progress.best, progress.best_epoch = judged, progress.epoch
            self._best.load_state_dict(self._trainer.averaged.state_dict())
        if progress.epoch:
            mark = "  best" if better else ""
            job.say(
                f"epoch {progress.epoch:>3}  loss {loss:.3f}  validation {judged.clean.balanced_accuracy:.3f}"
                f"  conditions {mean.balanced_accuracy:.3f}  worst {worst:.3f} ({name})  {seconds:.0f} s{mark}"
            )
        self._on_epoch(progress.epoch, progress.rows[-1])
        self._save(progress.rows[-1])
        if better and job.team.leads:
            self._write_best(dict(self._best.state_dict()))

    def _save(self, row: Json) -> None:
        """Write the last checkpoint; what is best then stands in it too, until `best` is written."""
        state = self._trainer.state()
        progress = self.progress.to_json()
        self._remember(state, progress)
        if self._job.team.leads:
            self._job.run.write_history(self.progress.rows)
            write_checkpoint(self._job.run.checkpoints, LAST, state, progress, row=row)
        self._saved = time.monotonic()

    def _write_best(self, weights: dict[str, Tensor]) -> None:
        epoch = self.progress.best_epoch
        write_checkpoint(self._job.run.checkpoints, BEST, weights, {"epoch": epoch}, row=self.progress.rows[epoch])

    def _remember(self, tensors: dict[str, Tensor], progress: Json) -> None:
        # In the processor's memory: a device's is for what trains.
        self._snapshot = ({name: value.detach().to("cpu", copy=True) for name, value in tensors.items()}, progress)

    def _roll_back(self) -> None:
        """Go back to the last checkpoint with half the rate; raises RunError after the third time."""
        if self._snapshot is None or self.progress.rollbacks >= ROLL_BACKS:
            raise RunError(
                "the training loss is no longer a number; lower --set learning_rate=…, or --set precision=fp32"
                f" (the rate was halved {self.progress.rollbacks} times; {self._job.run.path} can be resumed)"
            )
        tensors, values = self._snapshot
        rollbacks, factor = self.progress.rollbacks + 1, self.progress.factor / 2
        self.progress = Progress.from_json(copy.deepcopy(values))
        self.progress.rollbacks, self.progress.factor = rollbacks, factor
        self._trainer.load(tensors)
        self._trainer.factor = factor
        self._job.say(
            f"warning: the loss is no longer a number; back to epoch {self.progress.epoch} with the rate"
            f" ×{factor:g} ({rollbacks} of {ROLL_BACKS})"
        )

    def _find_best(self, checkpoint: Checkpoint) -> dict[str, Tensor] | None:
        """Return the best weights of a run that is taken up, or None where they are gone: the start then stands in.

        `last` is written before `best`. Where a kill came between the two, the weights stand in `last` alone, and are
        written to `best` before the run goes on.
        """
        epoch, names = self.progress.best_epoch, self._best.state_dict()
        try:
            found = read_checkpoint(self._job.run.checkpoints / f"{BEST}.safetensors")
            problem = f"the best checkpoint is of epoch {found.progress.get('epoch')} and not {epoch}"
        except RunError as error:
            found, problem = None, str(error)
        if found is not None and found.progress.get("epoch") == epoch:
            return {name: found.tensors[name] for name in names}
        if epoch == self.progress.epoch and not self.progress.step:
            last = {name: checkpoint.tensors[name] for name in names}
            self._write_best(last)
            return last
        self._job.say(f"warning: {problem}; until a better epoch comes, the start stands in for it")
        return None


def start_weights(job: Job) -> dict[str, Tensor]:
    """Return the weights that fine-tuning started from; raises RunError where they are gone or damaged."""
    path = job.run.checkpoints / f"{START}.safetensors"
    return job.team.agree(read_checkpoint(path).tensors if job.team.leads else {})
