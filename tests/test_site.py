"""The documents as a site: complete, without a network, and with what the code has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import typer
from needs import browser

import ocr_precompute
from ocr.command import MODULES
from ocr_precompute.cli import app
from ocr_precompute.settings import Packing, Rules, Settings, Source

pytestmark = pytest.mark.mkdocs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as scripts/docs does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    built = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    return folder


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    return import_module("pages")


def test_the_reference_has_every_command(site: Path) -> None:
    text = (site / "reference" / "commands.html").read_text()
    names = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name in [*(f"ocr-precompute {n}" for n in names), *(f"ocr-train {n}" for n in MODULES)]:
        assert f"<code>{name}</code>" in text
    assert text.count("--verbose") == len(names)


def test_the_reference_has_every_setting(site: Path) -> None:
    text = (site / "reference" / "settings.html").read_text()
    for model in (Settings, Source, Rules, Packing):
        for name in model.model_fields:
            assert f"<code>{name}</code>" in text, name
    training = (site / "reference" / "training-settings.html").read_text()
    for name in ("data.trim", "data.augmentation.crop", "model.loss.reduction", "metrics_port"):
        assert f"<code>{name}</code>" in training
    assert "<code>experiment/published.yaml</code>" in training


def test_the_reference_has_every_exported_name(site: Path) -> None:
    text = (site / "reference" / "python.html").read_text()
    for name in {*ocr_precompute.__all__} - {"__version__"}:
        assert f'id="ocr_precompute.{name}"' in text
    assert 'id="ocr.predict.load"' in text
    assert 'id="ocr.interop.doctr.DoctrDataset"' in text


def test_files_outside_of_the_folder_are_pages_too(site: Path) -> None:
    assert '<a href="tutorial.html">' in (site / "index.html").read_text()
    assert '<a href="formats.html#to-add-a-format">' in (site / "contributing.html").read_text()
    assert "0.2.0" in (site / "changelog.html").read_text()
    assert '<a href="monitoring/rules.yaml">' in (site / "monitoring.html").read_text()
    assert (site / "monitoring" / "rules.yaml").read_bytes().startswith(b"#")
    assert "&lt;!-- formats" not in (site / "index.html").read_text()


def test_links_are_led_to_where_the_site_shows_it(pages: ModuleType) -> None:
    def led(text: str, origin: str = "README.md", place: str = "index.md") -> str:
        return str(pages.with_links_of_the_site(text, origin, place))

    assert led("[a](docs/scale.md#verify)") == "[a](scale.md#verify)"
    assert led("![a](docs/pictures/labels.jpg)") == "![a](pictures/labels.jpg)"
    assert (
        led("[the `b`](ocr/configs)") == "[the `b`](reference/training-settings.md#configurations)"
    )
    assert led("[`c`](scripts/fuzz.py)") == "`c`"
    assert led("[d](https://example.org/a)") == "[d](https://example.org/a)"
    assert led("```\n[a](docs/scale.md)\n```") == "```\n[a](docs/scale.md)\n```"
    assert (
        led("[e](../../README.md#commands)", "docs/a/b.md", "a/b.md") == "[e](../index.md#commands)"
    )


def test_what_a_page_loads_from_a_network_is_found(pages: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<a href='https://example.org/link'>fine</a> <img src='https://example.org/1.png'>"
        "<link rel=stylesheet href='//example.org/2.css'> <script src='local.js'></script>"
        "<style>body { background: url('http://example.org/3.png') }</style>"
        "<p style='background: url(https://example.org/4.png)'>https://example.org/text</p>"
        "<img srcset='a.png 1x, https://example.org/5.png 2x'>"
    )
    (tmp_path / "b.css").write_text("@import 'https://example.org/6.css'; a { color: red }")
    found = list(pages.remote_resources(tmp_path))
    assert re.findall(r"example\.org/(\d)", " ".join(found)) == ["1", "2", "3", "4", "5", "6"]
    assert found[-1] == "b.css: https://example.org/6.css"


@pytest.fixture
def asked(site: Path) -> Iterator[tuple[object, list[str]]]:
    """A tab of the system's browser, and all that it asks for."""
    from playwright.sync_api import sync_playwright

    requests: list[str] = []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser())
        page = opened.new_page()
        page.on("request", lambda request: requests.append(request.url))
        yield page, requests
        opened.close()


@pytest.mark.browser
def test_from_disk_it_searches_and_asks_no_network(site: Path, asked: tuple) -> None:
    page, requests = asked
    for path in sorted(site.rglob("*.html")):
        if path.name != "404.html":  # which is for servers
            page.goto(path.as_uri())
    page.goto((site / "index.html").as_uri())
    query = page.locator("[data-md-component=search-query]")
    query.focus()
    page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for()
    query.press_sequentially("shrink_ratio")  # for keys are what the page listens to
    page.wait_for_selector(".md-search-result__item")
    assert "Settings of builds" in page.locator(".md-search-result__list").inner_text()
    assert {url.partition(":")[0] for url in requests} <= {"file", "data", "blob"}
