"""The command line: one module for each command."""

from ocr_precompute.cli.app import app, main

__all__ = ["app", "main"]
