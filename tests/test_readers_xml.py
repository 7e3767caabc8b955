"""Readers of annotations in XML: within bounds, without entities, each form with its oddities."""

from __future__ import annotations

import gc
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from forms import MADE, QUAD, messages, read, words

from ocr_precompute.annotations import Reading, read_annotations
from ocr_precompute.annotations.folders import ImageNames
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.annotations.formats.ctw1500 import dialect_of
from ocr_precompute.annotations.looking import Fit, Look
from ocr_precompute.annotations.pairing import image_of
from ocr_precompute.annotations.reading import Entry, Words
from ocr_precompute.annotations.xml_files import document, elements
from ocr_precompute.annotations.xml_forms import number_list, outline
from ocr_precompute.errors import InputError
from ocr_precompute.settings import Rules

XML = ("alto", "ctw1500", "cvat", "hocr", "iam", "kaist", "page", "svt")
BY_NAME = {form.name: form for form in FORMATS}
BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "lol" * 10}">' for n in range(10))


def refused(path: Path, text: str | bytes, **options: Any) -> str:
    """Why a document is refused, with the place."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as error:
        list(elements(path, lambda *_: True, **options))
    (problem,) = error.value.problems
    return f"{problem.entry}: {problem.message}".removeprefix(": ")


def columns(name: str, path: Path, images: Path, dialect: str = "") -> list[Words]:
    """Texts and classes with the rest, as a format's reader has them."""
    found = BY_NAME[name].read(path, ImageNames(images), dialect, Rules())
    entries = [each for each in found.entries if isinstance(each, Entry)]
    return [each.words for each in entries if isinstance(each.words, Words)]


# -------------------------------------------------------------------------------- the documents


def test_elements_without_namespaces_whole_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE a SYSTEM "http://127.0.0.1:1/a">\n'
        '<p:a xmlns:p="urn:x"><skipped><b/></skipped>\n<p:part n=" 1 "> x &lt; '
        "<i>\u00e9<i>z</i></i>&#65;\n <c/></p:part><part><part/></part></p:a>",
        "latin-1",
    )
    first, second = elements(path, lambda name, _: name == "part")
    assert (first.name, first.get("n"), first.get("none"), first.line) == ("part", "1", "", 4)
    assert first.text() == "x < \u00e9zA"
    assert [each.name for each in first.inside()] == ["i", "i", "c"]
    assert [each.name for each in first.children("c", "d")] == ["c"]
    assert first.first("i", "i") is not None
    assert first.first("i", "c", "i") is None
    assert [each.name for each in second.children()] == ["part"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "windows-1252"])
def test_encodings_of_xml(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(
        f'<?xml version="1.0" encoding="{encoding[:12]}"?><a>\u00e9</a>'.replace(
            "utf-8-sig", "utf-8"
        ).encode(encoding)
    )
    assert document(path).text() == "\u00e9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 column 1: is not well-formed XML: no element found; correct it"),
        ("<a>\n<b></a>", "line 2 column 6: is not well-formed XML: mismatched tag; correct it"),
        ("<a/><b/>", "junk after document element"),
        ("<a>&nbsp;</a>", "line 1 column 4: is not well-formed XML: undefined entity"),
        (f"<!DOCTYPE a [{BOMB}]><a>&e9;</a>", "declares the entity 'e0', which"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "/etc/passwd">]><a>&x;</a>', "declares the entity 'x'"),
        ('<!DOCTYPE a [<!ENTITY % x SYSTEM "b.dtd"> %x;]><a/>', "declares the entity 'x'"),
        ('<!DOCTYPE a SYSTEM "b.dtd"><a>&what;</a>', "uses the entity &what;, which is not known"),
        ("<a>" * 65 + "</a>" * 65, "is nested too deeply to be annotations"),
        ("<a " + " ".join(f"a{n}='b'" for n in range(257)) + "/>", "has an element of over 256"),
        (f"<a>{'<b/>' * (1 << 19)}</a>", "line 1: a holds over 524288 elements"),
        (f'<a b="{"x" * (5 << 20)}"/>', "has a tag or comment of over 4 MB; shorten it"),
        (f"<a>{''.join(f'<b{n}/>' for n in range(10_001))}</a>", "has over 10000 different names"),
        ('<?xml version="1.0" encoding="klingon"?><a/>', "is in an encoding that is not known"),
        ('<?xml version="1.0" encoding="shift_jis"?><a/>', "is in an encoding that is not known"),
        (b"<a>\xff</a>", "line 1 column 4: is not well-formed XML: not well-formed"),
        (b"\0\0\0\0", "is not well-formed XML"),
    ],
    ids=range(17),
)  # fmt: skip
def test_documents_that_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    assert message in refused(tmp_path / "a.xml", text)


