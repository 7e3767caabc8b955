"""What a report shows of time and machine: speed, stages and waits, memory, processor, disks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ocr.reports.charts import Axis, Chart, Curve, in_unit, short
from ocr.reports.performance import Process, Took
from ocr.reports.run import Run
from ocr.reports.series import thinned

_MISSING = "There is no performance.jsonl: nothing says {}."
_TOTALS: tuple[tuple[str, str, float, str], ...] = (
    ("Processor used", "resources/cpu_seconds", 1, "s"),
    ("Read from disks", "resources/read_bytes", 1e6, "MB"),
    ("Written to disks", "resources/written_bytes", 1e6, "MB"),
    ("Pages that came from a disk", "resources/major_faults", 1, ""),
    ("Received by the machine", "resources/received_bytes", 1e6, "MB"),
    ("Sent by the machine", "resources/sent_bytes", 1e6, "MB"),
    ("Memory, at most", "resources/memory_peak", 1e6, "MB"),
    ("Taken of all memory, at most", "resources/memory_share", 0.01, "%"),
    ("Processes, at most", "resources/processes", 1, ""),
    ("Tensors on the device, at most", "device_memory", 1e6, "MB"),
    ("Taken on the GPU, at most", "resources/gpu_memory_peak", 1e6, "MB"),
    ("GPU at work", "resources/gpu_busy_seconds", 1, "s"),
)


_ABOUT = {
    "Stages": "Each stage's own time, without the stages inside it. Those of the loader's threads "
    "run beside the training's loop, so all together take longer than the training did.",
    "Waits in all": "Time in which a thread did nothing.",
}


def speed(run: Run) -> list[dict[str, Any]]:
    """Samples a second, waits, and where the time went."""
    if not run.processes:
        return [{"kind": "note", "text": _MISSING.format("where the time went")}]
    parts = []
    about = "Of training, without validation; each process's own samples."
    parts += _over_epochs(run, "Samples per second", about, {"samples_per_second": ""}, "/s")
    waits = {"loader_wait": "loader", "sync": "synchronisation"}
    if all(not epoch.values.get("sync") for p in run.processes for epoch in p.epochs):
        del waits["sync"]
    about = "Share of the training in which it waited for batches"
    about += ", or gradients were under way between processes." if "sync" in waits else "."
    parts += _over_epochs(run, "Waits", about, waits, "%", lambda value: 100 * value)
    parts += _bars(run, "Stages", lambda process: process.stages)
    parts += _bars(run, "Waits in all", lambda process: process.waits)
    return parts


def resources(run: Run) -> list[dict[str, Any]]:
    """Memory and processor over the epochs, and what else was used in all."""
    if not run.processes:
        return [{"kind": "note", "text": _MISSING.format("what was used")}]
    parts = []
    memory = {"resources/memory_peak": "without mapped files", "memory": "with mapped files"}
    about = (
        "Without mapped files the most in the epoch, of the process and all that it started; with "
    )
    about += "them the process alone, at the epoch's end."
    parts += _over_epochs(run, "Memory", about, memory, "MB", lambda value: value / 1e6)
    device = {"device_memory": "tensors", "resources/gpu_memory_peak": "all on it"}
    about = "Most that tensors have taken so far, and most that was taken by whomever."
    parts += _over_epochs(run, "GPU memory", about, device, "MB", lambda value: value / 1e6)
    share = {"resources/cpu_share": "processor", "resources/gpu_share": "GPU"}
    about = "Mean share of the epoch in which it worked, of what the process may use."
    parts += _over_epochs(
        run, "Processor and GPU", about, share, "%", lambda value: min(100 * value, 100), most=100.0
    )
    parts += _in_all(run)
    if not any("resources/cpu_share" in epoch.values for p in run.processes for epoch in p.epochs):
        said = "Nobody looked at what the run used of its machine (monitor: false)."
        parts.append({"kind": "note", "text": said})
    return parts


def _in_all(run: Run) -> list[dict[str, Any]]:
    """What was used in the whole run, as a list, or of several processes as a table."""
    rows = []
    for label, name, scale, unit in _TOTALS:
        values = [process.sums.get(name) for process in run.processes]
        if any(value is not None for value in values):
            shown = ["" if value is None else f"{short(value / scale)} {unit}" for value in values]
            rows.append([label, *shown])
    if len(run.processes) == 1:
        return [{"kind": "facts", "title": "In all", "rows": rows}] if rows else []
    head = ["In all", *(_who(run, process) for process in run.processes)]
    return [{"kind": "table", "head": head, "rows": rows}] if rows else []


def _who(run: Run, process: Process) -> str:
    return f"process {process.number}" if len(run.processes) > 1 else ""


def _over_epochs(
    run: Run,
    title: str,
    about: str,
    names: dict[str, str],
    unit: str,
    scale: Callable[[float], float] = lambda value: value,
    most: float | None = None,
) -> list[dict[str, Any]]:
    """A chart of some figures of each process; none if nobody has any."""
    curves = []
    for process in run.processes:
        for name, label in names.items():
            points = tuple(
                (float(epoch.epoch + 1), epoch.values[name])
                for epoch in process.epochs
                if name in epoch.values
            )
            if points:
                who = ", ".join(part for part in (label, _who(run, process)) if part)
                rounded = in_unit(thinned(points), lambda y: float(f"{scale(y):.5g}"))
                curves.append(Curve(who or title.lower(), rounded))
    if not curves:
        return []
    xs, ys = ([point[axis] for curve in curves for point in curve.points] for axis in (0, 1))
    x, y = Axis.over("epoch", xs), Axis.over("", ys, unit, most=most)
    return [Chart(title, about, x, y, tuple(curves)).as_dict()]


def _bars(run: Run, title: str, of: Callable[[Process], Any]) -> list[dict[str, Any]]:
    """A bar for each stage and process, those that took longest first."""
    took: dict[str, dict[int, Took]] = {}
    for process in run.processes:
        for name, times in of(process).items():
            took.setdefault(name, {})[process.number] = times
    most = max((times.seconds for each in took.values() for times in each.values()), default=0.0)
    if not took or most <= 0:
        return []
    order = sorted(took, key=lambda name: -max(times.seconds for times in took[name].values()))
    rows = [
        [
            name,
            _who(run, process),
            round(times.seconds / most, 4),
            f"{times.seconds:.2f}",
            f"{times.count:,}",
            f"{1000 * times.seconds / max(times.count, 1):.4g}",
            f"{1000 * times.longest:.4g}",
        ]
        for name in order
        for process in run.processes
        if (times := took[name].get(process.number)) is not None
    ]
    head = ["Stage" if title == "Stages" else "Wait for", "Process", "", "s in all", "times"]
    head += ["mean, ms", "longest, ms"]
    part = {"kind": "bars", "title": title, "about": _ABOUT[title], "head": head, "rows": rows}
    return [part | {"processes": len(run.processes) > 1}]
