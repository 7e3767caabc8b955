"""The samples of a split in stretches: as they are in memory, or packed, without their polygons.

Of ten million images a list of samples would take 15 GB. Annotations in sorted parts can be read
again from any name to any other, so what stays of them is some hundred bytes per sample.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from ocr_precompute.annotations import read_again
from ocr_precompute.annotations.sorted_parts import Part
from ocr_precompute.errors import InputError
from ocr_precompute.format.keys import Hashes, geometry_hash
from ocr_precompute.format.records import offsets_of
from ocr_precompute.images.files import image_problem
from ocr_precompute.parameters import Parameters
from ocr_precompute.pipeline.counting import Counted
from ocr_precompute.remote_images import ImageUrl, RemoteImage
from ocr_precompute.samples import ImageFile, Sample
from ocr_precompute.settings import Source

BLOCK = 8192
"""Samples of a table."""

_LOADED = 2048  # samples that are read again in one go
_HASH = 32  # bytes
_CHANGED = "its annotation changed while the build was running; run it again"


@dataclass(frozen=True, eq=False, slots=True)
class Listed:
    """Samples in memory, of one folder."""

    listed: tuple[Sample, ...]

    @property
    def folder(self) -> Path | ImageUrl:
        """Where their images lie."""
        return self.listed[0].folder

    def absolute(self) -> Listed:
        """The same from whatever folder."""
        folder = self.folder.absolute()
        if folder == self.folder:
            return self
        return Listed(tuple(replace(sample, folder=folder) for sample in self.listed))

    def __len__(self) -> int:
        return len(self.listed)

    def cut(self, start: int, stop: int) -> Listed:
        """Those from one number to another."""
        return Listed(self.listed[start:stop])

    def load(self) -> tuple[Sample, ...]:
        """The samples."""
        return self.listed

    def names(self) -> Iterable[str]:
        """Their names, in order."""
        return [sample.name for sample in self.listed]

    def sizes(self) -> np.ndarray:
        """(height, width) in pixels of each image as displayed, int32 (n, 2)."""
        return np.array([sample.image.size for sample in self.listed], np.int32).reshape(-1, 2)

    def declared(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Names, and the sizes that annotations declare, where they do."""
        return (
            (sample.name, sample.declared_size)
            for sample in self.listed
            if sample.declared_size is not None
        )

    def hashes(self, parameters: Parameters) -> bytes:
        """Their geometry hashes, one after the other."""
        return b"".join(
            [geometry_hash(parameters, each.digest, each.polygons) for each in self.listed]
        )


