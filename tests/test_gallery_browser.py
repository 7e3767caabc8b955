"""The gallery in a real browser: the system's Chromium, without a window or a network."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import Dataset
from needs import browser
from test_gallery import HOSTILE, points

from ocr_precompute.pipeline.build import build
from ocr_precompute.reports.gallery import write_gallery
from ocr_precompute.settings import Settings

pytestmark = pytest.mark.browser

SAMPLES, ON_A_PAGE = 72, 60


@dataclass(frozen=True)
class Galleries:
    """The same split as one file and as a folder."""

    file: Path
    folder: Path


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> Galleries:
    """72 pages: 000 and a hostile name are suspicious, 002 has don't-care, 004 no words, and in 005
    a text is predicted that is not labelled.
    """
    root = tmp_path_factory.mktemp("gallery")
    dataset = Dataset(root / "data", SAMPLES)
    (dataset.images / HOSTILE).parent.mkdir(parents=True)
    dataset.rename("page_007.jpg", HOSTILE)
    images = dataset.document["images"]
    for number in range(4, 9):
        images["page_000.jpg"]["words"][f"000{number}"] = {"points": points(10 + number, 60)}
    images[HOSTILE]["words"]["0001"]["points"] = points(-200, 5)
    images["page_002.jpg"]["words"]["0001"]["ignore"] = True
    images["page_004.jpg"] = {}
    dataset.save()
    settings = Settings(store=root / "store", size=128, backend="sequential")
    build("val", dataset.source, settings)
    images["page_005.jpg"]["words"]["0009"] = {"points": points(2, 80, 70, 9)}  # after the build
    predictions = root / "predictions.json"
    predictions.write_text(json.dumps(dataset.document))
    made = Galleries(root / "val.html", root / "val")
    for path in (made.file, made.folder):
        write_gallery(settings.store, "val", path, predictions=predictions)
    return made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser())
        yield opened
        opened.close()


class Tab:
    """A page, and all that it said and asked for."""

    def __init__(self, chromium: Any, **options: Any) -> None:
        self.page = chromium.new_page(**options)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(".card svg")
        return self.page


@pytest.fixture
def tab(chromium: Any) -> Iterator[Tab]:
    made = Tab(chromium, viewport={"width": 1200, "height": 900})
    yield made
    made.page.close()


@pytest.fixture
def page(tab: Tab, galleries: Galleries) -> Iterator[Any]:
    """The file, opened; in the end it must have said nothing on the console."""
    yield tab.open(galleries.file)
    assert tab.said == []


def names(page: Any) -> list[str]:
    return page.locator(".card .name").all_text_contents()


@pytest.mark.parametrize("form", ["file", "folder"])
def test_it_opens_without_an_error(tab: Tab, galleries: Galleries, form: str) -> None:
    path = galleries.file if form == "file" else galleries.folder / "index.html"
    page = tab.open(path)
    assert page.locator(".card").count() == ON_A_PAGE
    assert page.locator("#count").text_content() == "72 samples"
    assert "compared with predictions for 72 samples" in page.locator("#facts").text_content()
    assert page.locator(".card svg image.page").first.evaluate("i => i.getBBox().width") > 0
    page.locator(".card").first.click()
    page.wait_for_selector("#stage svg .polygon")
    assert tab.said == []
    root = path.parent.as_uri()
    assert all(url.startswith((root, "data:")) for url in tab.asked)
    if form == "folder":  # pictures come when they are looked at
        assert 0 < sum(url.endswith(".js") for url in tab.asked) < SAMPLES


def test_layers_are_switched(page: Any) -> None:
    page.locator("#name").fill("page_002")
    page.wait_for_selector(".card svg .layer.thresh", state="attached")
    switches = page.locator("#controls .switch")
    keys = ["text", "care", "lost", "predicted", "prob", "prob_mask", "thresh", "thresh_mask"]
    assert switches.count() == len(keys)
    shown = "l => getComputedStyle(l).display !== 'none'"
    for place, key in enumerate(keys):
        layer = page.locator(f".card svg .layer.{key}").first
        before = layer.evaluate(shown)
        assert before == (place < 4)
        switches.nth(place).click()
        assert layer.evaluate(shown) != before
        assert page.locator(f"[data-layer={key}]").first.is_checked() != before
    text, care = (page.locator(f".card .{key} .polygon").first for key in ("text", "care"))
    colour = "p => getComputedStyle(p).stroke"
    assert text.evaluate(colour) != care.evaluate(colour)


def test_padding_is_cut_off(page: Any) -> None:
    assert page.locator(".card svg").first.get_attribute("viewBox") == "0 0 107 128"


def test_filters(page: Any) -> None:
    page.locator("#name").fill("PAGE_01")
    assert sorted(names(page)) == [f"page_01{n}.jpg" for n in range(10)]
    assert page.locator("#count").text_content() == "10 of 72 samples"
    page.locator("#name").fill("nothing like it")
    assert page.locator("#grid").text_content() == "No sample is like that."
    page.locator("#name").fill("")
    options = page.locator("#kind option").all_text_contents()
    assert "annotated as don't-care (1)" in options
    page.locator("#kind").select_option(label="annotated as don't-care (1)")
    assert names(page) == ["page_002.jpg"]
    page.locator("#kind").select_option(label="no words (1)")
    assert names(page) == ["page_004.jpg"]
    page.locator("#kind").select_option(label="anything")
    page.locator("#least").fill("4")
    assert names(page) == ["page_000.jpg"]
    page.locator("#least").fill("")
    page.locator("#most").fill("2")
    assert names(page) == ["page_004.jpg"]


def test_sorting(page: Any) -> None:
    assert set(names(page)[:3]) == {"page_000.jpg", "page_005.jpg", HOSTILE}
    scores = [int(text) for text in page.locator(".card .score").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1]
    page.locator("#sort").select_option("name")
    assert names(page)[:2] == [HOSTILE, "page_000.jpg"]
    page.locator("#sort").select_option("most")
    assert names(page)[0] == "page_000.jpg"
    page.locator("#sort").select_option("fewest")
    assert names(page)[0] == "page_004.jpg"


def test_pages_of_the_list(page: Any) -> None:
    page.locator("#sort").select_option("name")
    page.locator("#after").click()
    assert names(page)[-1] == "page_071.jpg"
    assert len(names(page)) == SAMPLES - ON_A_PAGE
    assert page.locator("#page").text_content() == "Page 2 of 2"
    assert page.locator("#after").is_disabled()
    page.locator("#before").click()
    assert names(page)[0] == HOSTILE


def test_a_hostile_name_is_text(page: Any) -> None:
    page.locator("#name").fill("onerror")
    assert names(page) == [HOSTILE]
    page.locator(".card").click()
    assert page.locator("#viewed").text_content() == HOSTILE
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("img").count() == 0


def test_the_page_runs_and_fetches_nothing_else(tab: Tab, galleries: Galleries) -> None:
    page = tab.open(galleries.file)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        page.evaluate(
            """url => {
                const script = document.createElement("script");
                script.textContent = "window.hacked = 1";
                const other = document.createElement("script");
                other.src = url;
                document.body.append(script, other);
                document.body.insertAdjacentHTML("beforeend", '<i onclick="hacked = 2"></i>');
                document.body.lastElementChild.click();
                const image = new Image();
                image.src = url;
                return image.decode().catch(() => "");
            }""",
            url,
        )
        assert page.evaluate("url => fetch(url).catch(e => e.name)", url) == "TypeError"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()
    assert page.evaluate("typeof hacked") == "undefined"
    assert sum("Content Security Policy" in line for line in tab.said) >= 5


def test_the_keyboard_is_enough(page: Any) -> None:
    press = page.keyboard.press
    focused = "document.activeElement.querySelector('.name')?.textContent"
    page.locator("#sort").select_option("name")
    for _ in range(40):
        press("Tab")
        if page.evaluate(focused):
            break
    assert page.evaluate(focused) == HOSTILE
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    press("ArrowRight")
    assert page.evaluate(focused) == "page_000.jpg"
    press("ArrowDown")
    below = page.evaluate(focused)
    press("ArrowUp")
    assert page.evaluate(focused) == "page_000.jpg" != below
    press("Enter")
    viewed = page.locator("#viewed")
    assert viewed.text_content() == "page_000.jpg"
    page.wait_for_selector("#stage svg")
    press("ArrowRight")
    assert viewed.text_content() == "page_001.jpg"
    press("7")
    assert page.locator("[data-layer=thresh]").first.is_checked()
    press("+")
    assert float(page.locator("#stage svg").evaluate("s => parseFloat(s.style.width)")) == 150
    press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.wait_for_selector(":focus .name:text-is('page_001.jpg')")  # once closing is told
    page.locator("#name").focus()
    page.keyboard.type("1")  # in a field a digit is a digit
    assert page.locator("[data-layer=text]").first.is_checked()
    unnamed = """() => [...document.querySelectorAll("input, select, button")].filter(e =>
        !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim())).length"""
    assert page.evaluate(unnamed) == 0


def test_a_sample_says_why(page: Any) -> None:
    page.locator("#name").fill("page_000")
    page.locator(".card").click()
    page.wait_for_selector("#odd .row")
    assert "overlapping another" in page.locator("#reasons").text_content()
    page.locator("#odd .row").first.hover()
    assert page.locator("#stage .polygon.pointed").count() == 1
    assert "80 \u00d7 96" in page.locator("#about").text_content()
    page.locator("#close").click()
    page.locator("#name").fill("page_005")
    page.locator(".card").click()
    row = page.locator("#odd .row").first
    assert row.text_content() == "predicted but not labelled"
    row.focus()
    assert page.locator("#stage .predicted .polygon.odd.pointed").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_needs_no_sideways_scrolling(
    chromium: Any, galleries: Galleries, scheme: str
) -> None:
    tab = Tab(chromium, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = tab.open(galleries.file)
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 360
    past = """() => [...document.querySelectorAll("body *")].filter(e =>
        e.checkVisibility() && !e.closest("svg, .unseen") &&
        e.getBoundingClientRect().right > 361).map(e => e.className || e.tagName)"""
    assert page.evaluate(past) == []
    page.locator(".card").first.click()
    page.wait_for_selector("#stage svg")
    assert page.evaluate(wide) <= 360
    assert page.evaluate("document.querySelector('.frame').scrollWidth") <= 360
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground).removeprefix("rgb(").split(",")[0]
    assert (int(dark) < 64) == (scheme == "dark")
    assert tab.said == []
    page.close()


def test_a_sample_that_is_gone_is_said(tab: Tab, galleries: Galleries, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_bytes((galleries.folder / "index.html").read_bytes())
    tab.page.goto((tmp_path / "index.html").as_uri())
    tab.page.wait_for_selector(".card .stage p")
    said = tab.page.locator(".card .stage p").first.text_content()
    assert said.startswith("samples/")
    assert said.endswith(".js cannot be read")
