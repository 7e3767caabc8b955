"""The ZIP that a shard is: as the standard library reads it, and not one bit otherwise."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocr_precompute.format import archive
from ocr_precompute.format.archive import (
    END_BYTES,
    ArchiveWriter,
    Directory,
    archive_bytes,
    directory_bytes,
    directory_length,
    entry_count,
    header_bytes,
    parse_directory,
)
from ocr_precompute.format.schema import MAPS, METADATA_NAMES, RECORDS, entry_names, samples_of

# ASCII, as all names of a shard are: `zipfile` takes other bytes for another alphabet.
NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\\"),
    min_size=1,
    max_size=30,
)
ENTRIES = st.lists(
    st.tuples(NAMES, st.binary(max_size=200)), min_size=1, max_size=12, unique_by=lambda e: e[0]
)


def encoded(entries: list[tuple[str, bytes]]) -> tuple[bytes, ...]:
    return tuple(name.encode() for name, _ in entries)


def parsed(data: bytes, names: tuple[bytes, ...]) -> Directory:
    """The directory of a whole file, given as much of its end as is needed."""
    tail = data[max(0, len(data) - directory_length(names)) :]
    return parse_directory(tail, names, len(data))


def widened(entries: list[tuple[str, bytes]]) -> bytes:
    """The same archive with the fields for more than 4 GiB."""
    names, contents = encoded(entries), [data for _, data in entries]
    whole = archive_bytes(entries)
    start = sum(map(len, contents)) + sum(map(header_bytes, names))
    sizes = np.array([len(data) for data in contents], np.int64)
    crcs = np.array([zlib.crc32(data) for data in contents], np.uint32)
    assert whole[start:] == directory_bytes(names, sizes, crcs)
    return whole[:start] + directory_bytes(names, sizes, crcs, wide=True)


@given(ENTRIES, st.booleans())
def test_the_standard_library_reads_what_was_written(
    entries: list[tuple[str, bytes]], wide: bool
) -> None:
    data = widened(entries) if wide else archive_bytes(entries)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        assert read.testzip() is None
        assert read.namelist() == [name for name, _ in entries]
        assert [read.read(name) for name in read.namelist()] == [each for _, each in entries]
        assert {info.compress_type for info in read.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in read.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@given(ENTRIES, st.booleans())
def test_the_directory_says_where_everything_lies(
    entries: list[tuple[str, bytes]], wide: bool
) -> None:
    data = widened(entries) if wide else archive_bytes(entries)
    found = parsed(data, encoded(entries))
    places = zip(found.starts.tolist(), found.sizes.tolist(), strict=True)
    assert [data[start : start + size] for start, size in places] == [each for _, each in entries]
    assert found.crcs.tolist() == [zlib.crc32(each) for _, each in entries]
    assert data[found.start :][:4] == b"PK\1\2"
    assert entry_count(data[-END_BYTES:]) == len(entries)
    assert len(data) - found.start <= directory_length(encoded(entries))


@given(ENTRIES)
def test_the_whole_file_may_be_given_for_its_end(entries: list[tuple[str, bytes]]) -> None:
    data = archive_bytes(entries)
    found = parse_directory(memoryview(data), encoded(entries), len(data))
    assert found.starts.tolist() == parsed(data, encoded(entries)).starts.tolist()


@given(ENTRIES)
def test_bytes_follow_from_names_and_contents_alone(entries: list[tuple[str, bytes]]) -> None:
    files = [io.BytesIO() for _ in range(2)]
    for file in files:
        writer = ArchiveWriter(file)
        for name, data in entries:
            writer.add(name, memoryview(bytearray(data)))
        writer.finish()
    assert files[0].getvalue() == files[1].getvalue() == archive_bytes(entries)
    if len(entries) > 1:
        assert archive_bytes(entries[::-1]) != archive_bytes(entries)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


SOME = [("a/c.0", b"one"), ("a/zarr.json", b""), ("zarr.json", b"{}" * 300)]


@pytest.mark.parametrize("wide", [False, True])
def test_every_flipped_bit_of_a_directory_is_seen(wide: bool) -> None:
    """It is refused, or in a field for a checksum: then the checksum is another."""
    data, names = widened(SOME) if wide else archive_bytes(SOME), encoded(SOME)
    good = parsed(data, names)
    crcs = 0
    for bit in range(8 * good.start, 8 * len(data)):
        try:
            found = parsed(flipped(data, bit), names)
        except ValueError:
            continue
        crcs += 1
        assert found.starts.tolist() == good.starts.tolist()
        assert found.sizes.tolist() == good.sizes.tolist()
        assert (found.crcs != good.crcs).sum() == 1
    assert crcs == 32 * len(SOME)


@given(ENTRIES, st.booleans(), st.data())
@hypothesis_settings(max_examples=300)
def test_any_flipped_bit_of_any_directory_is_seen(
    entries: list[tuple[str, bytes]], wide: bool, draw: st.DataObject
) -> None:
    data, names = widened(entries) if wide else archive_bytes(entries), encoded(entries)
    good = parsed(data, names)
    bit = draw.draw(st.integers(8 * good.start, 8 * len(data) - 1))
    try:
        found = parsed(flipped(data, bit), names)
    except ValueError:
        return
    assert found.crcs.tolist() != good.crcs.tolist()


@given(ENTRIES, st.booleans(), st.data())
def test_what_is_cut_short_or_goes_on_is_refused(
    entries: list[tuple[str, bytes]], wide: bool, draw: st.DataObject
) -> None:
    data, names = widened(entries) if wide else archive_bytes(entries), encoded(entries)
    cut = draw.draw(st.integers(0, len(data) - 1))
    more = draw.draw(st.binary(min_size=1, max_size=50))
    comment = data[:-2] + struct.pack("<H", len(more)) + more
    for other in (data[:cut], data[cut + 1 :], data + more, more + data, comment):
        with pytest.raises(ValueError, match=r"too short|not what was written"):
            parsed(other, names)


@given(ENTRIES, ENTRIES)
def test_other_entries_are_refused(
    entries: list[tuple[str, bytes]], others: list[tuple[str, bytes]]
) -> None:
    data = archive_bytes(entries)
    if encoded(entries) != encoded(others):
        with pytest.raises(ValueError, match=r"too short|not what was written"):
            parsed(data, encoded(others))


def test_what_another_writer_wrote_is_refused() -> None:
    """The same entries with a date of today, in the library's own words."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as other:
        for name, data in SOME:
            other.writestr(zipfile.ZipInfo(name, (2026, 11, 26, 0, 0, 0)), data)
    with pytest.raises(ValueError, match="not what was written"):
        parsed(file.getvalue(), encoded(SOME))


