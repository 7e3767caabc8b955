"""The formats and loaders that peers.py compares, each with the settings to try.

A contender has

- `write(split, folder)`: the samples of a split, converted to its format;
- settings: dicts that `epochs` understands; `torch_threads` (1 if not given) goes to torch itself,
  whose threads are as often in the way of others as they help;
- `epochs(folder, setting, batch_size)`: an endless iterator of epochs, each an iterable of batches,
  dicts of torch tensors `image`, `prob`, `thresh`, in a new random order every epoch.

Whoever knows a faster way to use one of them: add a setting to its list; its best one counts.
"""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from common import FIELDS, SPLIT, zipped

from ocr_precompute import open_store
from ocr_precompute.reading.split import Split
from ocr_precompute.storage.store import shard_name

Setting = Mapping[str, Any]
Batch = Mapping[str, Any]
Arrays = dict[str, np.ndarray]
Epochs = Iterator[Iterable[Batch]]

WORKERS = (0, 1, 2, 4)
CORES = os.cpu_count() or 1
SHARD_LENGTH = 32  # samples in a tar file; about what a shard of the store holds


@dataclass(frozen=True)
class Contender:
    """One way to train from the samples.

    requires: module without which it cannot take part. reads: the store, the source images and
    annotations, or a folder of its own, which `write` fills.
    """

    name: str
    requires: str
    settings: Sequence[Setting]
    epochs: Callable[[Path, Setting, int], Epochs]
    write: Callable[[Split, Path], None] | None = None
    reads: Literal["own", "store", "source"] = "own"


def samples(split: Split) -> Iterator[Arrays]:
    """All samples in order, each a dict of (H, W, ...) arrays."""
    for index in range(len(split)):
        yield {field: array[0] for field, array in split.read([index], FIELDS).items()}


# ------------------------------------------------------------------- through torch's DataLoader


class OneByOne:
    """A map-style dataset of samples that are read one at a time and stacked by torch."""

    def __init__(self, length: int, read: Callable[[int], Arrays]) -> None:
        self._length, self._read = length, read

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Arrays:
        return self._read(index)


class BatchWise(OneByOne):
    """A map-style dataset that is asked for a whole batch, and gives it already stacked."""

    def __init__(self, length: int, read: Callable[[Sequence[int]], Arrays]) -> None:
        self._length, self._read_all = length, read

    def __getitems__(self, indices: Sequence[int]) -> Arrays:
        """The samples of one batch."""
        return self._read_all(indices)


def as_tensors(batch: Arrays) -> Batch:
    """Arrays as tensors, without a copy."""
    import torch

    return {field: torch.as_tensor(array) for field, array in batch.items()}


def stacked(rows: Sequence[Arrays]) -> Batch:
    """Samples as one batch, in shared memory where this is a worker process."""
    from torch.utils.data import default_collate

    batch: Batch = default_collate([as_tensors({f: row[f] for f in FIELDS}) for row in rows])
    return batch


def data_loader(dataset: OneByOne, workers: int, batch_size: int) -> Epochs:
    """Shuffled epochs of a map-style dataset through torch's DataLoader."""
    from torch.utils.data import DataLoader

    collate: Callable[[Any], Batch] = as_tensors if isinstance(dataset, BatchWise) else stacked
    loader: Any = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )
    return itertools.repeat(loader)


def with_workers(*settings: Setting) -> list[Setting]:
    """Every setting with every number of workers; without workers, with torch on all cores, too."""
    ways: list[Setting] = [{"workers": number} for number in WORKERS]
    ways.append({"workers": 0, "torch_threads": CORES})
    return [{**setting, **way} for setting in settings for way in ways]


# ------------------------------------------------------------------------------------------ ours


def ours(store: Path, setting: Setting, batch_size: int) -> Epochs:
    """The store through BatchLoader."""
    from ocr.datasets import BatchLoader, StoreDataset

    dataset = StoreDataset(store, SPLIT, fields=FIELDS)
    return batch_loader_epochs(
        BatchLoader(
            dataset, batch_size=batch_size, shuffle=True, threads=setting["threads"], seed=0
        )
    )


