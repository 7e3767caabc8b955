"""Charts of what was measured."""

from __future__ import annotations

from pathlib import Path

from ocr_precompute.errors import StoreError
from ocr_precompute.files import writing
from ocr_precompute.reports.bench import BenchReport


def plot_bench(report: BenchReport, path: Path) -> None:
    """A stacked bar a path, milliseconds a sample on one thread, as a PNG.

    Raises StoreError if matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StoreError(
            f"{path}: drawing needs matplotlib; pip install 'ocr-precompute[plot]'"
        ) from error
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    for row, (name, result) in enumerate((("live", report.live), ("store", report.store))):
        left = 0.0
        for stage in result.stages:
            label = f"{name}: {stage.name}, {stage.milliseconds:.2f} ms"
            axes.barh(row, stage.milliseconds, left=left, label=label)
            left += stage.milliseconds
        axes.text(left, row, f" {left:.2f} ms", va="center")
    axes.set_yticks([0, 1], ["live", "store"])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(report.live.milliseconds, report.store.milliseconds))
    axes.set_xlabel("milliseconds a sample, one thread, files in the page cache")
    axes.set_title(
        f"{report.split}: {report.factor:.1f} times as many samples a second from the store "
        f"({report.threads} threads)",
        fontsize="medium",
    )
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    with writing(path):
        figure.savefig(path, format="png", dpi=150)
