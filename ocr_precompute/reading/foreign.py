"""A shard that another tool wrote again: a ZIP whose entries zarr-python takes apart."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ocr_precompute.format.blosc import Packed
from ocr_precompute.format.chunks import ChunkError
from ocr_precompute.format.records import Records
from ocr_precompute.format.schema import MAPS, RECORDS
from ocr_precompute.format.shard import MOST_RECORD, Bytes
from ocr_precompute.parameters import Parameters
from ocr_precompute.runtime.forks import undisturbed

_MOST_DIRECTORY = 2**23  # bytes; ten times what the largest shard needs
_MOST_DOCUMENT = 2**20  # bytes of a zarr.json
_DOCUMENTS = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_LOCAL_HEADER = 30  # bytes, of which the last four are lengths of what follows


class ForeignShard:
    """A local shard as zarr-python reads it, with whatever codecs.

    Raises ValueError if the file is no ZIP whose entries are stored as they are.
    """

    def __init__(self, file: Bytes, samples: int, parameters: Parameters) -> None:
        entries = _Entries(file)
        self._group = _open_zarr(entries)
        self._samples, self._parameters = samples, parameters
        self._maps: dict[str, Any] = {}

    def read(
        self, row: int, out: Sequence[tuple[str, np.ndarray]], checksums: bool
    ) -> list[Packed]:
        """Read maps of one sample; checksums are always compared."""
        for position, (field, array) in enumerate(out):
            try:
                array[...] = self._map(field)[row]
            except Exception as error:  # whatever a codec raises, the data is damaged
                raise ChunkError(position, str(error)) from error
        return []

    def records(self) -> Records:
        """All but the maps."""
        return Records.from_arrays({field: self._record(field) for field in RECORDS})

    def _map(self, field: str) -> Any:
        if field not in self._maps:
            dtype, tail = MAPS[field]
            shape = (*self._parameters.size, *tail)
            array = self._array(field)
            # What the metadata claims is not to be believed before it is allocated.
            if array.chunks != (1, *shape):
                raise ValueError("it is no array of one sample a chunk")
            if array.shape != (self._samples, *shape) or array.dtype != dtype:
                raise ValueError(f"it is an array of {array.shape} {array.dtype}")
            self._maps[field] = array
        return self._maps[field]

    def _record(self, field: str) -> np.ndarray:
        array = self._array(field)
        dtype, tail = RECORDS[field]
        if array.ndim != 1 + len(tail) or array.shape[1:] != tail or array.dtype != dtype:
            raise ValueError(f"{field} is an array of {array.shape} {array.dtype}")
        if array.nbytes > MOST_RECORD:
            raise ValueError(f"{field} claims to have {array.nbytes} bytes")
        return np.asarray(array[:])

    def _array(self, field: str) -> Any:
        array = self._group[field]
        # One that is missing in there could not be told from one of zeros.
        if array.shards is not None:
            raise ValueError(f"{field} has chunks within chunks")
        return array


class _Entries(Mapping[str, Any]):
    """The entries of a ZIP, by name: buffers of zarr-python on the file's own bytes.

    Raises ValueError, when made, for a ZIP that is damaged or whose entries are compressed by ZIP,
    which could become any number of bytes; for an entry when it is read, if that is damaged.
    """

    def __init__(self, file: Bytes) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(_File(file)) as archive:
                infos = archive.infolist()
        except Exception as error:  # of many kinds, for there is much to be damaged
            raise ValueError(f"it is no ZIP file as shards are: {error}") from error
        self._infos: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            if info.filename in self._infos:
                raise ValueError(f"it holds {info.filename} twice")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"{info.filename} is not stored as it is but compressed by ZIP")
            self._infos[info.filename] = info

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __getitem__(self, name: str) -> Any:
        from zarr.core.buffer import default_buffer_prototype

        info = self._infos.get(name)
        if info is None:
            # zarr-python takes zeros for a chunk that is missing.
            raise KeyError(name) if name.endswith(_DOCUMENTS) else ValueError(f"{name} is missing")
        if info.file_size > (_MOST_DOCUMENT if name.endswith("zarr.json") else MOST_RECORD):
            raise ValueError(f"{name} claims to have {info.file_size} bytes")
        begin = info.header_offset
        header = bytes(self._file.read(begin, begin + _LOCAL_HEADER))
        start = begin + _LOCAL_HEADER + sum(np.frombuffer(header[-4:], "<u2").tolist())
        data = self._file.read(start, start + info.file_size)
        if header[:4] != b"PK\3\4" or zlib.crc32(data) != info.CRC:
            raise ValueError(f"{name}: checksum mismatch: the data is damaged")
        return default_buffer_prototype().buffer.from_bytes(data)


class _File(io.RawIOBase):
    """A file as `zipfile` reads its directory, but never much at once."""

    def __init__(self, file: Bytes) -> None:
        self._file, self._at = file, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if at < 0:
            raise OSError("it is too short")
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        stop = self._file.size if size < 0 else min(self._at + size, self._file.size)
        if stop - self._at > _MOST_DIRECTORY:
            raise OSError(f"its directory claims to have {stop - self._at} bytes")
        data = bytes(self._file.read(self._at, stop))
        self._at = max(self._at, stop)
        return data


def _open_zarr(entries: _Entries) -> Any:
    with undisturbed:
        import zarr  # slow to import, and not needed for shards as they are written here

    held: Any = entries  # it is only read
    return zarr.open_group(zarr.storage.MemoryStore(held, read_only=True), mode="r")
