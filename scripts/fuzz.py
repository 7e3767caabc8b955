#!/usr/bin/env python3
"""Feed mutated annotations and images to the readers: only documented errors may come of it.

Each mutated input comes of a seed and a number, so that a failure can be had again. Writes a
summary on stdout, and each failure; exit status 1 if there is one: an error that is not documented,
more than 10 seconds of computing for one input, or more than 1 GB of memory in all.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pyarrow import Table, parquet

from ocr_precompute.annotations import read_annotations
from ocr_precompute.annotations.formats import FORMATS
from ocr_precompute.errors import PrecomputeError
from ocr_precompute.images.decoding import decode
from ocr_precompute.parameters import RECIPES, Parameters
from ocr_precompute.runtime.clock import peak_memory
from ocr_precompute.samples import Polygons
from ocr_precompute.settings import Rules
from ocr_precompute.targets.maps import draw_targets
from ocr_precompute.targets.sample import compute_sample

MAX_PIXELS = 16_000_000
MOST_SECONDS = 10.0
MOST_MEMORY = 10**9
MOST_JSON = 10**6
SIZE = (64, 64)
DIALECTS = tuple(f"icdar:{name}" for name in ("quad", "mlt", "rctw", "ltrb", "xywh", "polygon"))
XML = ("alto", "ctw1500", "cvat", "hocr", "iam", "kaist", "page", "svt")
YOLO = ("yolo", "yolo:box", "yolo:segment", "yolo:obb")
DOCUMENTS = ("coco", "cocotext", "hiertext", "label_studio", "labelme", "mmocr", "via")
JSON_FORMS = (
    *("words", "art", "rects", "funsd", "xfund:entity", "xfund", "cord", "supervisely"),
    *("textract", "textract:line", "google_vision", "azure", "azure:line"),
    *("hiertext:line", *DOCUMENTS),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**70, 1e308, -0.5, float("nan"), float("inf")),
    *("", "###", "a" * 1000, "\ud800", "1", "NaN", [], {}, [[0, 0]] * 3, [[1e9, 1e9]] * 4),
    *([[5, 5], [40, 40], [40, 5], [5, 40]], [[1, 2, 3]] * 4, [0, 0, 9, 0, 9, 9], {"points": []}),
)
EXTREMES = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0", b"\xff\xff\0\0")
TOKENS = (
    *(b"NaN", b"-1", b"1e999", b"99999999999999999999", b"0", b"null", b'"', b"[", b"]]", b"{"),
    *(b"###", b"\xef\xbb\xbf", b"\0", b"\r", b",,", b"\\ud800", b"Arabic,", b"1,", b"true", b"../"),
    *(b"<!DOCTYPE a [<!ENTITY e 'x'>]>", b"&e;", b"&amp;", b"<a>", b"</a>", b'="', b"/>", b"]]>"),
)


def image_seeds() -> list[bytes]:
    """Small image files of every kind that is read."""
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    page = Image.fromarray(noise).resize((83, 61), Image.Resampling.BICUBIC)
    tiffs = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")
    made: list[tuple[Image.Image, str, dict[str, object]]] = [
        (page, "JPEG", {}),
        (page, "JPEG", {"progressive": True}),
        (page, "JPEG", {"restart_marker_rows": 1}),
        (page, "JPEG", {"subsampling": 0}),
        (page.convert("L"), "JPEG", {}),
        (page.convert("CMYK"), "JPEG", {}),
        *((page.convert(mode), "PNG", {}) for mode in ("RGB", "L", "1", "P", "RGBA", "LA")),
        *((page.convert(mode), "BMP", {}) for mode in ("RGB", "L", "P", "1")),
        (page, "WEBP", {}),
        (page, "WEBP", {"lossless": True}),
        (page, "WEBP", {"save_all": True, "append_images": [page.rotate(90)]}),
    ]
    made += [(page, "TIFF", {"compression": kind}) for kind in tiffs]
    seeds = []
    for image, kind, options in made:
        exif = Image.Exif()
        exif[274] = 6
        buffer = io.BytesIO()
        image.save(buffer, kind, **({} if kind == "BMP" else {"exif": exif}), **options)
        seeds.append(buffer.getvalue())
    return seeds


def annotation_seeds() -> list[tuple[str, bytes]]:
    """Annotation files of every form that is read, with the names they go by."""
    quad = [[10.0, 8.0], [60.0, 9.0], [60.0, 20.0], [10.0, 19.0]]
    marks: tuple[dict[str, Any], ...] = (
        {"ignore": True},
        {"ignore": 0},
        {"illegibility": True},
        {"word_tags": ["masked"]},
    )
    words = {
        f"{n:04d}": {"points": quad, "transcription": "a", **mark} for n, mark in enumerate(marks)
    }
    page = {"img_h": 61, "img_w": 83, "words": words}
    document = {"images": {"a.jpg": page, "b.jpg": {"words": {}}}}
    corners = ",".join(str(int(value)) for point in quad for value in point)
    lines = {
        "quad": f"{corners},word\n{corners},###\n",
        "mlt": f"{corners},Latin,word\n{corners},Arabic,###\n",
        "rctw": f'{corners},0,"word"\n{corners},1,"###"\n',
        "ltrb": '10,8,60,20,word\n10 30 60 40 "word"\n',
        "polygon": f"{corners},70,30,72,40,curved text\n",
        "box": "0 0.25 0.2 0.4 0.2\n1 0.725 0.6 0.35 0.2 0.9\n",
        "segment": "0 0.05 0.1 0.45 0.12 0.45 0.32 0.05 0.3\n0 0.5 0.5 0.1 0.1\n",
    }
    texts = [("a.txt", text.encode()) for text in lines.values()]
    return [
        *((f"{kind}.json", json.dumps(document).encode(*code)) for kind, code in JSON_KINDS),
        ("utf8.json", json.dumps(document, indent=1).encode()),
        *(("a.json", json.dumps(form).encode()) for form in json_seeds(quad)),
        *(("a.json", form.example.encode()) for form in FORMATS if form.name in DOCUMENTS),
        *texts,
        ("gt_a.txt", lines["quad"].encode("utf-16")),
        ("a.jpg.txt", b"\xef\xbb\xbf" + lines["ltrb"].encode()),
        *(("a.xml", form.example.encode()) for form in FORMATS if form.name in XML),
        *(("a.parquet", parquet_seed(quad, packing)) for packing in ("none", "zstd")),
    ]


def parquet_seed(quad: list[list[float]], packing: str) -> bytes:
    """Rows of Parquet in two row groups; quad: a word's points."""
    words = [{"points": quad, "transcription": "a", "ignore": True}, {"points": quad, "tags": []}]
    rows = [
        {"name": f"{name}.jpg", "img_w": 83, "img_h": 61, "digest": "ab" * 32, "words": words}
        for name in "abc"
    ]
    file = io.BytesIO()
    parquet.write_table(Table.from_pylist(rows), file, row_group_size=2, compression=packing)
    return file.getvalue()


