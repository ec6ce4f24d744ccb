"""The command line: one file a command; each parses, calls one public function and prints."""

from imaging_ft.cli.app import main

__all__ = ["main"]
