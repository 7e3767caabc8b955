"""The gallery: its data, its bounds, its files. What it looks like is tested in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Dataset, run, tree_bytes

from ocr_precompute.errors import InputError, StoreError
from ocr_precompute.files import temporary_name
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.reports import gallery
from ocr_precompute.reports.entries import detail
from ocr_precompute.reports.gallery import write_gallery
from ocr_precompute.reports.layers import indexed_png
from ocr_precompute.reports.page import embedded, page
from ocr_precompute.reports.survey import look, survey
from ocr_precompute.samples import Fate, Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.targets.shapes import boxes

HOSTILE = "<img src=x onerror=hacked=1>\"'</script><script>hacked=2<\u2028&amp;.jpg"


class Blocks(HTMLParser):
    """The script elements of a page, by id, and all tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.blocks: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self._inside = (dict(attributes).get("id") or "program") if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[self._inside] = self.blocks.get(self._inside, "") + data


def points(x: float, y: float, width: float = 28, height: float = 12) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


@pytest.fixture
def split(dataset: Dataset, settings: Settings) -> Split:
    """24 pages; on one don't-care, one outside, one overlap, one tiny; and a hostile name."""
    odd = dataset.document["images"]["page_003.jpg"]["words"]
    odd["0001"]["ignore"] = True
    odd["0002"]["points"] = points(-200, 5)
    odd["0004"] = {"points": points(10, 60)}
    odd["0005"] = {"points": points(11, 61)}
    odd["0006"] = {"points": points(5, 5, 3, 3)}
    (dataset.images / HOSTILE).parent.mkdir(parents=True)
    dataset.rename("page_007.jpg", HOSTILE)
    dataset.document["images"]["page_009.jpg"] = {}
    dataset.save()
    build("val", dataset.source, settings)
    return open_store(settings.store)["val"]


def blocks_of(path: Path) -> dict[str, str]:
    return Blocks(path.read_text("utf-8")).blocks


# ------------------------------------------------------------------------------------- the data


