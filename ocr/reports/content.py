"""What a report shows, in order, as data: the page's script puts it into elements, as text.

A section has a title and parts. A part is a dict whose `kind` says how it is shown: `text`, `note`,
`chart`, `bars`, `table`, `facts`, `worst`, `file`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ocr.reports.files import fields, many
from ocr.reports.learning import learning, scores
from ocr.reports.mistakes import mistakes
from ocr.reports.run import Run
from ocr.reports.spent import resources, speed

_STATES = {
    "running": "not ended: under way, or killed",
    "finished": "finished",
    "interrupted": "interrupted",
}
_SETTINGS = (
    ("Backbone", "model", "backbone"),
    ("Channels", "model", "channels"),
    ("Start from weights", "model", "weights"),
    ("Store", "data", "store"),
    ("Live", "data", "live"),
    ("Batch size", "data", "batch_size"),
    ("Crop, px", "data.augmentation", "crop"),
    ("Optimiser", "optimizer", "class_path"),
    ("Learning rate", "optimizer.init_args", "lr"),
    ("Epochs, at most", "trainer", "max_epochs"),
    ("Precision", "trainer", "precision"),
    ("Post-processing", "model.postprocess", "mode"),
    ("min_score", "model.postprocess", "min_score"),
    ("Seed", "", "seed_everything"),
)


def content(run: Run, pictures: Mapping[str, str]) -> dict[str, Any]:
    """All that the page of a run shows.

    pictures: data URLs by the names of the worst images' files, as far as they are there.
    """
    return {
        "title": run.name,
        "facts": _facts(run),
        "figures": _figures(run),
        "notes": list(run.notes),
        "sections": [
            {"id": "learning", "title": "Learning", "parts": learning(run)},
            {"id": "scores", "title": "Validation", "parts": scores(run)},
            {"id": "worst", "title": "Worst images", "parts": mistakes(run, pictures)},
            {"id": "speed", "title": "Speed", "parts": speed(run)},
            {"id": "resources", "title": "Memory and resources", "parts": resources(run)},
            {"id": "alerts", "title": "Alerts", "parts": _alerts(run)},
            {"id": "setup", "title": "Configuration and versions", "parts": _setup(run)},
        ],
    }


def _facts(run: Run) -> list[str]:
    steps = max([epoch.step for process in run.processes for epoch in process.epochs], default=0)
    points = run.curves.points.values()
    steps = max([steps, *(int(x) for series in points for x, _ in series[-1:])])
    epochs = max([len(process.epochs) for process in run.processes], default=0)
    epochs = max(epochs, len(run.curves.ends))
    record = run.record
    facts = [_STATES[record.state]] if record.state in _STATES else []
    facts += [many(epochs, "whole epoch")] if epochs or steps else []
    facts += [many(steps, "step")] if steps else []
    if len(run.processes) > 1:
        facts.append(f"{len(run.processes)} processes")
    facts += [f"begun {record.begun}"] if record.begun else []
    facts += [f"ended {record.ended}"] if record.ended else []
    return facts


def _figures(run: Run) -> list[list[str]]:
    """The few numbers that are asked for first: name, value, and a word on it."""
    figures = []
    hmean = run.curves.points.get("val/hmean", ())
    if hmean:
        place, best = max(hmean, key=lambda point: (point[1], -point[0]))
        at = f"at {run.epochs.unit} {run.epochs.place(place):.3g}"
        figures.append(["Best H-mean", f"{best:.4f}", f"{at}; last {hmean[-1][1]:.4f}"])
    elif run.validated is not None:
        precision, recall, last = run.validated.counts.at(0)
        said = f"precision {precision:.4f}, recall {recall:.4f}"
        figures.append(["Last H-mean", f"{last:.4f}", said])
    sums = [process.sums for process in run.processes]
    seconds = max([each.get("seconds/train", 0.0) for each in sums], default=0.0)
    if seconds:
        samples = sum(each.get("samples/train", 0.0) for each in sums)
        waited = sum(each.get("seconds/wait", 0.0) for each in sums)
        all_seconds = sum(each.get("seconds/train", 0.0) for each in sums)
        value = f"{samples / seconds:.4g}"
        said = "while training" if len(sums) < 2 else f"while training, {len(sums)} processes"
        figures.append(["Samples per second", value, said])
        figures.append(
            ["Waited for the loader", f"{100 * waited / all_seconds:.1f} %", "of the training"]
        )
    memory = sum(each.get("resources/memory_peak", each.get("memory", 0.0)) for each in sums)
    if memory:
        figures.append(["Memory, at most", f"{memory / 1e6:,.0f} MB", "of all processes"])
    if run.processes:
        alerts = sum(len(process.alerts) for process in run.processes)
        figures.append(["Alerts", str(alerts), "see below" if alerts else "none was raised"])
    return figures


def _alerts(run: Run) -> list[dict[str, Any]]:
    alerts = [alert for process in run.processes for alert in process.alerts]
    if not alerts:
        said = "No alert was raised." if run.processes else "Nothing says whether any was raised."
        return [{"kind": "text", "text": said}]
    rows = [
        [
            alert.rule,
            alert.detail,
            str(alert.process),
            str(alert.epoch + 1),
            "" if alert.raised is None else f"{alert.raised:.0f}",
            "" if alert.over is None else f"{alert.over:.0f}",
        ]
        for alert in sorted(alerts, key=lambda alert: alert.raised or 0.0)
    ]
    head = ["Rule", "What it said", "Process", "Epoch", "Raised, s", "Over, s"]
    return [{"kind": "table", "head": head, "rows": rows}]


def _setup(run: Run) -> list[dict[str, Any]]:
    facts = []
    for label, place, name in _SETTINGS:
        found: Any = run.settings
        for step in place.split(".") if place else ():
            found = fields(fields(found).get(step))
        value = fields(found).get(name)
        if isinstance(value, str | int | float) and value != "":
            facts.append([label, str(value)[:200]])
    parts: list[dict[str, Any]] = []
    parts += _fact_list("Settings", facts)
    parts += _fact_list("Data", run.record.data.items())
    parts += _fact_list("Machine", run.record.machine.items())
    versions = list(run.record.versions.items())
    parts += _fact_list("Versions when it ran", versions)
    if not versions:
        said = "No versions were recorded when the training ran."
        parts.append({"kind": "note", "text": said})
    if run.config:
        parts.append({"kind": "file", "title": "config.yaml", "text": run.config})
    else:
        parts.append({"kind": "note", "text": "There is no config.yaml that can be shown."})
    return parts


def _fact_list(title: str, facts: Iterable[Sequence[str]]) -> list[dict[str, Any]]:
    rows = [list(fact) for fact in facts]
    return [{"kind": "facts", "title": title, "rows": rows}] if rows else []
