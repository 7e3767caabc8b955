"""Samples as arrays in files: mapped, compressed, FFCV's."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from measuring.samples import FIELDS

from contenders.contender import (
    Arrays,
    BatchWise,
    Epochs,
    OneByOne,
    Setting,
    as_tensors,
    data_loader,
    samples,
)
from ocr_precompute.reading.split import Split


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
