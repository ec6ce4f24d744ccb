"""Adapters that bring images to the runner from other systems; files are read by `inference.predictions`."""
