"""Data sets: cards, folders and manifests as checked, split samples; nothing is written into them."""

from imaging_ft.data.card import Card, ImageFormat
from imaging_ft.data.images import Images, input_spec, load_images
from imaging_ft.data.manifest import load
from imaging_ft.data.prepare import Prepared, prepare
from imaging_ft.data.samples import Problem, Sample

__all__ = [
    "Card",
    "ImageFormat",
    "Images",
    "Prepared",
    "Problem",
    "Sample",
    "input_spec",
    "load",
    "load_images",
    "prepare",
]
