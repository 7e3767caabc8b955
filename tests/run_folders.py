"""Run folders as a training leaves them, small and made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

HOSTILE = "<img src=x onerror=hacked=1>.jpg"
COLUMNS = ["epoch", "step", "train/loss", "train/prob_loss", "val/hmean", "val/precision"]
COLUMNS += ["val/recall", "time/samples_per_second"]


def epoch_line(epoch: int, process: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of performance.jsonl: an epoch of 10 steps."""
    took = {"count": 10, "seconds": 2.0 + process, "p50": 0.2, "p95": 0.3, "max": 0.4 + epoch}
    return {
        "epoch": epoch,
        "step": 10 * (epoch + 1),
        "process": process,
        "samples": {"train": 40, "val": 8},
        "seconds": {"train": 4.0, "wait": 0.4, "sync": 0.0, "val": 1.0},
        "figures": {"samples_per_second": 10.0 + process, "loader_wait": 0.1, "sync": 0.0},
        "memory": 500_000_000,
        "device_memory": None,
        "stages": {"forward": took, "decode": {**took, "seconds": 0.5}},
        "waits": {"loader": {**took, "seconds": 0.4}},
        "counts": {},
        "resources": {"cpu_share": 0.5, "memory_peak": 400_000_000, "cpu_seconds": 2.0},
        "alerts": [],
        **changes,
    }


def write_lines(path: Path, lines: list[Any]) -> None:
    """Write objects as JSON lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def write_metrics(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as a CSVLogger does."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def metric_rows(epochs: int) -> list[dict[str, Any]]:
    """Losses at steps 5 and 10 of each epoch, and a validation at its end."""
    rows: list[dict[str, Any]] = []
    for epoch in range(epochs):
        last = 10 * epoch + 9
        rows += [
            {"epoch": epoch, "step": last - 5, "train/loss": 8 - epoch, "train/prob_loss": 0.5},
            {"epoch": epoch, "step": last, "train/loss": 7.5 - epoch, "train/prob_loss": 0.25},
            {
                **{"epoch": epoch, "step": last, "val/hmean": 0.5 + epoch / 10},
                **{"val/precision": 0.6, "val/recall": 0.4},
            },
            {"epoch": epoch, "step": last, "time/samples_per_second": 10.0},
        ]
    return rows


def make_run(folder: Path, epochs: int = 3, processes: int = 1) -> Path:
    """A run folder with curves, figures and a configuration."""
    folder.mkdir(parents=True)
    write_metrics(folder / "metrics.csv", metric_rows(epochs))
    for process in range(processes):
        name = f"performance.{process}.jsonl" if process else "performance.jsonl"
        write_lines(folder / name, [epoch_line(epoch, process) for epoch in range(epochs)])
    (folder / "config.yaml").write_text(
        "# lightning.pytorch==2.6\nseed_everything: 3\nmodel:\n  backbone: resnet-18\n"
    )
    return folder
