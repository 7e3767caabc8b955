"""Annotations written in the forms of others: one module each, one table of them."""

from __future__ import annotations

from ocr_precompute.annotations.writers import coco, doctr, icdar, mmocr, paddle, words
from ocr_precompute.annotations.writers.pages import AnnotationWriter, Loss, Page

__all__ = ["WRITERS", "AnnotationWriter", "Loss", "Page"]

WRITERS: dict[str, AnnotationWriter] = {
    writer.name: writer
    for writer in (words.WRITER, coco.WRITER, paddle.WRITER, doctr.WRITER, mmocr.WRITER)
} | {writer.name: writer for writer in icdar.WRITERS}
"""Every form that is written, by the name that `--to` takes."""
