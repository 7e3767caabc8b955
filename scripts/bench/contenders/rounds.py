"""Runs of formats and loaders: converted, read in processes of their own, round by round."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import shutil
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from measuring.apart import Failed, apart
from measuring.command import say
from measuring.memory import peak_memory, used_memory
from measuring.samples import FIELDS, SPLIT

from contenders.contender import Contender, Setting
from contenders.peers import contenders
from ocr_precompute import open_store
from ocr_precompute.format.shard import COLUMNS, MappedFile, read_index
from ocr_precompute.reading.split import Split
from ocr_precompute.runtime.clock import rate
from ocr_precompute.storage.store import shard_name

TIME_LIMIT = 600  # seconds a run may take before it is given up


def sample_digests(batch: Mapping[str, Any]) -> Iterator[str]:
    """SHA-256 of every sample of a batch: dtypes, shapes and bytes of its fields."""
    arrays = [np.asarray(batch[name]) for name in FIELDS]
    for row in range(len(arrays[0])):
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(f"{array.dtype} {array.shape[1:]}".encode())
            digest.update(np.ascontiguousarray(array[row]).data)
        yield digest.hexdigest()


def expected_digests(split: Split) -> list[str]:
    """The digests of all samples of a split, sorted."""
    batches = (split.read([index], FIELDS) for index in range(len(split)))
    return sorted(digest for batch in batches for digest in sample_digests(batch))


def measured(
    name: str, setting: Setting, scratch: Path, batch_size: int, seconds: float
) -> tuple[float, int | None]:
    """Run a contender with a setting: samples a second, and bytes its memory grew by.

    Raises ValueError if its samples are not the store's.
    """
    import torch

    warnings.simplefilter("ignore")  # about arrays that cannot be written to, for one
    contender = named(name)
    expected = json.loads((scratch / "digests.json").read_text())
    torch.set_num_threads(setting.get("torch_threads", 1))
    before = used_memory()
    epochs = contender.epochs(place(contender, scratch), setting, batch_size)
    found = sorted(digest for batch in next(epochs) for digest in sample_digests(batch))
    if found != expected:
        missing = sum((collections.Counter(expected) - collections.Counter(found)).values())
        raise ValueError(f"{missing} samples are missing or differ; {len(found)} were given")
    batches = itertools.chain.from_iterable(epochs)
    samples_a_second = rate((len(batch["image"]) for batch in batches), seconds)
    peak = peak_memory(batches)
    return samples_a_second, peak - before if peak is not None and before is not None else None


def named(name: str) -> Contender:
    """The contender of a name."""
    return next(each for each in contenders([]) if each.name == name)


def place(contender: Contender, scratch: Path) -> Path:
    """The folder a contender reads from."""
    folder = contender.name.lower().replace(" ", "-")
    return scratch / (folder if contender.reads == "own" else contender.reads)


def prepare(name: str, scratch: Path) -> None:
    """Convert the split to a contender's format, unless that has been done before."""
    contender, split = named(name), open_store(scratch / "store").split(SPLIT)
    if contender.write is None:
        return
    folder, stamp = place(contender, scratch), scratch / f"{place(contender, scratch).name}.done"
    made_from = f"{split.manifest.data_hash} {FIELDS}"
    if stamp.exists() and stamp.read_text() == made_from:
        return
    say(f"converting to {contender.name}")
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    contender.write(split, folder)
    stamp.write_text(made_from)


@dataclass
class Run:
    """One setting of one contender, and what came of it."""

    contender: Contender
    setting: Setting
    rates: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    problem: str = ""

    @property
    def rate(self) -> float:
        """Samples a second, the median of its rounds; 0 if a run failed."""
        return statistics.median(self.rates) if self.rates and not self.problem else 0.0

    def once(self, scratch: Path, batch_size: int, seconds: float) -> None:
        """One round of it, unless it has failed before."""
        if self.problem:
            return
        given = self.contender.name, self.setting, scratch, batch_size, seconds
        try:
            found, memory = apart(measured, *given, seconds=TIME_LIMIT)
        except Failed as error:
            self.problem = str(error)
        else:
            self.rates.append(found)
            self.memory += [memory] if memory is not None else []
        told = self.problem or f"{self.rates[-1]:,.0f} samples/s"
        say(f"  {self.contender.name} ({described(self.setting)}): {told}")


def described(setting: Setting) -> str:
    """A setting in words."""
    texts = (
        value if isinstance(value, str) else f"{value} {name}" for name, value in setting.items()
    )
    return ", ".join(texts).replace("_", " ")


def runs_of(some: Sequence[Contender], scratch: Path) -> tuple[list[Run], dict[str, str]]:
    """A run for each setting of contenders, whose samples are converted, and why some cannot be."""
    runs, problems = [], {}
    for contender in some:
        try:
            if contender.write is not None:
                apart(prepare, contender.name, scratch, seconds=TIME_LIMIT)
        except Failed as error:
            problems[contender.name] = f"cannot convert: {error}"
            continue
        runs += [Run(contender, setting) for setting in contender.settings]
    return runs, problems


def best(runs: Sequence[Run], name: str) -> Run | None:
    """The fastest setting of a contender; None if it took no part or failed."""
    found = [run for run in runs if run.contender.name == name and run.rate]
    return max(found, key=lambda run: run.rate, default=None)


def bytes_on_disk(contender: Contender, split: Split, scratch: Path) -> int:
    """Bytes of all files a contender needs; of the store only the fields that are compared."""
    if contender.reads != "store":
        files = (path for path in place(contender, scratch).rglob("*") if path.is_file())
        return sum(path.stat().st_size for path in files)
    indices = [
        read_index(MappedFile(scratch / "store" / shard_name(entry.key)))
        for entry in split.manifest.shards
    ]
    columns = [COLUMNS[field] for field in FIELDS]
    return sum(int((each.stops - each.starts)[:, columns].sum()) for each in indices)