def test_much_text_and_large_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.xml"
    monkeypatch.setattr("ocr_precompute.annotations.xml_files._MOST_TEXT", 1 << 20)
    assert "a holds over" in refused(path, f"<a>{'x y ' * (1 << 18)}.</a>")
    assert refused(path, "<a/>", largest=2) == "is larger than 0 MB; split it up or remove it"
    path.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        document(path)


def test_html_is_known_where_it_is_html(tmp_path: Path) -> None:
    path = tmp_path / "a.hocr"
    for doctype in ("", "<!DOCTYPE html>", '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0" "x">'):
        path.write_text(f"{doctype}<html>caf&eacute;&amp;<p title='&quot;'/></html>")
        assert document(path, html=True).text() == "caf\u00e9&"
    assert "uses the entity &nosuch;" in refused(path, "<a>&nosuch;</a>", html=True)
    assert "declares the entity" in refused(
        path, '<!DOCTYPE a [<!ENTITY nbsp "">]><a>&nbsp;</a>', html=True
    )


def test_a_large_file_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    image = '<image name="%06d.jpg"><box xtl="1"/><attribute name="x">%s</attribute></image>'
    with path.open("w") as file:
        file.write("<annotations>")
        file.writelines(image % (number, "y" * 900) for number in range(10_000))
        file.write("</annotations>")
    tracemalloc.start()
    try:
        assert sum(1 for _ in elements(path, lambda name, _: name == "image")) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 9_000_000
    assert peak < 2_000_000


def test_no_parser_is_left_behind(tmp_path: Path) -> None:
    """Reading goes without the collector of cycles, and a folder may have many files."""
    path = tmp_path / "a.xml"
    path.write_text("<a/>")
    document(path)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            document(path)
        assert len(gc.get_objects()) - before < 50
    finally:
        gc.enable()


# ---------------------------------------------------------------------------- names and numbers


def test_lists_of_numbers() -> None:
    three_writings = ("10,10 90,12.5", "10 10 90 12.5", "(10,10) (90,12.5)")
    assert {tuple(number_list(text, "x")) for text in three_writings} == {(10, 10, 90, 12.5)}
    assert outline("1,2 1,2 ,3,4,-5,6 1,2", "points") == [[1, 2], [3, 4], [-5, 6]]
    assert number_list("", "x") == []
    for text in ("a", "1,nan", "1_0", "1.2.3", "--1", "\u0661"):
        with pytest.raises(ValueError, match=r"its points is .* which is no numbers; correct"):
            outline(text, "points")
    with pytest.raises(ValueError, match="has 3 numbers, which are no pairs"):
        outline("1 2 3", "points")
    with pytest.raises(ValueError, match="is over 4 million characters"):
        outline("1," * (1 << 22), "points")


def test_images_of_files(image_folder: Path) -> None:
    images = ImageNames(image_folder)
    assert image_of("a", "b.png", images) == ("a.png", "")
    assert image_of("x", "C:\\y\\b.tif", images) == ("b.png", "")
    assert image_of("train/page/c", "", images, above=True) == ("train/c.png", "")
    assert image_of("page/a", "", images)[1].startswith("there is no image page/a.jpg, .png")
    assert "nor the image 'z.jpg' that it names; add it" in image_of("x", "z.jpg", images)[1]
    assert images.resolved("z.jpg") == "z.jpg"
    (image_folder / "a.jpg").write_bytes(b"")
    again = ImageNames(image_folder)
    assert "fits several images: a.jpg, a.png; keep one" in image_of("a", "", again)[1]


# -------------------------------------------------------------------------------------- all forms


def test_one_format_fits_each_example() -> None:
    expected = {
        **{name: name for name in XML if name != "ctw1500"},
        **dict.fromkeys(("ctw_old", "ctw_test", "ctw_xml"), "ctw1500"),
    }
    mine = [form for form in FORMATS if form.name in XML]
    folders = [path for path in MADE.iterdir() if path.is_dir()]
    assert expected.keys() <= {folder.name for folder in folders}
    for folder in folders:
        forms = FORMATS if folder.name in expected else mine
        fits = [form.name for form in forms if form.recognise(Look(folder)) == Fit.YES]
        assert fits == ([expected[folder.name]] if folder.name in expected else []), folder


