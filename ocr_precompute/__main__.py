"""`python -m ocr_precompute`."""

from ocr_precompute.cli import main

main()