def json_seeds(quad: list[list[float]]) -> list[dict[str, Any]]:
    """Documents of the other forms in JSON; quad: a word's points."""
    flat = [number for point in quad for number in point]
    box, corners = [10, 8, 60, 20], ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
    points = [{"x": x, "y": y} for x, y in quad]
    shares = [{"X": x / 83, "Y": y / 61} for x, y in quad]
    vision = {"description": "a", "boundingPoly": {"vertices": points}}
    small = [{"x": share["X"], "y": share["Y"]} for share in shares]
    symbols = {"symbols": [{"text": "a"}], "boundingBox": {"normalizedVertices": small}}
    page = {"blocks": [{"paragraphs": [{"words": [symbols]}]}], "width": 83, "height": 61}
    form = [{"box": box, "text": "", "label": "x", "words": [{"box": box, "text": "a"}]}]
    exterior = {"points": {"exterior": quad}, "geometryType": "polygon", "classTitle": "text"}
    azure = [{"content": "a", "polygon": flat}, {"text": "a", "boundingPolygon": points}]
    return [
        {"a": [{"points": quad, "transcription": "a", "illegibility": False}], "b": []},
        {"lines": [{"points": flat, "transcription": "a", "ignore": 0}], "chars": []},
        {"form": form},
        {"documents": [{"img": {"fname": "a.jpg", "width": 83, "height": 61}, "document": form}]},
        {
            "valid_line": [{"words": [{"quad": dict(zip(corners, flat, strict=True))}]}],
            "dontcare": [[dict(zip(corners, flat, strict=True))]],
            "meta": {"image_size": {"width": 83, "height": 61}},
        },
        {"size": {"height": 61, "width": 83}, "objects": [exterior]},
        {"Blocks": [{"BlockType": "WORD", "Text": "a", "Geometry": {"Polygon": shares}}]},
        {"responses": [{"textAnnotations": [vision, vision]}]},
        {"fullTextAnnotation": {"pages": [page]}},
        {"analyzeResult": {"pages": [{"unit": "pixel", "words": azure, "lines": azure}]}},
        {
            "readResult": {"blocks": [{"lines": [azure[1]]}]},
            "metadata": {"width": 83, "height": 61},
        },
    ]


JSON_KINDS: tuple[tuple[str, tuple[str, ...]], ...] = (("utf8", ()), ("utf16", ("utf-16",)))


