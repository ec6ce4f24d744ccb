"""The conditions that a report is measured under: NumPy and OpenCV alone, seeded per sample."""

from imaging_ft.augment.conditions.base import Condition, seeded, to_float, to_pixels
from imaging_ft.augment.conditions.registry import CONDITIONS, condition
from imaging_ft.augment.conditions.suite import Setting, Suite, load_suite, usual_suite

__all__ = [
    "CONDITIONS",
    "Condition",
    "Setting",
    "Suite",
    "condition",
    "load_suite",
    "seeded",
    "to_float",
    "to_pixels",
    "usual_suite",
]