@dataclass(frozen=True, eq=False)
class Columns:
    """What is kept of samples that follow each other in a part.

    source: which they are of, alone and with the rules that hold; its images and the part have
    absolute paths. format: name of its format.
    prefix: what their names begin with, which the part leaves out. name_bytes, name_offsets: names
    without it, UTF-8; uint32 (n + 1,). digests: of the image files, one after the other; empty if
    the part gives them. image_sizes, turned: as in `ImageFile`, int32 (n, 2) and bool (n,).
    declared_sizes: int32 (n, 2), 0 where there is none. geometry: hashes, one after the other.
    counted: what was counted of them; None if they are not all that it was counted of.
    """

    source: Source
    format: str
    part: Part
    prefix: str
    name_bytes: bytes
    name_offsets: np.ndarray
    digests: bytes
    image_sizes: np.ndarray
    turned: np.ndarray
    declared_sizes: np.ndarray
    geometry: bytes
    counted: Counted | None

    @classmethod
    def of(
        cls,
        samples: Sequence[Sample],
        source: Source,
        format_name: str,
        part: Part,
        parameters: Parameters,
        counted: Counted,
        given: bool,
    ) -> Columns:
        """Pack samples. given: whether the part gives the digests of all images, and the sizes."""
        begin = samples[0].begin
        names = [sample.name[begin:].encode() for sample in samples]
        sizes = np.array([sample.image.size for sample in samples], np.int32)
        declared = [sample.declared_size or (0, 0) for sample in samples]
        return cls(
            source=source,
            format=format_name,
            part=part,
            prefix=samples[0].name[:begin],
            name_bytes=b"".join(names),
            name_offsets=offsets_of([len(name) for name in names]).astype(np.uint32),
            digests=b"" if given else b"".join(sample.digest for sample in samples),
            image_sizes=sizes,
            turned=np.array([sample.image.turned for sample in samples], bool),
            declared_sizes=sizes if given else np.array(declared, np.int32),
            geometry=Listed(tuple(samples)).hashes(parameters),
            counted=counted,
        )

    def taken(self, rows: slice | np.ndarray) -> Columns:
        """Those of these rows alone."""
        numbers = np.arange(len(self.turned))[rows].tolist()
        ends = self.name_offsets.tolist()
        names = [self.name_bytes[ends[n] : ends[n + 1]] for n in numbers]

        def of(joined: bytes) -> bytes:
            return b"".join(joined[_HASH * n : _HASH * (n + 1)] for n in numbers)

        return replace(
            self,
            name_bytes=b"".join(names),
            name_offsets=offsets_of([len(name) for name in names]).astype(np.uint32),
            digests=of(self.digests),
            image_sizes=self.image_sizes[rows].copy(),
            turned=self.turned[rows].copy(),
            declared_sizes=self.declared_sizes[rows].copy(),
            geometry=of(self.geometry),
            counted=None,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Table:
    """Rows of columns, from one number to another; their polygons are read when they are needed."""

    columns: Columns
    start: int
    stop: int

    def __reduce__(self) -> tuple[Any, ...]:
        rows = slice(self.start, self.stop)
        return Table, (self.columns.taken(rows), 0, self.stop - self.start)

    def __len__(self) -> int:
        return self.stop - self.start

    def cut(self, start: int, stop: int) -> Table:
        """Those from one number to another."""
        return Table(self.columns, self.start + start, self.start + stop)

    def without(self, names: set[str]) -> Table:
        """The samples of other names."""
        kept = np.array([name not in names for name in self.names()], bool)
        rows = self.start + np.flatnonzero(kept)
        return Table(self.columns.taken(rows), 0, len(rows))

    @property
    def folder(self) -> Path | ImageUrl:
        """Where their images lie."""
        return self.columns.source.images

    def absolute(self) -> Table:
        """The same from whatever folder: paths of columns are absolute."""
        return self

    @property
    def counted(self) -> Counted | None:
        """What was counted of them when they were scanned, if it was of these alone."""
        return self.columns.counted if len(self) == len(self.columns.turned) else None

    def names(self) -> Iterable[str]:
        """Their names, in order."""
        prefix = self.columns.prefix
        return (prefix + name for name in self._plain_names())

    def _plain_names(self) -> Iterator[str]:
        text = self.columns.name_bytes
        ends = self.columns.name_offsets[self.start : self.stop + 1].tolist()
        return (text[a:b].decode() for a, b in itertools.pairwise(ends))

    def sizes(self) -> np.ndarray:
        """(height, width) in pixels of each image as displayed, int32 (n, 2)."""
        return self.columns.image_sizes[self.start : self.stop]

    def declared(self) -> Iterator[tuple[str, tuple[int, int]]]:
        """Names, and the sizes that annotations declare, where they do."""
        sizes = self.columns.declared_sizes[self.start : self.stop].tolist()
        named = zip(self.names(), sizes, strict=True)
        return ((name, (height, width)) for name, (height, width) in named if height)

    def hashes(self, parameters: Parameters) -> bytes:
        """Their geometry hashes, one after the other; of the parameters of the scan."""
        return self.columns.geometry[_HASH * self.start : _HASH * self.stop]

    def load(self) -> tuple[Sample, ...]:
        """The samples, read again. Raises InputError if the annotations are not what they were."""
        columns = self.columns
        names = list(self._plain_names())
        if not names:
            return ()
        source = columns.source
        again = read_again(columns.format, columns.part, source, names[0], names[-1])
        found = {each.name: each for each in again}
        samples = []
        rows = range(self.start, self.stop)
        sizes, turned = self.sizes().tolist(), columns.turned[self.start : self.stop].tolist()
        for row, name, size, is_turned in zip(rows, names, sizes, turned, strict=True):
            annotation = found.get(name)
            digest = columns.digests[_HASH * row : _HASH * (row + 1)]
            digest = digest or (annotation.digest if annotation else b"")
            if annotation is None or not digest:
                raise changed(source.images / name, columns.prefix + name)
            image = ImageFile(digest, (size[0], size[1]), is_turned)
            samples.append(
                Sample(
                    columns.prefix + name,
                    source.images,
                    image,
                    annotation.polygons,
                    annotation.declared_size,
                    len(columns.prefix),
                )
            )
        return tuple(samples)


def changed(path: Path | RemoteImage, name: str) -> InputError:
    """The error that says so of a sample's annotation."""
    return InputError([image_problem(path, name, _CHANGED)])


class Samples(Sequence[Sample]):
    """Samples in order of their names.

    stretches: that follow each other. Those of tables are read again each time they are asked for.
    """

    __slots__ = ("_ends", "stretches")

    def __init__(self, stretches: Iterable[Listed | Table]) -> None:
        self.stretches = tuple(each for each in stretches if len(each))
        self._ends = list(itertools.accumulate(map(len, self.stretches)))

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> Samples:
        """Samples that are in memory."""
        folders = itertools.groupby(samples, key=lambda each: each.folder)
        return cls(Listed(tuple(some)) for _, some in folders)

    def __reduce__(self) -> tuple[Any, ...]:
        return Samples, (self.stretches,)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[Sample]:
        for each in self.stretches:
            for start in range(0, len(each), _LOADED):
                yield from each.cut(start, min(start + _LOADED, len(each))).load()

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("samples follow each other")
            return self._between(start, max(start, stop))
        number = range(len(self))[index]
        (sample,) = self._between(number, number + 1)
        return sample

    def _between(self, start: int, stop: int) -> Samples:
        found = []
        number = bisect_right(self._ends, start)
        while start < stop:
            each, end = self.stretches[number], self._ends[number]
            first = end - len(each)
            found.append(each.cut(start - first, min(stop, end) - first))
            start, number = end, number + 1
        return Samples(found)

    def names(self) -> Iterator[str]:
        """Their names, in order."""
        return itertools.chain.from_iterable(each.names() for each in self.stretches)

    def sizes(self) -> np.ndarray:
        """(height, width) in pixels of each image as displayed, int32 (n, 2)."""
        sizes = [each.sizes() for each in self.stretches]
        return sizes[0] if len(sizes) == 1 else np.concatenate([np.zeros((0, 2), np.int32), *sizes])

    def hashes(self, parameters: Parameters) -> Hashes:
        """Their geometry hashes."""
        return Hashes.of(each.hashes(parameters) for each in self.stretches)

    def absolute(self) -> Samples:
        """The same from whatever folder."""
        return Samples(each.absolute() for each in self.stretches)

    def of_names(self, names: set[str]) -> Iterator[Sample]:
        """The samples of these names, in order."""
        for each in self.stretches:
            for row, name in enumerate(each.names()):
                if name in names:
                    yield from each.cut(row, row + 1).load()

    def without(self, names: set[str]) -> Samples:
        """The samples of other names."""

        def kept(each: Listed | Table) -> Listed | Table:
            if isinstance(each, Listed):
                return Listed(tuple(s for s in each.listed if s.name not in names))
            return each if names.isdisjoint(each.names()) else each.without(names)

        return Samples(map(kept, self.stretches))
