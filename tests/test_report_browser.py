"""A training's report in a real browser: the system's Chromium, without a window or a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from needs import browser
from run_folders import HOSTILE, epoch_line, make_run, write_lines
from test_validation_record import gathered, judged, keep, written

from ocr.reports.report import write_report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two processes, six images with mistakes, and hostile names wherever a run has names."""
    folder = make_run(tmp_path_factory.mktemp("run") / HOSTILE, processes=2)
    images = [judged(f"page_{n}.jpg", n, 1, 2) for n in range(5)] + [judged(HOSTILE, 9, 9)]
    outcomes = gathered(images)
    keep(folder, replace(written(outcomes), min_score=0.2), 0, outcomes)
    alert = {"rule": HOSTILE, "detail": f"</script>{HOSTILE}" * 9, "raised": 1.0, "over": 2.0}
    lines = [epoch_line(0), epoch_line(1, alerts=[alert], stages={HOSTILE: {"seconds": 1}})]
    write_lines(folder / "performance.1.jsonl", lines)
    (folder / "run.json").write_text(
        json.dumps({"state": "finished", "begun": HOSTILE, "versions": {HOSTILE: HOSTILE * 5}})
    )
    with (folder / "config.yaml").open("a") as file:
        file.write(f"  name: '{HOSTILE}'\n" + "  deep: " + "x" * 500 + "\n")
    with (folder / "metrics.csv").open("a") as file:
        file.write("2,29,nan,,,,,\r\n2,")
    return write_report(folder)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser())
        yield opened
        opened.close()


def opened(chromium: Any, path: Path, said: list[str], **options: Any) -> Any:
    """The page in a tab; what its console says and what it asks for elsewhere go into `said`."""
    page = chromium.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith(("data:", path.as_uri())) else said.append(asked.url)
        ),
    )
    page.goto(path.as_uri())
    page.wait_for_selector(".plot svg")
    return page


@pytest.fixture
def page(chromium: Any, report: Path) -> Iterator[Any]:
    said: list[str] = []
    made = opened(chromium, report, said)
    yield made
    assert said == []
    made.close()


def test_everything_is_shown(page: Any) -> None:
    titles = page.locator(".part > h2").all_text_contents()
    assert titles == [
        *("Learning", "Validation", "Worst images", "Speed", "Memory and resources", "Alerts"),
        "Configuration and versions",
    ]
    charts = page.locator(".chart h3").all_text_contents()
    assert {"Loss", "H-mean, precision, recall", "Precision against recall"} <= set(charts)
    assert page.locator(".chart").count() == page.locator(".plot svg .curve").evaluate_all(
        "all => new Set(all.map(c => c.closest('.chart'))).size"
    )
    assert page.locator(".card svg image").first.evaluate("i => i.getBBox().width") > 0
    assert page.locator("#notes li").count() == 2
    speed = page.locator(".chart", has_text="Samples per second").first
    assert speed.locator(".keys li").all_text_contents() == ["process 0", "process 1"]
    assert page.locator(".bars tbody td").first.text_content() == "forward"


def test_a_hostile_name_is_text(page: Any) -> None:
    assert HOSTILE in page.locator("#title").text_content()
    assert page.locator(".card .name").first.text_content() == HOSTILE
    assert page.locator("#alerts td").nth(0).text_content() == HOSTILE
    page.locator(".card").first.click()
    assert page.locator("#viewed").text_content() == HOSTILE
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.locator("img").count() == 0


def test_each_kind_of_shape_differs_in_colour_and_dash(page: Any) -> None:
    samples = page.locator("#worst > div > .keys .shape")
    assert samples.count() == 4
    look = "s => [getComputedStyle(s).stroke, getComputedStyle(s).strokeDasharray]"
    looks = [samples.nth(place).evaluate(look) for place in range(4)]
    assert len({colour for colour, _ in looks}) == len({dash for _, dash in looks}) == 4
    first = page.locator(".card").first
    assert first.locator(".shape.missed").count() == 9
    assert first.locator(".shape.wrong").count() == 9
    curves = page.locator(".chart", has_text="H-mean, precision, recall").first.locator(".curve")
    dashes = curves.evaluate_all("all => all.map(c => getComputedStyle(c).strokeDasharray)")
    assert len(set(dashes)) == 3


def test_the_keyboard_is_enough(page: Any) -> None:
    press = page.keyboard.press
    chart = page.locator(".chart", has_text="Loss").first
    for _ in range(20):
        press("Tab")
        if page.evaluate("document.activeElement.className") == "plot":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    readout = chart.locator(".readout")
    assert readout.text_content() == "epoch 3: loss 5.5"
    press("ArrowRight")
    assert readout.text_content() == "epoch 0.5: loss 8"
    press("ArrowRight")
    assert readout.text_content() == "epoch 1: loss 7.5"
    press("End")
    assert readout.text_content() == "epoch 3: loss 5.5"
    press("Tab")
    press("Enter")
    assert chart.locator("td").first.is_visible()
    assert readout.text_content() == "epoch 3: loss 5.5"
    page.locator(".card").first.focus()
    press("Enter")
    viewed = page.locator("#viewed")
    assert viewed.text_content() == HOSTILE
    press("ArrowRight")
    assert viewed.text_content() == "page_4.jpg"
    assert page.locator("#said").text_content() == "4 missed, 1 wrong, 2 found"
    press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.wait_for_selector(":focus .name:text-is('page_4.jpg')")  # once closing is told
    unnamed = """() => [...document.querySelectorAll("button, [tabindex]")].filter(e =>
        !(e.getAttribute("aria-label") || e.textContent.trim())).length"""
    assert page.evaluate(unnamed) == 0


def test_pointing_reads_values(page: Any) -> None:
    chart = page.locator(".chart", has_text="H-mean, precision, recall").first
    plot = chart.locator(".plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + 50)
    said = "epoch 3: H-mean 0.7, precision 0.6, recall 0.4"
    assert chart.locator(".readout").text_content() == said
    assert plot.locator(".pointed").count() == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_needs_no_sideways_scrolling(
    chromium: Any, report: Path, scheme: str
) -> None:
    said: list[str] = []
    size = {"width": 360, "height": 740}
    page = opened(chromium, report, said, viewport=size, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    wide = "document.documentElement.scrollWidth"
    assert page.evaluate(wide) <= 360
    past = """() => [...document.querySelectorAll("body *")].filter(e =>
        e.checkVisibility() && !e.closest("svg, .unseen, .scroll, .contents") &&
        e.getBoundingClientRect().right > 361).map(e => e.className || e.tagName)"""
    assert page.evaluate(past) == []
    page.locator(".card").first.click()
    page.wait_for_selector("#stage svg")
    assert page.evaluate(wide) <= 360
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground).removeprefix("rgb(").split(",")[0]
    assert (int(dark) < 64) == (scheme == "dark")
    assert said == []
    page.close()


def test_a_run_with_next_to_nothing_is_a_page_too(chromium: Any, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: {}\n")
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(write_report(tmp_path).as_uri())
    assert page.locator(".part").count() == 7
    assert "There is no performance.jsonl" in page.locator("#speed").text_content()
    assert said == []
    page.close()
