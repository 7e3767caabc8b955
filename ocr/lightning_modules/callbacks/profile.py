"""A profile of a training: a trace of some steps, and a page that says what it is bound by."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import joblib
import lightning
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from ocr.lightning_modules.callbacks.performance import Performance
from ocr.profiling import Evidence, Profiled, ProfiledWindow, verdict
from ocr_precompute.errors import one_line
from ocr_precompute.profiling.verdict import (
    Verdict,
    parts_page,
    stages_page,
    table,
    verdict_page,
)
from ocr_precompute.runtime.clock import major_faults, starved
from ocr_precompute.runtime.stages import Totals

FOLDER = "profile"
_AFTER, _STEPS = 10, 10  # steps before the first that is profiled, and how many are


@dataclass(frozen=True)
class _Mark:
    """How far a process was at an instant."""

    spent: dict[str, float]
    totals: Totals
    clock: float
    processor: float
    faults: int
    steps: int
    starved: float

    def since(self, earlier: _Mark) -> _Mark:
        """What came after an earlier one."""
        return _Mark(
            {name: value - earlier.spent[name] for name, value in self.spent.items()},
            self.totals - earlier.totals,
            self.clock - earlier.clock,
            self.processor - earlier.processor,
            self.faults - earlier.faults,
            self.steps - earlier.steps,
            self.starved - earlier.starved,
        )

    def __add__(self, other: _Mark) -> _Mark:
        return _Mark(
            {name: value + other.spent[name] for name, value in self.spent.items()},
            self.totals + other.totals,
            self.clock + other.clock,
            self.processor + other.processor,
            self.faults + other.faults,
            self.steps + other.steps,
            self.starved + other.starved,
        )


class Profile(lightning.Callback):
    """Writes, of each process, `profile/` in the run's folder: trace.json of some steps, which
    opens in Perfetto, and report.md and report.json, which say what the training was bound by.

    The steps that are profiled take longer than others, so they do not count for the verdict. Nor
    does the first step on a GPU, which loads the GPU's code.
    Whatever fails here is one warning, and the training goes on.
    """

    def __init__(self, times: Performance, *, after: int = _AFTER, steps: int = _STEPS) -> None:
        """times: knows how far the training is. after: steps before the first that is profiled."""
        self._times, self._after, self._steps = times, after, steps
        self._done = self._begun = 0  # steps, and how many when the profiler started
        self._starved = self._starved_before = 0.0  # in steps; of this thread when one began
        self._postponed = False
        self._window: ProfiledWindow | None = None
        self._profiled: Profiled | None = None
        self._folder: Path | None = None
        self._marks: list[_Mark] = []  # begin and end of stretches that count
        self._warm: _Mark | None = None  # after the first step on a GPU
        self._cores = 1.0  # that are this process's share of the machine

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Begin to look."""
        folder = trainer.log_dir if trainer.loggers else None  # asks all processes
        name = FOLDER if not trainer.global_rank else f"{FOLDER}.{trainer.global_rank}"
        self._folder = Path(folder or trainer.default_root_dir) / name
        self._cores = joblib.cpu_count() / trainer.num_devices
        self._marks, self._warm = [self._mark()], None

    def _mark(self) -> _Mark:
        spent, totals = self._times.so_far()
        clocks = perf_counter(), process_time()
        return _Mark(spent, totals, *clocks, major_faults(), self._done, self._starved)

    def on_train_batch_start(
        self, trainer: Trainer, module: lightning.LightningModule, batch: Any, _: int
    ) -> None:
        """The batch is there, so all that is needed now is a processor."""
        self._starved_before = starved()

    def on_train_batch_end(
        self, trainer: Trainer, module: lightning.LightningModule, outputs: Any, batch: Any, _: int
    ) -> None:
        """Start and stop the profiler between steps."""
        self._starved += starved() - self._starved_before
        self._done += 1
        if self._done == 1 and module.device.type == "cuda":
            self._attempt(lambda: self._warmed(module))
        if self._done == self._after:
            self._attempt(lambda: self._start(module))
        elif self._window is not None and self._done == self._begun + self._steps:
            self._attempt(self._stop)

    def on_validation_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Profile no validation: the steps before it will do, or else some after it."""
        if self._window is not None:
            self._postponed = self._done == self._begun
            self._attempt(self._stop)

    def on_validation_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Start the profiler, if there was no step to profile before."""
        if self._postponed:
            self._postponed = False
            self._attempt(lambda: self._start(module))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # another profiler runs, a full disk: whatever it is
            rank_zero_warn(f"profile: {one_line(error)}; the training goes on without it")
            self._window = None
            if len(self._marks) % 2 == 0:  # what comes now counts again
                self._marks.append(self._mark())
        self._times.skip()

    def _warmed(self, module: lightning.LightningModule) -> None:
        self._times.finish(module.device)
        self._warm = self._mark()

    def _start(self, module: lightning.LightningModule) -> None:
        self._times.finish(module.device)
        self._marks.append(self._mark())
        self._begun = self._done
        self._window = ProfiledWindow(module.device)
        self._window.start()

    def _stop(self) -> None:
        window, self._window = self._window, None
        if window is None or self._folder is None:
            return
        steps = self._done - self._begun
        if steps:
            self._profiled = window.stop(steps, self._folder / "trace.json")
        else:
            window.discard()
        self._times.skip()
        self._marks.append(self._mark())

    def on_exception(
        self, trainer: Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Stop the profiler of a training that was interrupted."""
        window, self._window = self._window, None
        if window is not None:
            self._attempt(window.abandon)

    def on_train_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Write the report, and say what the training was bound by."""
        self._attempt(self._tell)

    def _tell(self) -> None:
        self._stop()  # too few steps: profile those that there were
        if self._warm is not None and self._done > 1:
            self._marks[0] = self._warm
        self._marks.append(self._mark())
        starts, ends = self._marks[::2], self._marks[1::2]
        stretches = [end.since(start) for start, end in zip(starts, ends, strict=False)]
        seen = _evidence(reduce(operator.add, stretches), self._profiled, self._cores)
        if self._folder is None or not seen.seconds:
            return
        said = verdict(seen)
        self._folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(report(said, seen, self._profiled)) + "\n"
        (self._folder / "report.md").write_text(text, encoding="utf-8")
        data = {"verdict": said.as_dict(), "parts": seen.parts(), **seen.totals.as_dict()}
        data["profiled"] = self._profiled and {**asdict(self._profiled), "trace": "trace.json"}
        (self._folder / "report.json").write_text(json.dumps(data, indent=2), encoding="utf-8")
        rank_zero_info(f"{said.line} ({self._folder / 'report.md'})")


def _evidence(found: _Mark, profiled: Profiled | None, cores: float) -> Evidence:
    return Evidence(
        training=found.spent["train"],
        validation=found.spent["val"],
        waited=found.spent["wait"],
        waited_validating=found.spent["val_wait"],
        synchronising=found.spent["sync"],
        totals=found.totals,
        processor=min(1.0, found.processor / (found.clock * cores)) if found.clock else 0.0,
        faults=found.faults,
        steps=found.steps,
        starved=found.starved,
        device=profiled.device if profiled else None,
    )


def report(said: Verdict, seen: Evidence, profiled: Profiled | None) -> Iterator[str]:
    """The page, Markdown."""
    yield from verdict_page(said, "training")
    yield from parts_page(seen.parts(), "loop", seen.seconds)
    yield from stages_page(seen.totals, "on all threads")
    if profiled is None:
        yield from ("", "No step was profiled: the training was too short.")
        return
    yield from ("", f"## Operations that took longest in {profiled.steps} steps", "")
    yield from table(
        ("operation", "calls", "own time"),
        (
            (f"`{each.name}`", each.calls, f"{1000 * each.seconds:.1f} ms")
            for each in profiled.operations
        ),
    )
    yield from ("", f"`{profiled.trace.name}` shows these steps; open it at ui.perfetto.dev.")
