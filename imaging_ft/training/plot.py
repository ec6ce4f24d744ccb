"""The history of a run as a picture."""

from pathlib import Path

from imaging_ft.training.run import replacing
from imaging_ft.types import Json


def write_history_plot(rows: list[Json], path: Path) -> None:
    """Write `history.png`: losses and validation accuracy by epoch (epoch 0 is where it started)."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs[1:], [row["train_loss"] for row in rows[1:]], marker=".", label="training (augmented)")
    left.plot(epochs, [row["val_loss"] for row in rows], marker=".", label="validation (clean)")
    left.set(title="Loss (nats)", ylim=(0, None))
    for name, label in (
        ("val_balanced_accuracy", "clean"),
        ("judged_balanced_accuracy", "mean of clean and conditions"),
        ("worst_balanced_accuracy", "worst condition"),
    ):
        right.plot(epochs, [row[name] for row in rows], marker=".", label=label)
    right.set(title="Balanced accuracy on validation", ylim=(0, 1.02))
    for axes in (left, right):
        axes.set_xlabel("epoch (0: where it started)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")
