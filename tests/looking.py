"""Run `ocr-train` with a callback that looks at the process from inside: a script for the tests.

Arguments: those of `ocr-train`. The last line that it prints is a JSON list of the threads that are
left when the command is over.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import threading
import urllib.request
from pathlib import Path
from typing import Any

import lightning

from ocr.lightning_modules.callbacks import ResourceMonitor
from ocr_precompute.runtime.clock import resident_memory

PATIENCE = 60.0  # seconds after which a test fails


def open_files() -> list[str]:
    """What this process has open, without shards: these are open as long as their dataset is."""
    folder, found = Path("/proc/self/fd"), []
    for descriptor in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            found.append(os.readlink(folder / descriptor))
    return sorted(name for name in found if not name.endswith(".zip"))


class Looking(lightning.Callback):
    """Writes looked.0.json, of the second process looked.1.json: each step's loss, what the process
    holds at the end of each epoch, and its metrics as its port shows them during the first.
    """

    def __init__(self, out: str, port: int | None = None) -> None:
        """out: a folder. port: of the first process's metrics."""
        self._out, self._port = Path(out), port
        self._seen: dict[str, Any] = {"losses": [], "epochs": [], "metrics": ""}

    def on_train_batch_end(self, trainer, module, outputs, batch, index) -> None:
        self._seen["losses"].append(outputs["loss"].item())

    def on_train_epoch_end(self, trainer, module) -> None:
        if self._port is not None and trainer.current_epoch == 0:
            url = f"http://127.0.0.1:{self._port + trainer.local_rank}/metrics"
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                self._seen["metrics"] = answer.read().decode()
        gc.collect()
        with contextlib.ExitStack() as rest:
            for callback in trainer.callbacks:
                if isinstance(callback, ResourceMonitor):  # so that it has no file open just now
                    rest.enter_context(callback._monitor._lock)
            self._seen["epochs"].append(
                {
                    "threads": sorted(thread.name for thread in threading.enumerate()),
                    "tasks": len(os.listdir("/proc/self/task")),
                    "files": open_files(),
                    "memory": resident_memory(),
                }
            )

    def on_fit_end(self, trainer, module) -> None:
        metrics = trainer.callback_metrics.items()
        self._seen["hmean"] = next(float(value) for name, value in metrics if name == "val/hmean")
        path = self._out / f"looked.{trainer.global_rank}.json"
        path.write_text(json.dumps(self._seen))


if __name__ == "__main__":
    from ocr.command import main

    try:
        main()
    finally:
        print(json.dumps([thread.name for thread in threading.enumerate()]), flush=True)