def live(source: Path, setting: Setting, batch_size: int) -> Epochs:
    """The images and annotations themselves, computed anew, through the same BatchLoader."""
    from ocr.datasets import BatchLoader, LiveDataset

    dataset = LiveDataset(
        images=source / "images",
        annotations=source / "words.json",
        recipe="dbnet",
        size=640,
        fields=FIELDS,
    )
    return batch_loader_epochs(
        BatchLoader(
            dataset, batch_size=batch_size, shuffle=True, threads=setting["threads"], seed=0
        )
    )


def batch_loader_epochs(loader: Any) -> Epochs:
    """Epochs of a BatchLoader, each in another order."""
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield loader


# ----------------------------------------------------------------- the store, by other readers


def located(split: Split) -> list[tuple[str, int]]:
    """Shard key and row of every sample."""
    return [(entry.key, row) for entry in split.manifest.shards for row in range(entry.samples)]


def by_zarr(store: Path, setting: Setting, batch_size: int) -> Epochs:
    """The store read by zarr-python, with its own codecs or with zarrs."""
    import zarr

    if setting["codecs"] == "zarrs":
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    rows = located(open_store(store).split(SPLIT))
    arrays: dict[str, dict[str, Any]] = {}  # filled in the process that reads

    def read(index: int) -> Arrays:
        key, row = rows[index]
        if key not in arrays:
            shard = zarr.storage.ZipStore(store / shard_name(key), mode="r")
            group = zarr.open_group(shard, mode="r")
            arrays[key] = {field: group[field] for field in FIELDS}
        return {field: array[row] for field, array in arrays[key].items()}

    return data_loader(OneByOne(len(rows), read), setting["workers"], batch_size)


def by_tensorstore(store: Path, setting: Setting, batch_size: int) -> Epochs:
    """The store read by tensorstore: all chunks of a batch asked for at once, then stacked."""
    rows = located(open_store(store).split(SPLIT))
    arrays: dict[str, dict[str, Any]] = {}

    def opened(key: str) -> dict[str, Any]:
        import tensorstore

        if key not in arrays:
            opening = {f: tensorstore.open(zipped(store / shard_name(key), f)) for f in FIELDS}
            arrays[key] = {field: future.result() for field, future in opening.items()}
        return arrays[key]

    def read(indices: Sequence[int]) -> Arrays:
        futures = {
            field: [opened(rows[i][0])[field][rows[i][1]].read() for i in indices]
            for field in FIELDS
        }
        return {
            field: np.stack([f.result() for f in waiting]) for field, waiting in futures.items()
        }

    return data_loader(BatchWise(len(rows), read), setting["workers"], batch_size)


# --------------------------------------------------------------------------------- other formats


def write_memmap(split: Split, folder: Path) -> None:
    """One .npy file a field."""
    files: dict[str, np.ndarray] = {}
    for index, sample in enumerate(samples(split)):
        for field, array in sample.items():
            if field not in files:
                files[field] = np.lib.format.open_memmap(
                    folder / f"{field}.npy", "w+", array.dtype, (len(split), *array.shape)
                )
            files[field][index] = array


def memmap_epochs(folder: Path, setting: Setting, batch_size: int) -> Epochs:
    """Rows of the mapped arrays: one by one, or gathered batch-wise by numpy or by torch."""
    files: Any = {field: np.load(folder / f"{field}.npy", mmap_mode="r") for field in FIELDS}
    if setting["read"] == "gathered by torch":
        files = as_tensors(files)

    def read(index: Any) -> Arrays:
        return {field: file[index] for field, file in files.items()}

    dataset = OneByOne if setting["read"] == "one by one" else BatchWise
    return data_loader(dataset(len(files["image"]), read), setting["workers"], batch_size)


