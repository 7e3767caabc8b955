"""Where the time of a training goes: loader, steps, gradient synchronisation, validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import joblib
import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ocr.datasets import BatchLoader
from ocr.datasets.tuning import advice
from ocr.profiling import SyncTimes
from ocr_precompute.monitoring.rules import Work
from ocr_precompute.runtime.clock import resident_memory
from ocr_precompute.runtime.footprint import footprint
from ocr_precompute.runtime.stages import Times, Totals, add, everything, waited_here, waiting

FILE_NAME = "performance.jsonl"
_LOGGED = (("p50", 0.5), ("p95", 0.95), ("max", 1.0))


class Performance(lightning.Callback):
    """Logs, an epoch, where time and memory went, and says the whole training's at its end.

    Through Lightning's logger, of the first process: time/loader_wait and time/sync (shares of the
    training time), time/samples_per_second, time/train_sample and time/val_sample (ms), and of each
    stage and wait its median, 95th percentile and longest: stage/forward/p50, wait/loader/max (ms).
    Of every process, in performance.jsonl of the run's folder (performance.1.jsonl for the second),
    a line an epoch with all of it and memory.

    time/loader_wait is the exposed wait: how long the training loop asked for a batch that was not
    ready, the first of an epoch too. time/sync is the share of the time in which gradients were
    under way between processes, most of it while the backward pass goes on.

    With PyTorch's own DataLoader the time between two steps counts as wait, what other callbacks do
    there included, and the end says what to try if it is long.
    """

    def __init__(self) -> None:
        self._sync: SyncTimes | None = None
        self._total = dict.fromkeys(("train", "wait", "sync", "val", "val_wait"), 0.0)
        self._samples = {"train": 0, "val": 0}
        self._epoch = dict(self._total), dict(self._samples)
        self._mark = self._mark_val = self._waited = self._waited_val = 0.0
        self._begun = self._told = Totals()
        self._line: dict[str, Any] | None = None  # of an epoch that is over, but its checkpoint
        self._file: Path | None = None
        self._wait: waiting | None = None  # for a DataLoader, which keeps no clock
        self._work = Work()
        self.beside: Callable[[], dict[str, Any]] = dict  # gives what else goes into a line

    @property
    def work(self) -> Work:
        """How far the training is, as of its last step; from any thread."""
        return self._work

    def so_far(self) -> tuple[dict[str, float], Totals]:
        """Seconds, and all stages since the start.

        Of train, of wait and sync in it, of val, and of val_wait, the wait for batches in it.
        """
        return dict(self._total), everything() - self._begun

    def finish(self, device: torch.device) -> None:
        """Wait until a GPU has done all steps so far; their training takes that long."""
        if device.type == "cuda":
            begun = perf_counter()
            torch.cuda.synchronize(device)
            self._total["train"] += perf_counter() - begun

    def skip(self) -> None:
        """What was done since the last step does not count for the next."""
        self._mark, self._waited = perf_counter(), waited_here("loader")

    @property
    def trained(self) -> int:
        """Samples that this process has trained on so far."""
        return self._samples["train"]

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Start the clocks; a training that goes on within an epoch does not start an epoch.

        Count all-reduces, if there are processes to share gradients with.
        """
        self._begun = self._told = everything()
        folder = trainer.log_dir if trainer.loggers else None  # asks all processes
        if folder is not None:
            name = Path(FILE_NAME)
            if trainer.global_rank:
                name = name.with_suffix(f".{trainer.global_rank}{name.suffix}")
            self._file = Path(folder) / name
        self._start()
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            self._sync = SyncTimes(trainer.strategy.model)

    def on_train_epoch_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Start the clocks of an epoch."""
        self._end_epoch()
        self._start()
        self._wait_begins(trainer)

    def _start(self) -> None:
        self._epoch = dict(self._total), dict(self._samples)
        self._mark, self._waited = perf_counter(), waited_here("loader")

    def _wait_begins(self, trainer: Trainer) -> None:
        if isinstance(trainer.train_dataloader, DataLoader) and self._wait is None:
            self._wait = waiting("loader")
            self._wait.__enter__()

    def _wait_ends(self) -> None:
        if self._wait is not None:
            self._wait.__exit__()
            self._wait = None

    def on_train_batch_start(
        self, trainer: Trainer, module: lightning.LightningModule, batch: Any, _: int
    ) -> None:
        """The batch is there."""
        self._wait_ends()

    def on_train_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Add a step."""
        now, waited = perf_counter(), waited_here("loader")
        self._total["train"] += now - self._mark
        self._total["wait"] += waited - self._waited
        if self._sync is not None:
            under_way = self._sync.take()
            self._total["sync"] += under_way
            add(Totals(waits={"synchronisation": Times.of([under_way])}))
        self._samples["train"] += len(batch["image"])
        self._mark, self._waited = now, waited
        self._wait_begins(trainer)
        self._work = Work(self._samples["train"], self._total["train"], self._total["wait"])

    def on_validation_epoch_start(
        self, trainer: Trainer, module: lightning.LightningModule
    ) -> None:
        """Start the clock of a validation."""
        self._wait_ends()
        if not trainer.sanity_checking:
            self.finish(module.device)
        self._mark_val, self._waited_val = perf_counter(), waited_here("loader")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Count what was validated."""
        if not trainer.sanity_checking:
            self._samples["val"] += len(batch["image"])

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Add a validation, post-processing and metric included."""
        if trainer.sanity_checking:
            return
        now, waited = perf_counter(), waited_here("loader")
        self._total["val"] += now - self._mark_val
        self._total["val_wait"] += waited - self._waited_val
        self._mark, self._waited = now, waited
        self._wait_begins(trainer)  # more of the epoch may come

    def on_train_epoch_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Log the epoch's figures."""
        self._wait_ends()
        self.finish(module.device)
        before, samples = self._epoch
        spent = {name: value - before[name] for name, value in self._total.items()}
        seen = {name: value - samples[name] for name, value in self._samples.items()}
        figures, totals = _figures(spent, seen), everything() - self._told
        self._line = {
            **{"epoch": trainer.current_epoch, "step": trainer.global_step},
            **{"process": trainer.global_rank, "samples": seen, "seconds": spent},
            **{"figures": figures, "memory": resident_memory()},
            "device_memory": _device_memory(module.device),
            **self.beside(),
        }
        if not trainer.is_global_zero:
            return
        for name, value in figures.items():
            module.log(f"time/{name}", value, rank_zero_only=True)
        for kind, found in (("stage", totals.stages), ("wait", totals.waits)):
            for name, times in found.items():
                for label, share in _LOGGED:
                    value = 1000 * (times.longest if share == 1 else times.quantile(share))
                    module.log(f"{kind}/{name}/{label}", value, rank_zero_only=True)

    def _end_epoch(self) -> None:
        """Write the line of an epoch that is over, with its checkpoint, which comes after it."""
        if self._line is None:
            return
        so_far, line = everything(), self._line
        self._line, told = None, self._told
        self._told = so_far
        self._write({**line, **(so_far - told).as_dict()})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            rank_zero_warn(f"{self._file}: cannot be written ({error.strerror}); training goes on")
            self._file = None

    def on_exception(
        self, trainer: Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Keep the figures of an epoch that was over."""
        self._end_epoch()

    def on_train_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Say what the training's time went to."""
        self._end_epoch()
        figures = _figures(self._total, self._samples)
        if not figures:
            return
        for line in _table(everything() - self._begun):
            rank_zero_info(line)
        if isinstance(trainer.train_dataloader, BatchLoader):
            rank_zero_info(memory_line(trainer.train_dataloader))
        who = f"each of {trainer.world_size} processes " if trainer.world_size > 1 else ""
        line = (
            f"{who}trained on {self._samples['train']} samples in {self._total['train']:.1f} s, "
            f"{figures['train_sample']:.1f} ms each; "
            f"waited for the loader {self._total['wait']:.2f} s, "
            f"{100 * figures['loader_wait']:.2f} % of the time"
        )
        if self._sync is not None:
            line += f"; gradients were under way {100 * figures['sync']:.1f} %"
        if "val_sample" in figures:
            line += f"; validation {figures['val_sample']:.1f} ms per sample"
        hmean = trainer.callback_metrics.get("val/hmean")
        rank_zero_info(line + (f"; val/hmean {float(hmean):.4f}" if hmean is not None else ""))
        if isinstance(trainer.train_dataloader, DataLoader):
            workers, cores = trainer.train_dataloader.num_workers, int(joblib.cpu_count())
            tip = advice(workers, figures["loader_wait"], cores)
            if tip:
                rank_zero_info(tip)
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            rank_zero_info(f"best checkpoint: {best}")


def _figures(spent: dict[str, float], samples: dict[str, int]) -> dict[str, float]:
    found = {}
    if samples["train"]:
        found["train_sample"] = 1000 * spent["train"] / samples["train"]
        found["samples_per_second"] = samples["train"] / spent["train"]
        found["loader_wait"] = spent["wait"] / spent["train"]
        found["sync"] = spent["sync"] / spent["train"]
    if samples["val"]:
        found["val_sample"] = 1000 * spent["val"] / samples["val"]
    return found


def memory_line(loader: BatchLoader) -> str:
    """How much memory a loader and its dataset take, and what of it."""
    held = footprint(loader.memory)
    parts = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in held.items())
    total, samples = sum(held.values()), max(1, len(loader.dataset))
    return f"the data takes {total / samples:,.0f} bytes of memory per sample: {parts}"


def _device_memory(device: torch.device) -> int | None:
    """Most bytes that tensors have taken on the device so far; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _table(totals: Totals) -> list[str]:
    """Stages and waits as lines of a table, the longest first."""
    rows = [(name, times) for name, times in totals.stages.items()]
    rows += [(f"wait: {name}", times) for name, times in totals.waits.items()]
    lines = [f"{'stage':<20}{'times':>8}{'seconds':>10}{'median':>12}{'95 %':>12}{'longest':>12}"]
    for name, times in sorted(rows, key=lambda row: -row[1].seconds):
        durations = "".join(f"{1000 * value:>9.2f} ms" for value in _durations(times))
        lines.append(f"{name:<20}{times.count:>8}{times.seconds:>10.2f}{durations}")
    return lines


def _durations(times: Times) -> tuple[float, float, float]:
    return times.quantile(0.5), times.quantile(0.95), times.longest