def mutated(data: bytes, others: list[bytes], source: random.Random, text: bool) -> bytes:
    """The data with one to four changes."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        near = source.random() < 0.5  # headers are the more telling part
        at = source.randrange(min(len(changed), 200) if near else len(changed)) if changed else 0
        length = source.choice((1, 2, 4, 16, 200))
        kind = source.randrange(8)
        if kind == 0:
            changed[at : at + 1] = source.randbytes(1)
        elif kind == 1:
            changed[at : at + length] = source.randbytes(length)
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length] * source.choice((1, 2, 50))
        elif kind == 4:
            changed[at:at] = source.choice(TOKENS) if text else source.randbytes(length)
        elif kind == 5:
            changed[at : at + 4] = source.choice(TOKENS if text else EXTREMES)
        elif kind == 6:
            other = source.choice(others)
            changed[at:] = other[source.randrange(len(other)) :]
        elif source.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def mutated_document(data: bytes, source: random.Random) -> bytes:
    """A JSON document with one to four of its values, keys or parts changed, still valid JSON."""
    text = data.decode("utf-8")
    for _ in range(source.randint(1, 4)):
        document = json.loads(text)
        parts = [part for part in _parts(document) if part]
        if not parts:  # nothing is left that could be changed
            break
        part = source.choice(parts)
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        key, kind = source.choice(keys), source.randrange(6)
        if kind == 0 and isinstance(part, dict):
            part[source.choice(("../a.jpg", "", "\ud800", "b.jpg", "ignore"))] = part.pop(key)
        elif kind == 1:
            del part[key]
        elif kind == 2:
            part[key] = source.choice(parts)
        elif kind == 3 and isinstance(part[key], list):
            part[key] = part[key] * source.choice((0, 2, 3000))
        else:
            part[key] = source.choice(VALUES)
        try:
            changed = json.dumps(document)
        except ValueError:  # a part was put into itself
            continue
        text = changed if len(changed) < MOST_JSON else text
    return text.encode()


def _parts(value: object) -> Iterator[dict[Any, Any] | list[Any]]:
    """All objects and arrays in a JSON document."""
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _parts(each)


def try_image(data: bytes, source: random.Random) -> str:
    """Decode an image as a build and a prediction would; what came of it."""
    mode = source.choice(("exact", "reduced"))
    decode(data, SIZE, mode, MAX_PIXELS)  # type: ignore[arg-type]
    nothing = Polygons.from_list([], [])
    compute_sample("a", data, nothing, Parameters(size=SIZE, decode=mode), MAX_PIXELS)  # type: ignore[arg-type]
    return "read"


def try_annotations(name: str, data: bytes, folder: Path, source: random.Random) -> str:
    """Read an annotation file, and draw what is in it; what came of it."""
    path = folder / "gt" / name
    path.write_bytes(data)
    kinds = {
        ".json": JSON_FORMS,
        ".xml": (*XML, "page:word", "alto:word", "hocr:word"),
        ".parquet": ("words_parquet",),
    }
    forms = kinds.get(path.suffix, ("icdar", *DIALECTS, *YOLO))
    asked = source.choice(("auto", source.choice(forms)))
    rules = Rules(
        skip_bad=source.choice(("no", "polygon", "image")), repair=source.choice((None, False))
    )
    where = path if path.suffix in kinds else path.parent
    try:
        reading = read_annotations(where, folder / "img", asked, rules)
    finally:
        path.unlink()
    for annotation in reading.annotations:
        draw_targets(annotation.polygons.scaled(0.7), SIZE, RECIPES["dbnet"])
    return "refused" if reading.problems else "read"


def fuzz(kind: str, count: int, seed: int, attempt: Callable[[random.Random], str]) -> list[str]:
    """Run so many attempts; what went wrong, a line each."""
    outcomes: Counter[str] = Counter()
    failures = []
    slowest = (0.0, 0)
    for number in range(count):
        started = sum(os.times()[:4])
        try:
            outcomes[attempt(random.Random(f"{kind} {seed} {number}"))] += 1
        except PrecomputeError as error:
            outcomes[type(error).__name__] += 1
        except Exception:
            failures.append(f"{kind} {number}: {traceback.format_exc()}")
        seconds = sum(os.times()[:4]) - started
        slowest = max(slowest, (seconds, number))
        if seconds > MOST_SECONDS:
            failures.append(f"{kind} {number}: took {seconds:.1f} s")
    memory = peak_memory()
    if memory > MOST_MEMORY:
        failures.append(f"{kind}: took {memory / 1e6:.0f} MB")
    told = ", ".join(f"{outcome} {n}" for outcome, n in sorted(outcomes.items()))
    slow = f"slowest {slowest[0]:.2f} s (number {slowest[1]})"
    print(f"{kind}: {told}; {slow}, memory {memory / 1e6:.0f} MB", flush=True)
    return failures


def main() -> int:
    """Parse the command line, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--annotations", type=int, default=10_000, help="how many mutated ones")
    parser.add_argument("--images", type=int, default=5_000, help="how many mutated ones")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("error")
    images, annotations = image_seeds(), annotation_seeds()
    texts = [data for _, data in annotations]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("img", "gt"):
            (folder / part).mkdir()
        for part in ("a.jpg", "b.jpg"):
            (folder / "img" / part).write_bytes(images[0])

        def image(source: random.Random) -> str:
            return try_image(mutated(source.choice(images), images, source, text=False), source)

        def annotation(source: random.Random) -> str:
            name, data = source.choice(annotations)
            # Changed bytes mostly make it no JSON.
            if name in ("utf8.json", "a.json") and source.random() < 0.8:
                data = mutated_document(data, source)
            else:
                data = mutated(data, texts, source, text=True)
            return try_annotations(name, data, folder, source)

        failures = fuzz("image", options.images, options.seed, image)
        failures += fuzz("annotation", options.annotations, options.seed, annotation)
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
