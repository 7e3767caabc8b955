"""What looks at a build while it runs: how far it is, what it uses, whether memory is short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from ocr_precompute.monitoring.exporter import MetricsFile, MetricsPort
from ocr_precompute.monitoring.monitor import Monitor, NoMonitor, Seen, Sink
from ocr_precompute.monitoring.rules import MemoryShort, Work, rules_of_a_build
from ocr_precompute.runtime.stages import Totals
from ocr_precompute.settings import Settings


class BuildWatch:
    """Watches a build within a `with`, as far as the settings have it watched."""

    def __init__(
        self, settings: Settings, home: Path, split: str, totals: Callable[[], Totals]
    ) -> None:
        """home: the store's folder of this machine. totals: gives what workers have recorded."""
        self._work, self._mark = Work(), perf_counter()
        self._monitor = NoMonitor()
        if settings.monitor:
            labels = {"run": "build", "split": split}
            self._monitor = Monitor(
                home,
                rules_of_a_build(),
                interval=settings.monitor_interval,
                work=lambda: self._work,
                sinks=_sinks(settings, labels, totals),
            )

    def __enter__(self) -> BuildWatch:
        self._monitor.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._monitor.close()

    @property
    def seen(self) -> Seen:
        """What was used so far, and the alerts."""
        return self._monitor.seen

    def crowded(self) -> bool:
        """Whether memory is short."""
        return self._monitor.is_on(MemoryShort.name)

    def encoding(self) -> None:
        """The clock of samples starts."""
        self._mark = perf_counter()

    def encoded(self, samples: int) -> None:
        """A shard of so many samples is finished."""
        now = perf_counter()
        done, seconds = self._work.samples + samples, self._work.seconds + now - self._mark
        self._work, self._mark = Work(done, seconds), now


def _sinks(settings: Settings, labels: dict[str, str], totals: Callable[[], Totals]) -> list[Sink]:
    sinks: list[Sink] = []
    if settings.metrics_port is not None:
        sinks.append(MetricsPort(settings.metrics_port, labels, totals))
    if settings.metrics_file is not None:
        sinks.append(MetricsFile(settings.metrics_file, labels, totals))
    return sinks
