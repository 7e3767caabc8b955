"""All formats and loaders that peers.py compares, each with the settings to try.

Whoever knows a faster way to use one of them: add a setting to its list; its best one counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from measuring.machine import CORES

from contenders.arrays import (
    ffcv_epochs,
    memmap_epochs,
    npz_epochs,
    write_ffcv,
    write_memmap,
    write_npz,
)
from contenders.contender import Contender, with_workers
from contenders.stores import by_tensorstore, by_zarr, live, ours
from contenders.streams import (
    litdata_epochs,
    mds_epochs,
    webdataset_epochs,
    write_litdata,
    write_mds,
    write_webdataset,
)


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
