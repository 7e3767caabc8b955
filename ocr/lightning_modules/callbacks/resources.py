"""What a training uses of its machine: in its log, its figures and as metrics; and its alerts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from ocr.lightning_modules.callbacks.performance import Performance
from ocr_precompute.monitoring.exporter import MetricsPort
from ocr_precompute.monitoring.gpu import Gpus, NoGpus
from ocr_precompute.monitoring.monitor import INTERVAL, Monitor, NoMonitor, resources_line
from ocr_precompute.monitoring.rules import Alert, Rule, rules_of_a_training
from ocr_precompute.runtime.stages import everything

_LOGGED = (
    *("cpu_share", "memory_peak", "memory_share", "read_bytes", "written_bytes", "mean_read"),
    *("major_faults", "received_bytes", "sent_bytes", "gpu_share", "gpu_memory_peak"),
)


class ResourceMonitor(lightning.Callback):
    """Looks at what each process of a run uses, beside it, and changes nothing that it computes.

    An epoch's resources and the alerts raised in it go into the lines that Performance writes, and
    those of the first process as resources/cpu_share and so on through Lightning's logger. Whatever
    fails here is one warning, and the run goes on.
    """

    def __init__(
        self,
        times: Performance,
        *,
        interval: float = INTERVAL,
        metrics_port: int | None = None,
        rules: Sequence[Rule] | None = None,
    ) -> None:
        """times: knows how far the training is, and writes what was used with its own figures.

        interval: seconds from look to look. metrics_port: of this machine, where metrics are shown
        while the run goes on; further processes of the machine take the ports after it. rules: what
        alerts are raised by; those of a training by default.
        """
        self._times, self._interval = times, interval
        self._port, self._rules = metrics_port, rules or rules_of_a_training()
        self._monitor = NoMonitor()
        self._told = 0
        self._earlier: tuple[Alert, ...] = ()  # of what this callback has looked at before
        self._epoch: dict[str, Any] = {}
        times.beside = lambda: self._epoch

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """All that were raised so far, in this process."""
        return self._earlier + self._monitor.seen.alerts

    def setup(self, trainer: Trainer, module: lightning.LightningModule, stage: str) -> None:
        """Begin to look."""
        self._end()
        saved = [logger.save_dir for logger in trainer.loggers if logger.save_dir]
        labels = {"run": stage, "process": str(trainer.global_rank)}
        port = self._port and self._port + trainer.local_rank
        sinks = [] if port is None else [MetricsPort(port, labels, everything)]
        self._monitor = Monitor(
            Path(saved[0] if saved else trainer.default_root_dir),
            self._rules,
            interval=self._interval,
            work=lambda: self._times.work,
            gpus=_gpus(trainer.strategy.root_device),
            apart=[process.pid for process in getattr(trainer.strategy.launcher, "procs", ())],
            sinks=sinks,
        )
        self._monitor.__enter__()
        if sinks and sinks[0].url:
            rank_zero_info(f"metrics at {sinks[0].url}")

    def on_train_start(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Leave out of the first epoch what was used before it."""
        self._monitor.take()

    def on_train_epoch_end(self, trainer: Trainer, module: lightning.LightningModule) -> None:
        """Log what the epoch used, and keep it for its line."""
        used, alerts = self._monitor.take(), self.alerts
        self._epoch = {
            "resources": used and used.as_dict(),
            "alerts": [alert.as_dict() for alert in alerts[self._told :]],
        }
        self._told = len(alerts)
        if used is None or not trainer.is_global_zero:
            return
        figures = used.as_dict()
        for name in _LOGGED:
            if name in figures:
                module.log(f"resources/{name}", float(figures[name]), rank_zero_only=True)

    def on_exception(
        self, trainer: Trainer, module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """The run is over."""
        self._end()

    def teardown(self, trainer: Trainer, module: lightning.LightningModule, stage: str) -> None:
        """The run is over; say what it used."""
        self._monitor.close()
        seen = self._monitor.seen
        if stage == "fit" and seen.total.seconds:
            rank_zero_info(resources_line(seen))
        self._end()

    def _end(self) -> None:
        self._monitor.close()
        self._earlier += self._monitor.seen.alerts
        self._monitor = NoMonitor()


def _gpus(device: torch.device) -> NoGpus:
    """The one that the process computes on, if it does."""
    if device.type != "cuda":
        return NoGpus()
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return Gpus(None if uuid is None else [f"GPU-{uuid}"])
