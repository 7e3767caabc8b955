"""Samples as streams: MosaicML Streaming, LitData, WebDataset."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from measuring.samples import FIELDS

from contenders.contender import Arrays, Batch, Epochs, Setting, as_tensors, samples, stacked
from ocr_precompute.reading.split import Split

SHARD_LENGTH = 32  # samples in a tar file; about what a shard of the store holds


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
