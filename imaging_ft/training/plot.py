"""The history of a run as a picture."""

from pathlib import Path

from imaging_ft.training.run import replacing
from imaging_ft.types import Json


def write_history_plot(rows: list[Json], path: Path) -> None:
    """Write `history.png`: losses and validation accuracy by epoch (epoch 0 is the linear probe)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs[1:], [row["train_loss"] for row in rows[1:]], marker=".", label="training (augmented)")
    left.plot(epochs, [row["val_loss"] for row in rows], marker=".", label="validation (clean)")
    left.set(title="Loss (nats)", ylim=(0, None))
    right.plot(epochs, [row["val_balanced_accuracy"] for row in rows], marker=".", label="balanced accuracy")
    right.plot(epochs, [row["val_accuracy"] for row in rows], marker=".", linestyle="--", label="accuracy")
    right.set(title="Validation, moving average of the weights", ylim=(0, 1.02))
    for axes in (left, right):
        axes.set_xlabel("epoch (0: linear probe)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
