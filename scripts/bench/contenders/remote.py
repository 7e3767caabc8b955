"""What remote.py compares: the store, LitData and MosaicML Streaming, in a bucket.

A contender's name ends in zstd where its objects are compressed, and in JPEG where they are image
files and polygons. Whoever knows a faster way to use one of them: add a setting; the best one
counts.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measuring.machine import CORES
from measuring.samples import SPLIT

from contenders.streams import allow_streaming
from ocr_precompute import open_store
from ocr_precompute.annotations import read_annotations
from ocr_precompute.format.schema import MAPS
from ocr_precompute.parameters import Parameters
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.targets.sample import compute_sample

BATCH, BUCKET = 16, "bucket"
WORKERS = [{"workers": number} for number in sorted({0, CORES, 2 * CORES})]
CONTENDERS: dict[str, list[dict[str, int]]] = {
    "ours": [{"threads": CORES}, {"threads": 2 * CORES}],
    "LitData": [{**way, "max_pre_download": n} for way in WORKERS for n in (2, 8)],
    "LitData zstd": WORKERS,
    "MosaicML": WORKERS,
    "MosaicML zstd": WORKERS,
    "LitData JPEG": WORKERS,
    "MosaicML JPEG": WORKERS,
}
ARRAYS = {"points": "float64", "lengths": "int64", "ignore": "bool"}
Batches = Iterable[Mapping[str, Any]]
Row = dict[str, Any]


def stored(split: Any, index: int) -> Row:
    """A sample's maps as arrays."""
    return {field: array[0] for field, array in split.read([index], tuple(MAPS)).items()}


def drawn(row: Mapping[str, Any], parameters: Parameters) -> Row:
    """A sample's maps, made of its image file and polygons."""
    points, lengths, ignore = (np.frombuffer(row[name], kind) for name, kind in ARRAYS.items())
    polygons = Polygons(points.reshape(-1, 2), lengths, ignore)
    sample = compute_sample("", bytes(row["jpeg"]), polygons, parameters, Settings().max_pixels)
    return {field: getattr(sample, field) for field in MAPS}


def filed(folder: Path, names: Sequence[str], found: Mapping[str, Polygons], index: int) -> Row:
    """A sample's image file and polygons, as bytes: MosaicML takes no array without elements."""
    polygons = found[names[index]]
    arrays = {name: getattr(polygons, name).astype(kind) for name, kind in ARRAYS.items()}
    jpeg = (folder / names[index]).read_bytes()
    return {"jpeg": jpeg, **{name: array.tobytes() for name, array in arrays.items()}}


def rows_of(name: str, bucket: Path) -> tuple[int, Callable[[int], Row]]:
    """How many samples there are, and what gives that which a contender keeps of each."""
    split, source = open_store(bucket / "store")[SPLIT], bucket / "source"
    if not name.endswith("JPEG"):
        return len(split), partial(stored, split)
    annotations = read_annotations(source / "words.json", source / "images").annotations
    found = {each.name: each.polygons for each in annotations}
    return len(split), partial(filed, source / "images", split.names, found)


def convert(name: str, bucket: Path) -> None:
    """Write what a contender reads into the bucket."""
    samples, read = rows_of(name, bucket)
    folder, codec = place(name, bucket), "zstd" if name.endswith("zstd") else None
    if name.startswith("LitData"):
        litdata = import_module("litdata")

        litdata.optimize(
            fn=read,
            inputs=list(range(samples)),
            output_dir=str(folder),
            chunk_bytes="64MB",
            num_workers=1,
            compression=codec,
            verbose=False,
        )
        return
    allow_streaming()
    streaming = import_module("streaming")

    kinds = {
        field: "bytes" if isinstance(value, bytes) else f"ndarray:{value.dtype}"
        for field, value in read(0).items()
    }
    with streaming.MDSWriter(out=str(folder), columns=kinds, compression=codec) as writer:
        for index in range(samples):
            writer.write(read(index))


def place(name: str, bucket: Path) -> Path:
    """Where a contender's objects lie."""
    return bucket / name.lower().replace(" ", "-")


def requires(name: str) -> str:
    """The module without which a contender cannot take part."""
    return {"ours": "obstore", "LitData": "litdata"}.get(name.split()[0], "streaming")


def load(name: str) -> None:
    """Import what a contender needs, which is not timed."""
    if name == "ours":
        import_module("ocr.datasets")
        import_module("obstore.store")
    elif name.startswith("LitData"):
        import_module("litdata")
    else:
        allow_streaming()
        import_module("streaming")


def epochs_of(name: str, setting: Mapping[str, int], bucket: Path, cache: str) -> Iterator[Batches]:
    """Epochs without end, shuffled, from the bucket through a cache."""
    endpoint, workers = os.environ["S3_ENDPOINT_URL"], setting.get("workers", 0)
    remote = f"s3://{BUCKET}/{place(name, bucket).name}"
    parameters = open_store(bucket / "store")[SPLIT].manifest.parameters
    loading = {"batch_size": BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    if name == "ours":
        from ocr.datasets import BatchLoader, StoreDataset

        options = {"endpoint": endpoint, "region": "us-east-1"}
        dataset = StoreDataset(f"s3://{BUCKET}/store", SPLIT, options=options, cache=cache)
        loader = BatchLoader(dataset, BATCH, shuffle=True, threads=setting["threads"], window=16)
        return itertools.repeat(loader)
    made = partial(drawn, parameters=parameters) if name.endswith("JPEG") else None
    if name.startswith("LitData"):
        litdata = import_module("litdata")

        # It passes no such option on, and without it refuses a server without encryption.
        downloads: Any = import_module("litdata.streaming.downloader")
        downloads._OBSTORE_CLIENT_OPTIONS["allow_http"] = "true"
        more = {"transform": made} if made else {}
        given = litdata.StreamingDataset(
            remote,
            cache,
            shuffle=True,
            drop_last=False,
            storage_options={"endpoint_url": endpoint},
            max_pre_download=setting.get("max_pre_download", 8),
            **more,
        )
        return itertools.repeat(litdata.StreamingDataLoader(given, **loading))
    streaming = import_module("streaming")
    from torch.utils.data import DataLoader

    class Made(streaming.StreamingDataset):  # type: ignore[misc, name-defined]
        def __getitem__(self, index: Any) -> Any:
            row = super().__getitem__(index)
            return made(row) if made else row

    streaming.base.util.clean_stale_shared_memory()  # of runs that were ended
    rows = Made(remote=remote, local=cache, shuffle=True, batch_size=BATCH)
    return itertools.repeat(DataLoader(rows, **loading))  # type: ignore[arg-type]
