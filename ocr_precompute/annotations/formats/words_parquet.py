"""`words_lines` as Parquet: columns of the same names, one row per image, in order of names.

Points are lists of lists of numbers, as they are in JSON; a null is what a row does not say.
"""

from __future__ import annotations

from pathlib import Path

from ocr_precompute.annotations import parquet_rows
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import words_lines
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.protocol import AnnotationFormat
from ocr_precompute.annotations.reading import Found
from ocr_precompute.annotations.sorted_parts import PartFormat, found_in
from ocr_precompute.settings import Rules


def _recognise(look: Look) -> Fit:
    is_one = any(file.begins_with(parquet_rows.MARK) for file in look.files(PARTS.suffix))
    return Fit.YES if is_one else Fit.NO


def _read(path: Path, images: ImageNames, dialect: str, rules: Rules) -> Found:
    """One entry per row; nothing but path is needed."""
    return found_in(path, PARTS)


PARTS = PartFormat(
    suffix=".parquet",
    row="row",
    no_name=parquet_rows.NO_NAME,
    whole=parquet_rows.whole,
    narrowed=parquet_rows.narrowed,
    rows=parquet_rows.rows,
    understand=words_lines.understood,
)

FORMAT = AnnotationFormat(
    name="words_parquet",
    summary="`words_lines` as Parquet, one row per image: a folder of `.parquet` files, or one of "
    "them; rows and files in order of names; needs the extra `parquet`",
    dont_care="as in `words`",
    example="""\
name: string
img_w: int64
img_h: int64
digest: string
words: list<struct<points: list<list<double>>, transcription: string, ignore: bool>>""",
    recognise=_recognise,
    read=_read,
    aliases=("parquet",),
    parts=PARTS,
)
