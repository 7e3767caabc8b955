"""Charts of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocr_precompute.errors import StoreError
from ocr_precompute.files import writing
from ocr_precompute.reports.contest import BenchReport, Contest


def plot_bench(report: BenchReport, path: Path) -> None:
    """A stacked bar a path, milliseconds per sample on one thread, as a PNG; varied samples above.

    Raises StoreError if matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StoreError(
            f"{path}: drawing needs matplotlib; pip install 'ocr-precompute[plot]'"
        ) from error
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    upper, lower = figure.subplots(2)
    _draw(upper, report.varied, f"varied, crops of {report.crop}", report)
    _draw(lower, report.plain, "as stored", report)
    with writing(path):
        figure.savefig(path, format="png", dpi=150)


def _draw(axes: Any, contest: Contest, kind: str, report: BenchReport) -> None:
    for row, (name, result) in enumerate((("live", contest.live), ("store", contest.store))):
        left = 0.0
        for stage in result.stages:
            label = f"{name}: {stage.name}, {stage.milliseconds:.2f} ms"
            axes.barh(row, stage.milliseconds, left=left, label=label)
            left += stage.milliseconds
        axes.text(left, row, f" {left:.2f} ms", va="center")
    axes.set_yticks([0, 1], ["live", "store"])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * max(contest.live.milliseconds, contest.store.milliseconds))
    axes.set_xlabel("milliseconds per sample, one thread, files in the page cache")
    axes.set_title(
        f"{report.split}, {kind}: {contest.factor:.1f} times as many samples per second from the "
        f"store ({report.threads} threads)",
        fontsize="medium",
    )
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