def write_npz(split: Split, folder: Path) -> None:
    """One compressed .npz file a sample."""
    for index, sample in enumerate(samples(split)):
        np.savez_compressed(folder / f"{index:06d}.npz", **sample)  # type: ignore[arg-type]


def npz_epochs(folder: Path, setting: Setting, batch_size: int) -> Epochs:
    """The .npz files, one by one."""
    files = sorted(folder.glob("*.npz"))

    def read(index: int) -> Arrays:
        with np.load(files[index]) as file:
            return {field: file[field] for field in FIELDS}

    return data_loader(OneByOne(len(files), read), setting["workers"], batch_size)


def write_ffcv(split: Split, folder: Path) -> None:
    """One .beton file of raw arrays."""
    new_field = import_module("ffcv.fields").NDArrayField
    new_writer = import_module("ffcv.writer").DatasetWriter
    first = split.read([0], FIELDS)
    fields = {f: new_field(array.dtype, array.shape[1:]) for f, array in first.items()}

    def read(index: int) -> tuple[np.ndarray, ...]:
        return tuple(array[0] for array in split.read([index], FIELDS).values())

    # Samples do not cross pages: in large ones less room is lost. Speed does not depend on it.
    writer = new_writer(str(folder / "samples.beton"), fields, page_size=2**25, num_workers=1)
    writer.from_indexed_dataset(OneByOne(len(split), read))  # type: ignore[arg-type]


def ffcv_epochs(folder: Path, setting: Setting, batch_size: int) -> Epochs:
    """FFCV's own loader, its file in the page cache."""
    decoders, transforms = import_module("ffcv.fields.decoders"), import_module("ffcv.transforms")
    loading = import_module("ffcv.loader")
    loader = loading.Loader(
        str(folder / "samples.beton"),
        batch_size=batch_size,
        num_workers=setting["workers"],
        os_cache=True,
        order=loading.OrderOption.RANDOM,
        drop_last=False,
        batches_ahead=setting["batches_ahead"],
        pipelines={field: [decoders.NDArrayDecoder(), transforms.ToTensor()] for field in FIELDS},
    )
    while True:
        yield (dict(zip(FIELDS, batch, strict=True)) for batch in loader)


def allow_streaming() -> None:
    """Let `streaming` be imported where torchvision does not fit torch, as beside CPU-only wheels.

    It imports three names from torchvision, for data sets that are not used here.
    """
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in ("", ".datasets", ".transforms", ".transforms.functional"):
            module = sys.modules[f"torchvision{name}"] = ModuleType(f"torchvision{name}")
            module.__spec__ = ModuleSpec(module.__name__, None)
        names = {"VisionDataset": object, "CIFAR10": object, "to_tensor": None}
        for name in (".datasets", ".transforms.functional"):
            vars(sys.modules[f"torchvision{name}"]).update(names)


def write_mds(compression: str | None) -> Callable[[Split, Path], None]:
    """A writer of MosaicML's MDS format."""

    def write(split: Split, folder: Path) -> None:
        allow_streaming()
        streaming = import_module("streaming")
        first = split.read([0], FIELDS)
        columns = {
            field: f"ndarray:{array.dtype}:{','.join(map(str, array.shape[1:]))}"
            for field, array in first.items()
        }
        with streaming.MDSWriter(
            out=str(folder), columns=columns, compression=compression
        ) as writer:
            for sample in samples(split):
                writer.write(sample)

    return write


def mds_epochs(folder: Path, setting: Setting, batch_size: int) -> Epochs:
    """StreamingDataset on local files; compressed shards are unpacked once, in the first epoch."""
    allow_streaming()
    from torch.utils.data import DataLoader

    streaming = import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()  # of runs that were ended
    dataset = streaming.StreamingDataset(local=str(folder), shuffle=True, batch_size=batch_size)
    workers = setting["workers"]
    loader: Any = DataLoader(
        dataset, batch_size, num_workers=workers, persistent_workers=workers > 0
    )
    return itertools.repeat(loader)


