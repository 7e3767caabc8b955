"""The annotation formats of this package: each module here is one, and holds its `FORMAT`,
or two that are alike.

A reader gives an `Entry` for each image, in any order, with words as the file has them, as arrays
or column by column. Points are checked and packed after reading, once for all formats; a format
reports only what it cannot parse, and need look at the limits in `rules` only where parsing more
would take long. docs/formats.md says how to add one.
"""

from __future__ import annotations

from ocr_precompute.annotations.formats import (
    alto,
    coco,
    ctw1500,
    cvat,
    doctr,
    hocr,
    iam,
    icdar,
    labelme,
    paddle,
    page,
    word_boxes,
    words,
)
from ocr_precompute.annotations.protocol import AnnotationFormat

FORMATS: tuple[AnnotationFormat, ...] = (
    alto.FORMAT,
    coco.FORMAT,
    ctw1500.FORMAT,
    cvat.FORMAT,
    doctr.FORMAT,
    hocr.FORMAT,
    iam.FORMAT,
    icdar.FORMAT,
    word_boxes.KAIST,
    labelme.FORMAT,
    page.FORMAT,
    paddle.FORMAT,
    word_boxes.SVT,
    words.FORMAT,
)
"""All of them, in order of their names."""
