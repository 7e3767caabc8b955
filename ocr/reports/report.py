"""A training's report: one HTML file that needs nothing but itself."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from ocr.reports.content import content
from ocr.reports.run import Run, read_run
from ocr.reports.validation import read_picture
from ocr_precompute.files import replace_file, writing
from ocr_precompute.reports.page import asset, embedded, page

REPORT = "report.html"
_KIND = "report"
_HERE = "ocr.reports"


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder, and give its path: report.html in the folder by default.

    Raises RunError if there is no run in the folder, StoreError if the report cannot be written.
    """
    run = read_run(folder)
    path = out or folder / REPORT
    data = document(run, _pictures(folder, run)).encode()
    with writing(path, "name another place with --out"):
        replace_file(path, data)
    return path


def document(run: Run, pictures: dict[str, str]) -> str:
    """The page of a run. pictures: data URLs by the names of the worst images' files."""
    return page(
        _KIND,
        f"{run.name}: report",
        asset("report.html", _HERE),
        asset("base.css") + asset("report.css", _HERE),
        asset("report.js", _HERE),
        [("run", embedded(content(run, pictures)))],
    )


def _pictures(folder: Path, run: Run) -> dict[str, str]:
    worst = run.validated.worst if run.validated else ()
    found = {each.picture: read_picture(folder, each) for each in worst}
    return {
        name: f"data:image/jpeg;base64,{b64encode(data).decode()}"
        for name, data in found.items()
        if data is not None
    }