def tensors_at(split: Split, index: int) -> Batch:
    """One sample as tensors."""
    return as_tensors({field: array[0] for field, array in split.read([index], FIELDS).items()})


def write_litdata(split: Split, folder: Path) -> None:
    """LitData's chunks, of tensors, which it reads without a copy."""
    import_module("litdata").optimize(
        fn=partial(tensors_at, split),
        inputs=list(range(len(split))),
        output_dir=str(folder),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


def litdata_epochs(folder: Path, setting: Setting, batch_size: int) -> Epochs:
    """LitData's own dataset and loader."""
    litdata = import_module("litdata")
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, drop_last=False)
    workers = setting["workers"]
    loader = litdata.StreamingDataLoader(
        dataset, batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0
    )
    return itertools.repeat(loader)


def write_webdataset(split: Split, folder: Path) -> None:
    """Tar files of uncompressed .npy."""
    pattern = str(folder / "%06d.tar")
    with import_module("webdataset").ShardWriter(
        pattern, maxcount=SHARD_LENGTH, verbose=0
    ) as writer:
        for index, sample in enumerate(samples(split)):
            files = {f"{field}.npy": array for field, array in sample.items()}
            writer.write({"__key__": f"{index:06d}", **files})


def npy_view(data: bytes) -> np.ndarray:
    """The array of a .npy file in memory, without a copy, unlike numpy.load."""
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape)


def webdataset_epochs(folder: Path, setting: Setting, batch_size: int) -> Epochs:
    """WebDataset: tar files in random order, and samples through a buffer."""
    webdataset = import_module("webdataset")

    def parsed(sample: Mapping[str, bytes]) -> Arrays:
        return {field: npy_view(sample[f"{field}.npy"]) for field in FIELDS}

    urls = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
    dataset = dataset.shuffle(setting["buffer"]).map(parsed)
    dataset = dataset.batched(batch_size, collation_fn=stacked, partial=True)
    workers = setting["workers"]
    loader = webdataset.WebLoader(
        dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    return itertools.repeat(loader)


def contenders(threads: Sequence[int]) -> list[Contender]:
    """All of them. threads: numbers of threads to try for our own loader."""
    own = [{"threads": number} for number in threads]
    workers = with_workers({})
    gathered = [{"read": read} for read in ("one by one", "gathered by numpy", "gathered by torch")]
    buffered = with_workers({"buffer": 16}, {"buffer": 100})
    # FFCV takes no more threads than there are cores.
    ahead = [{"workers": n, "batches_ahead": m} for n in (1, 2, 4) if n <= CORES for m in (1, 3)]
    zarr_codecs = with_workers({"codecs": "zarr-python"})
    zarrs_codecs = with_workers({"codecs": "zarrs"})
    return [
        Contender("ours", "ocr.datasets", own, ours, reads="store"),
        Contender("live path", "ocr.datasets", own, live, reads="source"),
        Contender("numpy memmap", "torch", with_workers(*gathered), memmap_epochs, write_memmap),
        Contender("FFCV", "ffcv", ahead, ffcv_epochs, write_ffcv),
        Contender("MosaicML MDS", "streaming", workers, mds_epochs, write_mds(None)),
        Contender("MosaicML MDS zstd", "streaming", workers, mds_epochs, write_mds("zstd:3")),
        Contender("LitData", "litdata", workers, litdata_epochs, write_litdata),
        Contender("WebDataset", "webdataset", buffered, webdataset_epochs, write_webdataset),
        Contender("compressed npz", "torch", workers, npz_epochs, write_npz),
        Contender("store, zarr-python", "torch", zarr_codecs, by_zarr, reads="store"),
        Contender("store, zarrs", "zarrs", zarrs_codecs, by_zarr, reads="store"),
        Contender("store, tensorstore", "tensorstore", workers, by_tensorstore, reads="store"),
    ]
