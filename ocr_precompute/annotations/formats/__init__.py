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
    art,
    azure,
    coco,
    cocotext,
    cord,
    ctw1500,
    cvat,
    doctr,
    dota,
    funsd,
    google_vision,
    hiertext,
    hocr,
    iam,
    icdar,
    label_studio,
    labelme,
    mmocr,
    paddle,
    page,
    rects,
    supervisely,
    td500,
    textract,
    totaltext,
    via,
    word_boxes,
    words,
    words_lines,
    words_parquet,
    xfund,
    yolo,
)
from ocr_precompute.annotations.protocol import AnnotationFormat

FORMATS: tuple[AnnotationFormat, ...] = (
    alto.FORMAT,
    art.FORMAT,
    azure.FORMAT,
    coco.FORMAT,
    cocotext.FORMAT,
    cord.FORMAT,
    ctw1500.FORMAT,
    cvat.FORMAT,
    doctr.FORMAT,
    dota.FORMAT,
    funsd.FORMAT,
    google_vision.FORMAT,
    hiertext.FORMAT,
    hocr.FORMAT,
    iam.FORMAT,
    icdar.FORMAT,
    word_boxes.KAIST,
    label_studio.FORMAT,
    labelme.FORMAT,
    mmocr.FORMAT,
    paddle.FORMAT,
    page.FORMAT,
    rects.FORMAT,
    supervisely.FORMAT,
    word_boxes.SVT,
    td500.FORMAT,
    textract.FORMAT,
    totaltext.FORMAT,
    via.FORMAT,
    words.FORMAT,
    words_lines.FORMAT,
    words_parquet.FORMAT,
    xfund.FORMAT,
    yolo.FORMAT,
)
"""All of them, in order of their names."""
