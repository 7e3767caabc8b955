"""Sorted parts that are Parquet files with one row per image; see `sorted_parts`.

What is found by halving are numbers of rows, by the names of one row group at a time. Statistics
are not asked: writers may cut them short. pyarrow is imported when the first file is read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ocr_precompute.annotations.sorted_parts import Part, opened, problem_in
from ocr_precompute.errors import InputError, Problem, one_line

MARK = b"PAR1"
"""What a Parquet file begins and ends with."""

NO_NAME = 'has no "name"; give it one, or remove it'
"""What is wrong with a row that has no name."""

_TEXT, _NUMBER, _FLAG = "text", "numbers", "true and false"
_WORDS = [
    {
        "points": [[_NUMBER]],
        "transcription": _TEXT,
        "ignore": _FLAG,
        "illegibility": _FLAG,
        "tags": [_TEXT],
        "word_tags": [_TEXT],
    }
]
_COLUMNS: dict[str, Any] = {
    "name": _TEXT,
    "words": _WORDS,
    "digest": _TEXT,
    **dict.fromkeys(("img_w", "img_h", "width", "height"), _NUMBER),
}
_NESTED = {True: "lists", False: "structs"}
_NEEDED = ("name", "words")
_ROWS = 1024  # that are held as Python has them
_LARGEST = 1 << 30  # bytes of a row group, and of texts in those rows


def whole(path: Path) -> Part | None:
    """The part that a file is, in rows; None if it holds none. Raises InputError."""
    with _file(path) as file:
        groups = _groups(file, path)
        if not groups:
            return None
        first, last = _names(file, path, groups[0])[0], _names(file, path, groups[-1])[-1]
    for name, which in ((first, "first"), (last, "last")):
        if not name:
            raise InputError([problem_in(path, f"{which} row", NO_NAME)])
    return Part(path, first, last, 0, groups[-1].stop)


def narrowed(part: Part, first: str, last: str) -> Part:
    """Of a part only the rows from one name to another, both included. Raises InputError."""
    with _file(part.path) as file:
        start = _place(file, part.path, lambda names: bisect_left(names, first))
        stop = _place(file, part.path, lambda names: bisect_right(names, last))
    return replace(part, first=first, last=last, start=start, stop=stop)


def rows(part: Part) -> Iterator[tuple[str, Any] | Problem]:
    """What each row of a part says, without nulls, and where it is, counted from 1.

    Raises InputError, where it happens, if the file cannot be read.
    """
    with _file(part.path) as file:
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        for group in _groups(file, part.path):
            if group.start >= part.stop or group.stop <= part.start:
                continue
            at = group.start
            for batch in file.iter_batches(_ROWS, [group.number], columns, use_threads=False):
                here, at = at, at + len(batch)
                start, stop = max(part.start, here), min(part.stop, at)
                some = batch.slice(start - here, max(0, stop - start))
                _check_texts(part.path, some.columns, start, stop)
                for number, row in enumerate(some.to_pylist(), start + 1):
                    yield f"row {number}", _without_nulls(row)
                if at >= part.stop:
                    return
            _check_count(part.path, group, at - group.start)


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """What a row says: null is how a column has what a row does not say."""
    for word in row["words"] or ():
        if word and None in word.values():
            for key in [key for key, value in word.items() if value is None]:
                del word[key]
    return row


class _Group(NamedTuple):
    """A row group that holds any rows: its number, and its rows from start to stop."""

    number: int
    start: int
    stop: int


def _groups(file: Any, path: Path) -> list[_Group]:
    """The row groups. Raises InputError if one would take too much memory.

    What each column takes is not asked: at damaged numbers of one pyarrow ends the process.
    """
    groups, stop = [], 0
    for number in range(file.metadata.num_row_groups):
        described = file.metadata.row_group(number)
        start, stop = stop, stop + described.num_rows
        if described.total_byte_size > _LARGEST:
            reason = (
                f"takes more than {_LARGEST >> 20} MB; write the file anew in smaller row groups, "
                "of some thousand rows"
            )
            raise InputError([problem_in(path, f"row group {number + 1}", reason)])
        groups += [_Group(number, start, stop)] if start < stop else []
    return groups


def _place(file: Any, path: Path, place: Callable[[Sequence[str]], int]) -> int:
    """The number of the row at a place that is told, given the names of any row group."""
    groups = _groups(file, path)
    low, high, found = 0, len(groups), groups[-1].stop if groups else 0
    while low < high:
        middle = (low + high) // 2
        names = _names(file, path, groups[middle])
        if (number := place(names)) < len(names):
            high, found = middle, groups[middle].start + number
            if number:
                break
        else:
            low = middle + 1
    return found


def _names(file: Any, path: Path, group: _Group) -> list[str]:
    """The names of a row group; empty where a row has none."""
    column = file.read_row_group(group.number, ["name"], use_threads=False).column("name")
    _check_count(path, group, len(column))
    _check_texts(path, column.chunks, group.start, group.stop)
    return [name or "" for name in column.to_pylist()]


@contextmanager
def _file(path: Path) -> Iterator[Any]:
    """A file of a part, its columns checked. Raises InputError for what cannot be read."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        reason = "is Parquet, which needs another package; pip install 'ocr-precompute[parquet]'"
        raise InputError([problem_in(path, "", reason)]) from None
    with opened(path) as plain:
        try:
            texts = _texts(parquet.read_metadata(plain))
            with parquet.ParquetFile(
                plain, read_dictionary=texts, pre_buffer=False, page_checksum_verification=True
            ) as file:
                if reason := _wrong_columns(file.schema_arrow):
                    raise InputError([problem_in(path, "", reason)])
                yield file
        except (ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
            reason = f"cannot be read as Parquet ({one_line(error)}); write it anew, or remove it"
            raise InputError([problem_in(path, "", reason)]) from None


def _texts(metadata: Any) -> list[str]:
    """The columns of texts, which are read so that what they repeat is held once."""
    columns = map(metadata.schema.column, range(len(metadata.schema)))
    return [each.path for each in columns if each.physical_type == "BYTE_ARRAY"]


def _check_count(path: Path, group: _Group, count: int) -> None:
    if count != group.stop - group.start:
        reason = f"holds {count} rows, and says {group.stop - group.start}; write the file anew"
        raise InputError([problem_in(path, f"row group {group.number + 1}", reason)])


def _check_texts(path: Path, columns: Sequence[Any], start: int, stop: int) -> None:
    """Raises InputError if texts, each held once so far, would take too much memory one by one."""
    if sum(map(_text_size, columns)) > _LARGEST:
        reason = f"hold more than {_LARGEST >> 20} MB of text; names and words are short"
        raise InputError([problem_in(path, f"rows {start + 1} to {stop}", reason)])


def _text_size(array: Any) -> int:
    """Bytes of all texts in an array."""
    from pyarrow import compute, types

    if types.is_dictionary(array.type):
        lengths = compute.binary_length(array.dictionary).take(array.indices)
        return int(compute.sum(lengths).as_py() or 0)
    if _is_list(array.type):
        return _text_size(array.flatten())
    if types.is_struct(array.type):
        return sum(_text_size(array.field(n)) for n in range(array.type.num_fields))
    return 0


def _wrong_columns(schema: Any) -> str:
    """What is wrong with the columns of a file; empty if nothing is."""
    for name in _NEEDED:
        if name not in schema.names:
            return f'has no column "{name}"; name its columns as docs/formats.md has them'
    for name, wanted in _COLUMNS.items():
        fields = [field for field in schema if field.name == name]
        if len(fields) > 1:
            return f'has two columns "{name}"; keep one'
        if fields and (reason := _misfit(fields[0].type, wanted, name)):
            return reason
    return ""


def _misfit(found: Any, wanted: Any, name: str) -> str:
    """How the type of a column is not what is wanted; empty if it is. name: for the message."""
    from pyarrow import types

    if types.is_dictionary(found):
        found = found.value_type
    if types.is_null(found):  # nothing but nulls
        return ""
    if isinstance(wanted, list) and _is_list(found):
        return _misfit(found.value_type, wanted[0], f"{name}[]")
    if isinstance(wanted, dict) and types.is_struct(found):
        misfits = [
            _misfit(field.type, wanted[field.name], f"{name}.{field.name}")
            for field in found
            if field.name in wanted
        ]
        return next(filter(None, misfits), "")
    if isinstance(wanted, str) and _FITS[wanted](found):
        return ""
    needed = wanted if isinstance(wanted, str) else _NESTED[isinstance(wanted, list)]
    return f'the column "{name}" holds {found}, and must hold {needed}; write it so'


def _is_list(found: Any) -> bool:
    from pyarrow import types

    return any(
        is_one(found) for is_one in (types.is_list, types.is_large_list, types.is_fixed_size_list)
    )


def _is_text(found: Any) -> bool:
    from pyarrow import types

    return bool(types.is_string(found) or types.is_large_string(found))


def _is_number(found: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(found) or types.is_float32(found) or types.is_float64(found))


def _is_flag(found: Any) -> bool:
    from pyarrow import types

    return bool(types.is_boolean(found) or types.is_integer(found))


_FITS: dict[str, Callable[[Any], bool]] = {
    _TEXT: _is_text,
    _NUMBER: _is_number,
    _FLAG: _is_flag,
}