@pytest.mark.parametrize("name", XML)
@pytest.mark.parametrize("spoilt", ["bomb", "deep", "cut", "empty", "numbers"])
def test_bad_files_are_documented_problems(
    name: str, spoilt: str, tmp_path: Path, image_folder: Path
) -> None:
    form, path = BY_NAME[name], tmp_path / "a.xml"
    text, doctype = form.example, f"<!DOCTYPE a [{BOMB}]>"
    spoil = {
        "bomb": doctype + text.replace("100", "&e9;", 1),
        "deep": "<a>" * 100_000,
        "cut": text[: len(text) // 2],
        "empty": "",
        "numbers": "".join("x" if each.isdigit() else each for each in text),
    }
    found = read(path, image_folder, spoil[spoilt], name)
    assert words(found) == []
    assert found.problems
    for problem in found.problems:
        assert problem.file == str(path)
        assert ";" in problem.message or "nested too deeply" in problem.message


@pytest.mark.parametrize("name", XML)
def test_other_files_of_a_folder_are_left_out(
    name: str, tmp_path: Path, image_folder: Path
) -> None:
    folder = tmp_path / "gt"
    folder.mkdir()
    suffix = "hocr" if name == "hocr" else "xml"
    target = "annotations.xml" if name == "cvat" else f"a.{suffix}"
    (folder / target).write_text(BY_NAME[name].example.replace("a.jpg", "a.png"))
    (folder / f"mets.{suffix}").write_text("<mets/>")
    found = read_annotations(folder, image_folder, name)
    assert len(words(found)) == (2 if name == "cvat" else 1), found.problems
    if name != "cvat":
        assert found.left_out == ((f"mets.{suffix}", "is of another kind: its root is 'mets'"),)


# ------------------------------------------------------------------------------------------- CVAT


def cvat(*shapes: str, image: str = 'name="a.png" width="200" height="100"') -> str:
    return (
        f"<annotations><version>1.1</version><image {image}>{''.join(shapes)}</image></annotations>"
    )


def test_shapes_of_cvat(tmp_path: Path, image_folder: Path) -> None:
    shapes = (
        '<box label="a" xtl="40" ytl="20" xbr="80" ybr="40" rotation="90.0"/>',
        '<polygon label="" points="10,10;90,12;90,32;10,30"><attribute name="Ignore">true'
        "</attribute></polygon>",
        '<mask label="m" rle="4, 4, 4" left="20" top="30" width="4" height="3"/>',
        '<mask label="m" rle="3" left="20" top="30" width="4" height="3"/>',
        '<ellipse label="e" cx="50" cy="50" rx="20" ry="10" rotation="90"/>',
        '<polyline label="p" points="1,2;3,4"/><tag label="t"/><tag label="t"/>',
    )
    path = tmp_path / "a.xml"
    found = read(path, image_folder, cvat(*shapes))
    assert found.problems == []
    assert found.annotations[0].declared_size == (100, 200)
    box, polygon, mask, no_mask, ellipse = [np.array(each[1]) for each in words(found)]
    assert np.allclose(box, [[70, 10], [70, 50], [50, 50], [50, 10]])
    assert polygon.tolist() == QUAD
    assert no_mask.tolist() == [[20, 30], [24, 30], [24, 33], [20, 33]]
    assert np.allclose([ellipse.min(0), ellipse.max(0)], [[40, 30], [60, 70]])
    assert [each[2] for each in words(found)] == [False, True, False, False, False]
    assert [mask.min(0).tolist(), mask.max(0).tolist()] == [[20, 31], [24, 32]]
    assert found.warnings == (
        f"{path}: shapes that are no areas are left out: polyline 1, tag 2",
        f"{path}: 1 masks cannot be decoded, their boxes are taken; correct them",
    )
    (own,) = columns("cvat", path, image_folder)
    assert own.classes == ["a", None, "m", "m", "e"]


@pytest.mark.parametrize("seed", range(4))
def test_masks_of_cvat_go_row_by_row(tmp_path: Path, image_folder: Path, seed: int) -> None:
    """What is drawn of the outline is the mask."""
    mask = np.zeros((12, 19), np.uint8)
    corners = np.random.default_rng(seed).integers(0, 12, (3, 2))
    cv2.fillPoly(mask, [np.array([*corners, [18, 5]])], 1)
    flat = mask.ravel().tolist()
    runs, value = [0], 0
    for each in flat:
        runs += [0] if each != value else []
        runs[-1] += 1
        value = each
    rle = ", ".join(map(str, runs))
    shape = f'<mask rle="{rle}" left="30" top="40" width="19" height="12"/>'
    found = read(tmp_path / "a.xml", image_folder, cvat(shape))
    drawn = np.zeros((100 * 8, 200 * 8), np.uint8)
    for _, polygon, _ in words(found):
        cv2.fillPoly(drawn, [np.round(np.array(polygon) * 8).astype(int)], 1)
    shares = drawn.reshape(100, 8, 200, 8).mean((1, 3))[40:52, 30:49]
    assert ((shares > 0.5) == mask).mean() > 0.97


def test_texts_and_don_t_care_of_cvat(tmp_path: Path, image_folder: Path) -> None:
    def box(name: str, value: str) -> str:
        return (
            '<box label="word" xtl="1" ytl="1" xbr="9" ybr="9">'
            f'<attribute name="{name}">{value}</attribute></box>'
        )

    values = [("text", "Ada"), ("text", "###"), ("ignore", "1"), ("ignore", "false"), ("x", "###")]
    path = tmp_path / "a.xml"
    found = read(path, image_folder, cvat(*(box(*each) for each in values)))
    assert [each[2] for each in words(found)] == [False, True, True, False, False]
    (own,) = columns("cvat", path, image_folder)
    assert own.texts == ["Ada", "###", None, None, None]
    bad = read(path, image_folder, cvat(box("ignore", "maybe")))
    assert messages(bad) == [
        """a.png: line 1 box 1: its attribute "ignore" is 'maybe'; it must be true or false"""
    ]


def test_subsets_of_cvat(tmp_path: Path, image_folder: Path) -> None:
    one = '<image name="c.png" subset="train"/>'
    path = tmp_path / "annotations.xml"
    path.write_text(f"<annotations><version/>{one}</annotations>")
    assert [a.name for a in read_annotations(tmp_path, image_folder).annotations] == ["train/c.png"]
    assert [a.name for a in read(path, image_folder / "train", path.read_text()).annotations] == [
        "c.png"
    ]
    two = one + one.replace("train", "val")
    found = read(path, image_folder / "train", f"<annotations><version/>{two}</annotations>")
    assert messages(found) == [
        "line 1 c.png: is in the subsets train and val, and there is no image val/c.png; put the "
        "images into a folder per subset, as CVAT exports them"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations><meta/><track/></annotations>", "line 1: holds tracks of a video, whose"),
        ("<annotations><meta/></annotations>", 'has no images; export it as "CVAT for images 1.1"'),
        (cvat(image='id="3"'), "line 1: has no name; add or remove it"),
        (cvat('<box xtl="1" ytl="2" xbr="3"/>'), "box 1: has no ybr; add it or remove it all"),
        (cvat('<box xtl="1" ytl="x" xbr="3" ybr="4"/>'), "box 1: its ytl is 'x', which is no num"),
        (cvat('<box xtl="1 2" ytl="1" xbr="3" ybr="4"/>'), "its xtl is '1 2', not a number"),
        (cvat('<box xtl="1" ytl="1" xbr="3" ybr="1e999"/>'), "box 1: has a coordinate that is not"),
        (cvat('<box xtl="1" ytl="1" xbr="3" ybr="2" rotation="1e999"/>'), "its rotation is no ang"),
        (cvat('<polygon points="1,2;3"/>'), "polygon 1: its points has 3 numbers, which are no"),
        (cvat('<polygon points="1,2;3,4"/>'), "polygon 1: has 2 points; a polygon needs"),
        (cvat('<mask rle="x" left="1" top="1" width="2" height="2"/>'), "mask 1: its rle is 'x'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_cvat(
    tmp_path: Path, image_folder: Path, text: str, message: str
) -> None:
    found = read(tmp_path / "a.xml", image_folder, text, "cvat")
    assert [message in each for each in messages(found)] == [True], messages(found)


# ------------------------------------------------------------------------------------ PAGE and ALTO


def page(content: str, image: str = "a.tif") -> str:
    return (
        '<pc:PcGts xmlns:pc="https://schema.primaresearch.org/PAGE/gts/pagecontent/2010-03-19">'
        f'<pc:Page imageFilename="{image}" imageWidth="200" imageHeight="100">{content}</pc:Page>'
        "</pc:PcGts>"
    )


LINE = (
    '<pc:TextLine id="l" custom="readingOrder {index:0;} structure {type:Printed\\u0020text;}">'
    '<pc:Coords points="10,10 90,12 90,32 10,30"/>'
    '<pc:Word id="w"><pc:Coords points="10,10 50,10 50,30"/><pc:TextEquiv><pc:Unicode>Ada'
    '</pc:Unicode></pc:TextEquiv></pc:Word><pc:Word id="x"><pc:Coords points="50,10 90,10 90,30"/>'
    "<pc:TextEquiv><pc:Unicode>Bob</pc:Unicode></pc:TextEquiv></pc:Word></pc:TextLine>"
)
REGION = (
    '<pc:TextRegion id="r" type="heading"><pc:Coords>'
    + "".join(f'<pc:Point x="{x}" y="{y}"/>' for x, y in ((0, 0), (0, 0), (199, 0), (199, 99)))
    + "</pc:Coords>%s</pc:TextRegion>"
)


def test_levels_of_page(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "other.xml"
    path.write_text(page(REGION % (LINE + REGION % "") + "<pc:TableRegion/>", "a.tif"))
    lines = read_annotations(path, image_folder)
    assert (lines.format, lines.dialect, lines.problems) == ("page", "line", [])
    assert words(lines) == [["a.png", QUAD, False]]
    assert lines.annotations[0].declared_size == (100, 200)
    assert lines.annotations[0].labels == ("line l",)
    assert lines.warnings == (
        f"{path}: 1 TextRegion elements without a TextLine, which are left out",
    )
    assert len(words(read_annotations(path, image_folder, "page:word"))) == 2
    regions = read_annotations(path, image_folder, "page:region")
    assert [each[1] for each in words(regions)] == [[[0, 0], [199, 0], [199, 99]]] * 2
    (own,) = columns("page", path, image_folder)
    assert (own.texts, own.classes) == (["Ada Bob"], ["Printed text"])
    (own,) = columns("page", path, image_folder, "word")
    assert own.texts == ["Ada", "Bob"]
    (own,) = columns("page", path, image_folder, "region")
    assert own.classes == ["heading", "heading"]


def test_page_files_beside_their_images(tmp_path: Path, image_folder: Path) -> None:
    """Transkribus: page/a.xml and metadata below a.png."""
    (image_folder / "page").mkdir()
    (image_folder / "page" / "a.xml").write_text(page(REGION % LINE, "other.jpg"))
    (image_folder / "mets.xml").write_text("<mets:mets/>")
    found = read_annotations(image_folder, image_folder, "page")
    assert words(found) == [["a.png", QUAD, False]]
    assert [name for name, _ in found.left_out] == ["mets.xml"]


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        (LINE.replace('points="10,10 90,12 90,32 10,30"', ""), "page", "line l: has no Coords, so"),
        ('<pc:TextLine><pc:Baseline points="1,2 3,4"/></pc:TextLine>', "page",
         "line 1: has a Baseline and no Coords, so no outline; add its Coords or remove it"),
        (LINE.replace("10,30", "10;"), "page", "line l: its points has 7 numbers, which are no"),
        (REGION % "", "page", "has no TextLine, but 1 TextRegion; say --format page:region to"),
        ("<pc:TextLine/>", "page:word", "has no Word, but 1 TextLine; say --format page:line to"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_page(
    tmp_path: Path, image_folder: Path, content: str, form: str, message: str
) -> None:
    found = read(tmp_path / "a.xml", image_folder, page(content), form)
    assert [message in each for each in messages(found)] == [True], messages(found)


def alto(lines: str, unit: str = "pixel", pages: int = 1) -> str:
    block = f"<PrintSpace><TextBlock>{lines}</TextBlock></PrintSpace>"
    one = f'<Page HEIGHT="100.0" WIDTH="200">{block}</Page>'
    return (
        f"<alto><Description><MeasurementUnit>{unit}</MeasurementUnit></Description>"
        f'<Tags><OtherTag ID="t" LABEL="heading"/></Tags><Layout>{one * pages}</Layout></alto>'
    )


BOXED = 'HPOS="10" VPOS="10.5" WIDTH="80" HEIGHT="20"'
STRINGS = f'<String CONTENT="Ada" {BOXED}/><SP/><String CONTENT="###" {BOXED}/><HYP CONTENT="-"/>'


@pytest.mark.parametrize(
    "points",
    ["10,10 90,12 90,32 10,30", "10 10 90 12 90 32 10 30", "(10,10)(90,12),(90,32)(10,30)"],
)
def test_levels_of_alto(tmp_path: Path, image_folder: Path, points: str) -> None:
    path = tmp_path / "a.xml"
    shape = f'<Shape><Polygon POINTS="{points}"/></Shape>'
    path.write_text(alto(f'<TextLine TAGREFS="x t" {BOXED}>{shape}{STRINGS}</TextLine>'))
    lines = read_annotations(path, image_folder)
    assert (lines.format, lines.dialect, lines.problems) == ("alto", "line", [])
    assert words(lines) == [["a.png", QUAD, False]]
    assert lines.annotations[0].declared_size == (100, 200)
    box = [[10, 10.5], [90, 10.5], [90, 30.5], [10, 30.5]]
    strings = read_annotations(path, image_folder, "alto:word")
    assert words(strings) == [["a.png", box, False], ["a.png", box, True]]
    (own,) = columns("alto", path, image_folder)
    assert (own.texts, own.classes) == (["Ada ###"], ["heading"])


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        (alto("", "mm10"), "alto", "measures in 'mm10', where points are pixels; export it with"),
        (alto("", ""), "alto", "has no MeasurementUnit, where points are pixels; export"),
        (alto("", pages=2), "alto", "holds 2 pages; split it up into a file per image"),
        (alto(""), "alto", "has text blocks and no TextLine in them; add the lines"),
        (alto(f"<TextLine {BOXED}/>"), "alto:word", "has lines and no String in them; say"),
        (alto("<TextLine/>"), "alto", "line 1: has neither a Polygon in a Shape nor HPOS, VPOS"),
        ("<alto/>", "alto", "is no ALTO XML: there is no Page in a Layout; correct or remove it"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_alto(
    tmp_path: Path, image_folder: Path, text: str, form: str, message: str
) -> None:
    found = read(tmp_path / "a.xml", image_folder, text, form)
    assert [message in each for each in messages(found)] == [True], messages(found)


# ---------------------------------------------------------------------------------------- CTW1500

CURVE = "10,50,16,45,22,42,28,41,34,42,40,45,46,50,46,70,40,65,34,62,28,61,22,62,16,65,10,70"
OFFSETS = "10,41,46,70,0,9,6,4,12,1,18,0,24,1,30,4,36,9,36,29,30,24,24,21,18,20,12,21,6,24,0,29"


def test_lines_of_ctw1500() -> None:
    assert dialect_of(OFFSETS) == "offsets"
    assert dialect_of(f"{CURVE},####a, b") == "text"
    sixteen = "5,5,10,4,20,3,30,3,40,3,50,3,60,4,70,5,70,9,60,9,50,9,40,9,30,9,20,9,10,9,5,9"
    for other in (sixteen, CURVE, f"{CURVE},text", "1" * 9999 + OFFSETS, OFFSETS + ",", ""):
        assert dialect_of(other) == ""


def test_polygons_of_other_sets_are_not_of_ctw1500(tmp_path: Path, image_folder: Path) -> None:
    folder = tmp_path / "gt"
    folder.mkdir()
    (folder / "a.txt").write_text(f"{CURVE},Ada\n{CURVE},###\n")
    found = read_annotations(folder, image_folder)
    assert (found.format, found.dialect) == ("icdar", "polygon")
    assert [len(each[1]) for each in words(found)] == [14, 14]


def test_ctw1500_read_as_another_format_is_said() -> None:
    folder = MADE / "ctw_old"
    found = read_annotations(folder / "gt", folder, "icdar")
    assert found.warnings[0].endswith("are as those of CTW1500; say --format ctw1500 if they are")


def test_one_file_of_ctw1500_and_its_texts(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "000a.txt"
    path.write_text(f"\ufeff{CURVE},####a, b\n\n{CURVE},#######\n{CURVE},####\n")
    found = read_annotations(path, image_folder)
    assert (found.format, found.dialect, found.problems) == ("ctw1500", "text", [])
    assert [(name, ignored) for name, _, ignored in words(found)] == [
        ("a.png", False), ("a.png", True), ("a.png", False),
    ]  # fmt: skip
    (own,) = columns("ctw1500", path, image_folder)
    assert own.texts == ["a, b", "###", ""]


@pytest.mark.parametrize(
    ("name", "text", "form", "message"),
    [
        ("a.txt", OFFSETS + ",1", "ctw1500:offsets", "line 1: has not 32 numbers; a line is xmin,"),
        ("a.txt", OFFSETS[:-1] + "x", "ctw1500:offsets", "line 1: its line is '10,41,46,70,0,9,6,"),
        ("a.txt", f"{CURVE},Ada", "ctw1500:text", "line 1: has no #### before its text; a line is"),
        ("a.txt", "1,2,3", "ctw1500", "line 1: has not 28 numbers; a line is x1,y1,...,x14,y14,##"),
        ("x.txt", OFFSETS, "ctw1500", "there is no image x.jpg, .png or the like; add it or"),
        ("a.xml", "<Annotations><image><box/></image></Annotations>", "ctw1500",
         "word 1: has 0 numbers in its segs, not 28; correct it"),
        ("a.xml", "<Annotations/>", "ctw1500", "must have one image in Annotations; correct"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_ctw1500(
    tmp_path: Path, image_folder: Path, name: str, text: str, form: str, message: str
) -> None:
    found = read(tmp_path / name, image_folder, text, form)
    assert [message in each for each in messages(found)] == [True], messages(found)


def test_too_many_lines_of_ctw1500(tmp_path: Path, image_folder: Path) -> None:
    found = read(tmp_path / "a.txt", image_folder, f"{OFFSETS}\n" * 4, max_polygons=3)
    assert "has 4 polygons, more than the limit of 3" in messages(found)[0]


def test_a_label_of_xml_may_be_don_t_care(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.xml"
    text = BY_NAME["ctw1500"].example.replace("CURVED", "###")
    assert [each[2] for each in words(read(path, image_folder, text))] == [True]
    broken = text.replace("10,50,", "")
    kept = read(path, image_folder, broken, skip_bad="polygon")
    assert words(kept) == [["a.png", [[10, 41], [46, 41], [46, 70], [10, 70]], True]]


# ------------------------------------------------------------------------------- KAIST, SVT, IAM


def test_several_images_of_word_boxes(tmp_path: Path, image_folder: Path) -> None:
    rectangle = (
        '<taggedRectangle x="1" y="2" width="30" height="4" rotation="0.0"><tag>%s</tag>'
        "</taggedRectangle>"
    )
    image = "<image><imageName>%s</imageName>%s</image>"
    path = tmp_path / "locations.xml"
    path.write_text(
        "<tagset>" + image % ("b.PNG", rectangle % "Ada" + rectangle % "###")
        + image % ("data/train/c.png", "<taggedRectangles/>") + "</tagset>"
    )  # fmt: skip
    found = read_annotations(path, image_folder)
    assert (found.format, found.problems) == ("svt", [])
    corners = [[1, 2], [31, 2], [31, 6], [1, 6]]
    assert words(found) == [["b.png", corners, False], ["b.png", corners, True]]
    assert [each.name for each in found.annotations] == ["b.png", "train/c.png"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("svt", "<tagset/>", "has no image in it; correct or remove it"),
        ("svt", "<tagset><image/></tagset>", "line 1: has no imageName; add or remove it"),
        ("svt", "<tagset><image><imageName>a.png</imageName><taggedRectangle x='1' y='1' width='2' "
         "height='2' rotation='3'/></image></tagset>", "a.png: line 1 word 1: is turned, which"),
        ("kaist", "<images/>", "has no image in it; correct or remove it"),
        ("kaist", "<image><words><word x='1' y='1' width='-2' height='2'/></words></image>",
         "word 1: has a negative width or height; correct or remove it"),
        ("kaist", "<image><words><word x='1' y='1' width='2'/></words></image>",
         "word 1: has no height; add it or remove it all"),
        ("iam", "<form/>", "is no form with a handwritten-part; correct or remove it"),
        ("iam", "<form><handwritten-part><word id='w'><cmp x='1'/></word></handwritten-part>"
         "</form>", "word w: has no y; add it or remove it all"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_words_in_boxes(
    tmp_path: Path, image_folder: Path, name: str, text: str, message: str
) -> None:
    found = read(tmp_path / "a.xml", image_folder, text, name)
    assert [message in each for each in messages(found)] == [True], messages(found)


def test_words_of_kaist_are_spelt(tmp_path: Path) -> None:
    (own,) = columns("kaist", MADE / "kaist" / "a.xml", MADE / "kaist")
    assert own.texts == ["A"]


def test_levels_of_iam(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.xml"
    form = BY_NAME["iam"].example.replace("</word>", '</word><word text="."/>')
    printed = "<machine-printed-part><machine-print-line/></machine-printed-part>"
    path.write_text(form.replace("<handwritten-part>", f"{printed}<handwritten-part>"))
    found = read_annotations(path, image_folder)
    corners = [[10, 10], [90, 10], [90, 30], [10, 30]]
    assert words(found) == [["a.png", corners, False]]
    assert found.warnings == (
        f"{path}: 1 forms with printed text, which has no boxes and would be learnt as background",
        f"{path}: 1 words without a component, as of punctuation, which are left out",
    )
    assert words(read_annotations(path, image_folder, "iam:line")) == words(found)
    (own,) = columns("iam", path, image_folder)
    assert (own.texts, own.classes) == (["Ada"], ["NN"])


# ------------------------------------------------------------------------------------------- hOCR


def hocr(*pages: str) -> str:
    return f"<!DOCTYPE html>\n<html><body>{''.join(pages)}</body></html>"


def ocr_page(image: str, content: str) -> str:
    return f"<div class='ocr_page' title='image \"{image}\"; bbox 0 0 200 100'>{content}</div>"


TESSERACT = """\
<p class="ocr_par"><span class="ocr_header" title="bbox 10 10 90 30; baseline 0 -3">
 <span class="ocrx_word" title="bbox 10 10 50 30; x_wconf 96"><strong>caf&eacute;</strong></span>
 <span class="ocrx_word" title="bbox 50 10 90 30; x_wconf 9">###</span></span>
 <span class="ocr_line" title="x_size 3; poly 10 10 90 12 90 32 10 30; bbox 1 2 3 4">
 <span class="ocrx_word" title="bbox 0 0 190 90; x_wconf 95"> </span></span></p>"""


def test_levels_of_hocr(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "a.hocr"
    path.write_text(hocr(ocr_page("scan; 1.tif", TESSERACT)))
    found = read_annotations(path, image_folder)
    assert (found.format, found.dialect, found.problems) == ("hocr", "line", [])
    corners = [[10, 10], [90, 10], [90, 30], [10, 30]]
    assert words(found) == [["a.png", corners, False], ["a.png", QUAD, True]]
    assert found.annotations[0].declared_size == (100, 200)
    (own,) = columns("hocr", path, image_folder)
    assert own.texts == ["caf\u00e9 ###", ""]
    assert own.classes == ["ocr_header", "ocr_line"]
    single = read_annotations(path, image_folder, "hocr:word")
    assert [each[2] for each in words(single)] == [False, True, True]


def test_pages_of_hocr(tmp_path: Path, image_folder: Path) -> None:
    path = tmp_path / "book.html"
    pages = [ocr_page(name, TESSERACT) for name in ("/tmp/x/a.png", "b.tif", "c.png")]
    found = read(path, image_folder, hocr(*pages))
    assert [each.name for each in found.annotations] == ["a.png", "b.png", "c.png"]
    assert found.problems == []


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        (hocr(), "hocr", "has no ocr_page; correct or remove it"),
        (hocr(ocr_page("", ""), ocr_page("b.png", "")), "hocr", "line 2: names no image; add it"),
        (hocr(ocr_page("a.png", "<i class='ocr_line'/>")), "hocr", "line 1: has no bbox of four"),
        (hocr(ocr_page("a.png", "<i class='ocr_line' title='bbox 1 2 x 4'/>")), "hocr",
         "line 1: its bbox is '1 2 x 4', which is no numbers; correct or remove it"),
        (hocr(ocr_page("a.png", "<i class='ocrx_word'/>")), "hocr", "has no ocr_line, but words;"),
        (hocr("<br>"), "hocr", "is not well-formed XML: mismatched tag; correct it"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_hocr(
    tmp_path: Path, image_folder: Path, text: str, form: str, message: str
) -> None:
    found = read(tmp_path / "a.hocr", image_folder, text, form)
    assert [message in each for each in messages(found)] == [True], messages(found)


# -------------------------------------------------------------------------------------- real files


def counted(found: Reading) -> tuple[str, int, int, int]:
    """Format, images, words, don't-care."""
    listed = words(found)
    return found.format, len(found.annotations), len(listed), sum(each[2] for each in listed)


def test_real_files_of_cvat(shared: Path, tmp_path: Path) -> None:
    samples = shared.parent / "formats" / "samples" / "cvat"
    task = read_annotations(samples / "images_task.xml", samples / "images")
    assert counted(task) == ("cvat", 2, 2, 0)
    assert task.problems == []
    assert task.warnings[0].endswith("are left out: points 1, polyline 1")
    for subset in ("Train", "Test", "Validation"):
        shutil.copytree(samples / "images", tmp_path / "images" / subset)
    project = read_annotations(samples / "images_project.xml", tmp_path)
    assert counted(project) == ("cvat", 6, 6, 0)
    assert project.problems == []
    assert project.annotations[0].name == "images/Test/img0.jpg"
    assert words(project)[0][1] == [[0, 2], [4, 2], [4, 4], [0, 4]]
    inside = read_annotations(samples / "images_project.xml", tmp_path / "images")
    assert [a.name for a in inside.annotations][:2] == ["Test/img0.jpg", "Test/img1.jpg"]
    flat = read_annotations(samples / "images_project.xml", samples / "images")
    assert len(flat.problems) == 4
    video = read_annotations(samples / "video.xml", samples / "images")
    assert "holds tracks of a video" in messages(video)[0]


@pytest.mark.parametrize(
    ("file", "form", "counts"),
    [
        ("page_cPAS-2000.xml", "auto", ("page", 1, 97, 0)),
        ("page_cPAS-2000.xml", "page:region", ("page", 1, 3, 0)),
        ("page_missing_coords_transkribus.xml", "auto", ("page", 1, 4, 0)),
        ("170025120000003,0074-lite.xml", "auto", ("page", 1, 5, 0)),
        ("alto_bsb00084914_00007.xml", "auto", ("alto", 1, 31, 0)),
        ("alto_bsb00084914_00007.xml", "alto:word", ("alto", 1, 86, 0)),
    ],
)
def test_real_files_of_pages(
    shared: Path, tmp_path: Path, file: str, form: str, counts: tuple[str, int, int, int]
) -> None:
    path = shared.parent / "formats" / "samples" / "page_alto" / file
    for name in ("cPAS-2000.jpg", "test.jpg", "170025120000003,0074.jpg", "bsb00084914_00007.jpg"):
        (tmp_path / name).touch()  # names matter alone
    found = read_annotations(path, tmp_path, form)
    assert counted(found) == counts, messages(found)[:3]
    assert found.problems == []


def test_a_real_file_in_another_unit(shared: Path, tmp_path: Path) -> None:
    path = shared.parent / "formats" / "samples" / "page_alto" / "alto_invalid_mu.xml"
    (tmp_path / "bsb00084914_00007.jpg").touch()
    assert (
        "measures in 'mm', where points are pixels" in messages(read_annotations(path, tmp_path))[0]
    )
    schema = path.with_name("FineReader10-schema-v1.xml")
    with pytest.raises(InputError, match="is in no known annotation format"):
        read_annotations(schema, tmp_path)