def test_the_index_counts_what_inspect_counts(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "val.html"
    report = write_gallery(split.storage.folder, "val", path)
    index = json.loads(blocks_of(path)["index"])
    assert report.samples == report.of == index["samples"] == len(index["rows"]) == 24
    assert {row[1] for row in index["rows"]} == set(split.names)
    keys = [kind[0] for kind in index["kinds"]]
    totals = dict.fromkeys(keys, 0)
    for _, _, _, _, pairs, _ in index["rows"]:
        for kind, count in zip(pairs[::2], pairs[1::2], strict=True):
            totals[keys[kind]] += count
    understood = split.manifest.understood
    assert totals["trains"] == understood.trained == index["trained"]
    for key, kind in {
        "annotated": "annotated",
        "outside-image": "outside",
        "small": "small",
    }.items():
        assert totals[key] == understood.tally(kind).words > 0
    assert totals["without-words"] == understood.tally("without-words").images == 1
    assert totals["overlap"] >= 2
    scores = [row[2] for row in index["rows"]]
    assert scores == sorted(scores, reverse=True)
    assert report.suspicious[0].name == "page_003.jpg" == index["rows"][0][1]


def test_a_samples_block_has_its_polygons_and_what_is_no_padding(
    split: Split, tmp_path: Path
) -> None:
    path = tmp_path / "val.html"
    write_gallery(split.storage.folder, "val", path)
    number = split.index("page_003.jpg")
    shown = json.loads(blocks_of(path)[f"sample-{number}"])
    sample = split[number]
    assert shown["size"] == split.content_sizes()[number].tolist()
    assert [each[1] for each in shown["polygons"]] == sample.fate.tolist()
    assert shown["polygons"][0][1] == Fate.ANNOTATED
    np.testing.assert_allclose(
        np.reshape(shown["polygons"][3][3:], (-1, 2)), sample.polygons[3], atol=0.051
    )
    assert set(shown["layers"]) == {"picture", "prob", "prob_mask", "thresh", "thresh_mask"}
    blank = json.loads(blocks_of(path)[f"sample-{split.index('page_009.jpg')}"])
    assert set(blank["layers"]) == {"picture"}


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_of_few_colours(bits: int) -> None:
    count = 1 << bits
    levels = np.random.default_rng(bits).integers(0, count, (7, 13), np.uint8)
    palette = np.random.default_rng(9).integers(0, 255, (count, 4), np.uint8)
    data = indexed_png(levels, bits, palette[:, :3].tobytes(), palette[:, 3].tobytes())
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (read[..., [2, 1, 0, 3]] == palette[levels]).all()


def test_room_is_kept_to(split: Split) -> None:
    """Pictures get smaller, and of very many polygons those that are odd stay."""
    number = split.index("page_003.jpg")
    seen = look(split.record(number), (64, 64), survey(split).usual, None)
    labels = Polygons.from_list(split[number].polygons, split[number].ignore.tolist())
    whole = detail(split[number], seen, labels, 10**6)
    assert len(detail(split[number], seen, labels, 1000)) < len(whole)
    many = 5000
    sample = replace(
        split[number],
        polygons=[np.float32(points(1, 1))] * many,
        ignore=np.zeros(many, bool),
        fate=np.zeros(many, np.uint8),
    )
    labels = Polygons.from_list(sample.polygons, sample.ignore.tolist())
    flags = np.arange(many) % 100 == 0
    text = detail(sample, replace(seen, signs={"overlap": flags}), labels, 40_000)
    shown = json.loads(text)
    assert len(text) <= 40_000
    assert shown["left"] == many - len(shown["polygons"]) > 0
    assert {each[0] for each in shown["polygons"]} >= set(np.flatnonzero(flags).tolist())


def test_one_file_stays_within_its_bound(
    dataset: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is on bytes, whatever pictures hold; here it is a low one."""
    build("val", dataset.source, settings.model_copy(update={"size": (320, 320)}))
    split = open_store(settings.store)["val"]
    program = len(gallery._document(split, [], False))
    path = tmp_path / "val.html"
    free = write_gallery(split.storage.folder, "val", path).bytes - program
    monkeypatch.setattr(gallery, "MOST_BYTES", program + free * 3 // 5)
    report = write_gallery(split.storage.folder, "val", path)
    assert report.samples == 24
    assert program < path.stat().st_size == report.bytes <= gallery.MOST_BYTES
    monkeypatch.setattr(gallery, "MOST_BYTES", program + 1000)
    with pytest.raises(StoreError, match="lower --count, or give a folder"):
        write_gallery(split.storage.folder, "val", tmp_path / "small.html")
    assert not (tmp_path / "small.html").exists()


# ------------------------------------------------------------------------------------- escaping


def test_no_name_leaves_its_block(split: Split, tmp_path: Path) -> None:
    one, folder = tmp_path / "val.html", tmp_path / "val"
    write_gallery(split.storage.folder, "val", one)
    write_gallery(split.storage.folder, "val", folder)
    for path in (one, folder / "index.html"):
        text = path.read_text("utf-8")
        assert "hacked=1>" not in text
        assert "\u2028" not in text
        tags = Blocks(text).tags
        assert [tag for tag, _ in tags].count("img") == 0
        assert not [a for _, attributes in tags for a in attributes if a.startswith("on")]
        assert HOSTILE in {row[1] for row in json.loads(blocks_of(path)["index"])["rows"]}


def test_a_page_allows_nothing_but_its_own() -> None:
    html = page("test", "a <b>", "<body>", "p{}", "1", [("x", embedded({"a": "</script><"}))])
    parsed = Blocks(html)
    assert "<title>a &lt;b&gt;</title>" in html
    assert parsed.blocks["x"] == '{"a":"\\u003c/script\\u003e\\u003c"}'
    (policy,) = (a["content"] for _, a in parsed.tags if "http-equiv" in a)
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["style-src"])
    assert not re.search(r"https?://(?!www\.w3\.org)", html)


def test_templates_name_no_place_on_the_network(split: Split, tmp_path: Path) -> None:
    write_gallery(split.storage.folder, "val", tmp_path / "val.html")
    found = set(re.findall(r"https?://[^\"'\s]+", (tmp_path / "val.html").read_text("utf-8")))
    assert found <= {"http://www.w3.org/2000/svg"}  # a name, which nothing fetches


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_is_not_embedded(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded([number])


# ---------------------------------------------------------------------------------------- files


def test_a_folder_holds_a_light_index_and_a_file_a_sample(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "made" / "val"
    report = write_gallery(split.storage.folder, "val", path)
    assert report.path == str(path / "index.html")
    files = tree_bytes(path)
    assert set(files) == {"index.html", *(f"samples/{n}.js" for n in range(24))}
    assert report.bytes == sum(map(len, files.values()))
    index = json.loads(blocks_of(path / "index.html")["index"])
    assert len(embedded(index["rows"])) < 24 * 150
    script = files["samples/5.js"].decode("ascii")
    assert re.fullmatch(r"gallery\.take\(5,\{.*\}\);\n", script)
    assert "'self' file:" in (path / "index.html").read_text("utf-8")


def test_only_an_earlier_gallery_is_replaced(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "val"
    path.mkdir()
    write_gallery(split.storage.folder, "val", path)
    write_gallery(split.storage.folder, "val", path, count=3)
    assert len(list((path / "samples").iterdir())) == 3
    for foreign in ("notes.txt", "samples/notes.txt", "samples/1"):
        (path / foreign).write_text("mine")
        before = tree_bytes(path)
        with pytest.raises(StoreError, match="was not made here, or not only; name another place"):
            write_gallery(split.storage.folder, "val", path)
        assert tree_bytes(path) == before
        (path / foreign).unlink()
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("<p>mine")
    with pytest.raises(StoreError, match="was not made here"):
        write_gallery(split.storage.folder, "val", other)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_what_fails_leaves_the_place_as_it_was(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "val", tmp_path / "val.html"):
        write_gallery(split.storage.folder, "val", path, count=2)
    before = tree_bytes(tmp_path)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gallery.entries, "detail", full)
    for path in (tmp_path / "val", tmp_path / "val.html"):
        with pytest.raises(StoreError, match=r"val.*: cannot be written: No space left"):
            write_gallery(split.storage.folder, "val", path)
    assert tree_bytes(tmp_path) == before


def test_what_a_killed_process_left_is_swept(split: Split, tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    running = temporary_name(".val")
    left = running.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
    other = left.replace(".val-", ".value-")
    for name in (running, left, other):
        (tmp_path / name / "samples").mkdir(parents=True)
        (tmp_path / name / "samples" / "1.js").write_text("")
    write_gallery(split.storage.folder, "val", tmp_path / "val", count=1)
    assert {p.name for p in tmp_path.iterdir()} >= {running, other}
    assert not (tmp_path / left).exists()


def test_a_link_stays_a_link(split: Split, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_gallery(split.storage.folder, "val", tmp_path / "link", count=1)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "index.html").is_file()


def test_how_many_samples(split: Split, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="one file holds at most 300 samples, not 301"):
        write_gallery(split.storage.folder, "val", tmp_path / "val.html", count=301)
    names = ["page_001.jpg", "page_000.jpg"]
    write_gallery(split.storage.folder, "val", tmp_path / "two.html", names=names)
    rows = json.loads(blocks_of(tmp_path / "two.html")["index"])["rows"]
    assert {row[1] for row in rows} == set(names)
    with pytest.raises(StoreError, match=r"no sample 'page_999\.jpg'"):
        write_gallery(split.storage.folder, "val", tmp_path / "none.html", names=["page_999.jpg"])


# ---------------------------------------------------------------------------------- predictions


def test_predictions_are_read_as_what_they_are(split: Split, tmp_path: Path) -> None:
    path, out = tmp_path / "predictions.json", tmp_path / "val.html"
    for text, message in {
        "{": "is not valid JSON",
        "[]": 'has no "images" object',
        '{"images": {"x.jpg": {"words": {"1": {"points": [[0, 0], [50, 0], [50, 9]]}}}}}': (
            "is about none of the 24 samples of the split"
        ),
        '{"images": {"page_001.jpg": {"words": {"1": {"points": [[0, NaN], [1, 2], [3, 4]]}}}}}': (
            "not finite"
        ),
        '{"images": {"../x.jpg": {"words": {}}}}': "leaves the image folder",
        "[" * 100_000: "nested too deeply",
    }.items():
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            write_gallery(split.storage.folder, "val", out, predictions=path)
    with pytest.raises(InputError, match="no such annotation file"):
        write_gallery(split.storage.folder, "val", out, predictions=tmp_path / "none.json")
    assert not out.exists()


def test_disagreement_is_counted_both_ways(split: Split, dataset: Dataset, tmp_path: Path) -> None:
    """Of one page a word is missing and another found; don't-care excuses a prediction."""
    found = {
        name: {"words": dict(entry.get("words", {}))}
        for name, entry in dataset.document["images"].items()
    }
    words = found["page_001.jpg"]["words"]
    words["0001"] = {"points": points(0, 0, 4, 90), "score": 0.7}
    dont_care = np.array(dataset.points("page_003.jpg"))
    inside = dont_care.mean(axis=0) + (dont_care - dont_care.mean(axis=0)) * 0.5
    found["page_003.jpg"]["words"]["0001"] = {"points": inside.tolist()}
    del found["page_005.jpg"]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps({"images": found}))
    report = write_gallery(split.storage.folder, "val", tmp_path / "val.html", predictions=path)
    assert report.predictions == 23
    assert report.suspicious[0].name == "page_001.jpg"
    assert set(report.suspicious[0].reasons[:2]) == {"unlabelled", "unpredicted"}
    blocks = blocks_of(tmp_path / "val.html")
    rows = {row[1]: row for row in json.loads(blocks["index"])["rows"]}
    keys = [kind[0] for kind in json.loads(blocks["index"])["kinds"]]
    for name, expected in {"page_001.jpg": 1, "page_003.jpg": 0, "page_005.jpg": 0}.items():
        counts = dict(zip(rows[name][4][::2], rows[name][4][1::2], strict=True))
        assert counts.get(keys.index("unlabelled"), 0) == expected
        assert counts.get(keys.index("unpredicted"), 0) == expected
    number = split.index("page_001.jpg")
    shown = json.loads(blocks[f"sample-{number}"])["predictions"]
    assert [each[0] for each in shown] == [1, 0, 0]
    scaled = np.array(points(0, 0, 4, 90)) / split.record(number).matrix[0, 0]
    np.testing.assert_allclose(np.reshape(shown[0][1:], (-1, 2)), scaled, atol=0.1)


# ---------------------------------------------------------------------------------- the command


def test_the_command(split: Split, dataset: Dataset, tmp_path: Path) -> None:
    given = [
        "preview",
        "--store",
        split.storage.folder,
        "--split",
        "val",
        "--html",
        tmp_path / "val.html",
    ]
    predictions = ["--predictions", dataset.annotations]
    result = run(*given, *predictions, "--count", "5", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "5 of 24 samples" in result.stderr
    assert "worth a look: page_003.jpg" in result.stderr
    document = json.loads(result.stdout)
    assert set(document) == {"gallery"}
    report = document["gallery"]
    assert (report["samples"], report["of"], report["predictions"]) == (5, 24, 24)
    assert report["suspicious"][0]["name"] == "page_003.jpg"
    assert report["suspicious"][0]["score"] > 0.3
    assert "outside" in report["suspicious"][0]["reasons"]
    assert not (tmp_path / "preview").exists()
    both = run(*given, "--out", tmp_path / "out", "--count", "2", "--json", cwd=tmp_path)
    assert set(json.loads(both.stdout)) >= {"gallery", "pictures"}
    wrong = run(
        "preview", "--split", "val", "--store", split.storage.folder, *predictions, cwd=tmp_path
    )
    assert wrong.returncode == 2
    assert "--predictions: is for a gallery; give --html PATH too" in wrong.stderr


def test_a_store_that_no_build_wrote_is_an_error(split: Split) -> None:
    record = split.record(0)
    usual = survey(split).usual
    nowhere = [np.full((4, 2), np.nan, np.float32), *record.polygons[1:]]
    for polygons in (nowhere, [record.polygons[0][:1], *record.polygons[1:]]):
        with pytest.raises(StoreError, match="holds what no build writes"):
            look(replace(record, polygons=polygons), (64, 64), usual, None)


def test_what_a_build_found_odd_about_images_is_suspicious(
    dataset: Dataset, settings: Settings, tmp_path: Path
) -> None:
    file = dataset.images / "page_002.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    dataset.document["images"]["page_006.jpg"] |= {"img_w": 500, "img_h": 40}
    dataset.save()
    build("val", dataset.source, settings)
    seen = survey(open_store(settings.store)["val"])
    assert set(seen.scores.order()[:2].tolist()) == {2, 6}
    assert "damaged" in seen.scores.reasons(2)
    assert "declared-size" in seen.scores.reasons(6)
    write_gallery(settings.store, "val", tmp_path / "val.html")
    blocks = blocks_of(tmp_path / "val.html")
    texts = {kind[0]: kind[1] for kind in json.loads(blocks["index"])["kinds"]}
    assert texts["damaged"] == "damaged image"
    assert json.loads(blocks["sample-2"])["damage"].startswith("is damaged: ")
    assert json.loads(blocks["sample-6"])["damage"] == ""


def test_the_split_is_looked_at_without_reading_pixels(
    split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Split, "read", None)
    monkeypatch.setattr(Split, "_fill", None)
    told: list[tuple[str, int, int]] = []
    seen = survey(split, None, lambda *each: told.append(each))
    assert seen.polygons.sum() == split.manifest.understood.words
    assert told[-1] == ("looking", 24, 24)
    low, high = boxes(Polygons.from_list(split.record(0).polygons, [False] * 3))
    assert (high > low).all()
