"""What the phases of one training share."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from imaging_ft.augment.recipe import Augment, Recipe
from imaging_ft.data import Images, Prepared
from imaging_ft.models.factory import Classifier
from imaging_ft.training.engine import Engine
from imaging_ft.training.images import Share, TrainingBatches
from imaging_ft.training.judge import Judge
from imaging_ft.training.objective import Objective
from imaging_ft.training.odds import Odds
from imaging_ft.training.provenance import Origin
from imaging_ft.training.retain import Retained
from imaging_ft.training.run import RunFolder
from imaging_ft.training.settings import TrainSettings
from imaging_ft.training.team import Team
from imaging_ft.types import Json, Levels, Task, Track

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One training: its settings, its images, its model and where it goes."""

    settings: TrainSettings
    """Resolved: nothing is left to the preset."""
    data: Prepared
    recipe: Recipe
    clutter: Levels
    """Images that the recipe may lay over others."""
    run: RunFolder
    engine: Engine
    model: Classifier
    train: Images
    judge: Judge
    objective: Objective
    workers: int
    track: Track
    say: Say
    odds: Odds = field(default_factory=dict[str, float])
    """Of the condition families at the start."""
    retained: Retained | None = None
    origin: Origin | None = None
    """The file that the weights come from; None: a library's, or none."""
    focus: Json = field(default_factory=dict[str, Any])
    """What the report was of that gave the odds; empty without one."""
    earlier_head: bool = False
    """Whether the model's head is an earlier run's, for the same labels."""

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.engine.team

    @property
    def task(self) -> Task:
        """What the model decides."""
        return self.data.card.task

    @property
    def families(self) -> tuple[str, ...]:
        """The condition families of the recipe that can be drawn here."""
        return self.judge.families

    @property
    def from_scratch(self) -> bool:
        """Whether the backbone starts from random weights."""
        return self.settings.weights == "none" and self.settings.from_run is None

    def augment(self, odds: Odds | None = None) -> Augment:
        """Return the recipe's augmentation, with odds on its families."""
        return self.recipe.build(self.clutter, odds=odds or None)

    def batches(self) -> TrainingBatches:
        """Return this process's share of the training batches."""
        s = self.settings
        return TrainingBatches(
            self.train,
            self.augment(self.odds),
            batch_size=s.batch_size,
            seed=s.seed,
            workers=self.workers,
            share=Share(self.team.rank, self.team.size),
            mixup=s.mixup,
            augmix=s.augmix,
            replay=self.retained.train if self.retained else None,
            replay_share=s.replay,
        )

    def with_settings(self, settings: TrainSettings) -> "Job":
        """Return the job under other settings."""
        return replace(self, settings=settings)
