"""`python -m ocr_precompute`."""

from ocr_precompute.cli.commands import main

main()
