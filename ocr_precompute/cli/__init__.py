"""The command line."""

from ocr_precompute.cli.commands import app, main

__all__ = ["app", "main"]
