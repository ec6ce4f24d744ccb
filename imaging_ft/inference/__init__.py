"""The run tower's inference: bundles on a device, and predictions of files."""

from imaging_ft.inference.providers import Device

__all__ = ["Device"]