def test_a_directory_of_more_than_four_gigabytes() -> None:
    """No such file is made: where everything lies follows from the sizes."""
    names = (b"a", b"b", b"c")
    sizes = np.array([2**32 - 2, 2**32 - 2, 7], np.int64)
    crcs = np.array([1, 2, 2**32 - 1], np.uint32)
    tail = directory_bytes(names, sizes, crcs)
    size = int(sizes.sum()) + 3 * header_bytes(b"a") + len(tail)
    assert tail == directory_bytes(names, sizes, crcs, wide=True)
    found = parse_directory(tail, names, size)
    assert found.sizes.tolist() == sizes.tolist()
    assert found.starts.tolist() == [31, 2**32 - 2 + 62, 2 * (2**32 - 2) + 93]
    assert found.crcs.tolist() == crcs.tolist()
    assert entry_count(tail[-END_BYTES:]) == 3


def test_the_standard_library_finds_its_way_in_more_than_four_gigabytes() -> None:
    """A file of zeros, of which only the headers and the end are really there."""
    names, sizes = (b"a", b"b"), np.array([2**32 - 2, 5], np.int64)
    crcs = np.array([0, zlib.crc32(b"small")], np.uint32)
    second = header_bytes(b"a") + 2**32 - 2
    parts = {
        0: archive.local_header(b"a", 2**32 - 2, 0),
        second: archive.local_header(b"b", 5, int(crcs[1])) + b"small",
        second + header_bytes(b"b") + 5: directory_bytes(names, sizes, crcs),
    }
    with zipfile.ZipFile(Sparse(parts)) as read:
        assert read.namelist() == ["a", "b"]
        assert read.read("b") == b"small"


class Sparse(io.RawIOBase):
    """A file that is zeros but for some parts."""

    def __init__(self, parts: dict[int, bytes]) -> None:
        self.parts, self.at = parts, 0
        self.size = max(start + len(data) for start, data in parts.items())

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.size)[whence]
        return self.at

    def read(self, size: int = -1) -> bytes:
        stop = self.size if size < 0 else min(self.size, self.at + size)
        data = bytearray(stop - self.at)
        for start, part in self.parts.items():
            first, last = max(start, self.at), min(start + len(part), stop)
            if first < last:
                data[first - self.at : last - self.at] = part[first - start : last - start]
        self.at = stop
        return bytes(data)


def test_a_directory_of_more_entries_than_fit() -> None:
    names = tuple(b"%d" % number for number in range(65_535))
    sizes, crcs = np.zeros(len(names), np.int64), np.zeros(len(names), np.uint32)
    data = archive_bytes([(name.decode(), b"") for name in names])
    assert data.endswith(directory_bytes(names, sizes, crcs, wide=True))
    assert entry_count(data[-END_BYTES:]) == len(names)
    assert len(parsed(data, names).starts) == len(names)
    with zipfile.ZipFile(io.BytesIO(data)) as read:
        assert len(read.namelist()) == len(names)


def test_an_entry_may_not_be_larger_than_its_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MOST", 100)
    writer = ArchiveWriter(io.BytesIO())
    writer.add("fits", bytes(99))
    with pytest.raises(ValueError, match="large is larger than an entry may be"):
        writer.add("large", bytes(100))


@pytest.mark.parametrize("tail", [b"", b"PK\5\6", bytes(22), bytes(98), b"PK\5\6" + bytes(19)])
def test_what_does_not_end_as_an_archive(tail: bytes) -> None:
    with pytest.raises(ValueError, match="it does not end as an archive does"):
        entry_count(tail)


@given(st.integers(1, 300))
def test_the_number_of_samples_follows_from_that_of_entries(samples: int) -> None:
    names = entry_names(samples)
    assert len(set(names)) == len(names)
    assert samples_of(len(names)) == samples
    for other in range(1, len(MAPS)):
        with pytest.raises(ValueError, match="it has not the entries of a shard"):
            samples_of(len(names) + other)


def test_a_shard_has_samples() -> None:
    for entries in (0, 1, len(RECORDS) + len(METADATA_NAMES)):
        with pytest.raises(ValueError, match="it has not the entries of a shard"):
            samples_of(entries)
