#!/usr/bin/env python3
"""Render a small dataset of receipts, for trying the project out without any data of one's own.

Each page is drawn upright on paper, text line by text line, then laid on a table under an angle;
the polygons go through the same transform as the pixels. Over each dozen images come the kinds that
real folders hold: EXIF orientations, greyscale, PNG with alpha, CMYK, large scans, pages without
text. The same arguments give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

VERSION = 1
NAMES = ("NORTH STAR", "CORNER MART", "GREEN LEAF", "BLUE HARBOUR", "OLD MILL", "SUNNY SIDE")
KINDS = ("BAKERY", "GROCERY", "BOOKS", "HARDWARE", "CAFE", "PHARMACY", "STATIONERY")
STREETS = ("MARKET ST", "HIGH ROAD", "STATION LANE", "PARK AVENUE", "RIVER WALK")
ITEMS = ("RYE BREAD", "Oat milk 1L", "APPLES 2KG", "Green tea", "PENCILS HB", "Notebook A5")
MORE_ITEMS = ("OLIVE OIL", "Butter 250g", "PAINT BRUSH", "Screws M4", "COFFEE", "RICE 5KG")
FOOTERS = ("THANK YOU", "PLEASE COME AGAIN", "GOODS SOLD ARE FINAL", "KEEP THIS RECEIPT")
# What each image of a dozen is; `exif` takes the orientations in turn.
DOZEN: tuple[str, ...] = ("plain", "exif", "grey", "alpha", "plain", "cmyk")
DOZEN += ("exif", "large", "exif", "blank", "plain", "landscape")
ORIENTATIONS = (6, 8, 3, 5, 2, 7, 4)
# Orientation -> how stored pixels lie, given the displayed ones.
UNTURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that comes with Pillow, at a size in pixels."""
    return ImageFont.load_default(size)


@dataclass
class Page:
    """A sheet of paper under the printer's head.

    words: (polygon float64 (V, 2) in the paper's pixels, text, ignore) of all that was printed.
    """

    paper: Image.Image
    random: np.random.Generator
    words: list[tuple[np.ndarray, str, bool]] = field(default_factory=list)

    @property
    def ink(self) -> tuple[int, int, int]:
        """A dark colour, never twice quite the same."""
        grey = int(self.random.integers(15, 75))
        return (grey, grey, grey + int(self.random.integers(0, 20)))

    def print_line(self, x: float, y: float, text: str, size: int, anchor: str = "la") -> None:
        """Print one line of text and annotate the box around its glyphs."""
        draw, x, y = ImageDraw.Draw(self.paper), round(x), round(y)
        left, top, right, bottom = draw.textbbox((x, y), text, font(size), anchor)
        draw.text((x, y), text, self.ink, font(size), anchor)
        # The text box has the spacing beside the outer glyphs in it; the ink has not.
        ink = font(size).getmask(text).getbbox()
        left, top, right, bottom = left + ink[0], top + ink[1], left + ink[2], top + ink[3]
        box = [[left, top], [right, top], [right, bottom], [left, bottom]]
        self.words.append((np.array(box, float), text, False))

    def print_arc(self, x: float, y: float, text: str, size: int) -> None:
        """Print one line of text along an arc that peaks at (x, y), as a polygon of 8 to 16."""
        left, top, right, bottom = (int(v) for v in font(size).getbbox(text))
        width, height = right - left, bottom - top
        strip = Image.new("L", (width, height))
        ImageDraw.Draw(strip).text((-left, -top), text, 255, font(size))
        radius = width * float(self.random.uniform(0.8, 1.6))
        half = width / 2 / radius
        centre = np.array([x, y + height / 2 + radius])
        # Polar coordinates about the centre of the arc are the strip's own coordinates.
        columns, rows = np.meshgrid(np.arange(self.paper.width), np.arange(self.paper.height))
        across, up = columns + 0.5 - centre[0], centre[1] - rows - 0.5
        along = (np.arctan2(across, up) + half) * radius - 0.5
        down = radius + height / 2 - np.hypot(across, up) - 0.5
        cover = cv2.remap(
            np.asarray(strip), along.astype(np.float32), down.astype(np.float32), cv2.INTER_LINEAR
        )
        self.paper.paste(self.ink, (0, 0), Image.fromarray(cover))
        angles = np.linspace(-half, half, int(self.random.integers(4, 9)))
        edges = [
            np.stack([np.sin(turn) * reach, -np.cos(turn) * reach], axis=1) + centre
            for turn, reach in (
                # Chords of the outer edge touch the arc from outside, so that no glyph is cut.
                (angles, (radius + height / 2) / np.cos((angles[1] - angles[0]) / 2)),
                (angles[::-1], radius - height / 2),
            )
        ]
        self.words.append((np.concatenate(edges), text, False))

    def smudge(self, number: int) -> None:
        """Make one printed line illegible, and mark it don't-care."""
        polygon, text, _ = self.words[number]
        x, y = np.floor(polygon.min(axis=0)).astype(int)
        right, bottom = np.ceil(polygon.max(axis=0)).astype(int)
        patch = np.array(self.paper.crop((x, y, right, bottom)))
        blurred = cv2.GaussianBlur(patch, (0, 0), max(3.0, (bottom - y) / 3))
        self.paper.paste(Image.fromarray(blurred), (int(x), int(y)))
        self.words[number] = (polygon, text, True)


def choice(random: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the options."""
    return options[int(random.integers(len(options)))]


def price(random: np.random.Generator) -> str:
    """An amount of money."""
    return f"{random.integers(1, 60)}.{random.integers(0, 100):02d}"


def print_receipt(random: np.random.Generator, size: int, items: int, blank: bool) -> Page:
    """A whole receipt with body text of size pixels; blank: without any text."""
    width, height = size * 20, int(size * (1.55 * items + 15))
    tint = random.integers(225, 253, 3)
    page = Page(Image.new("RGB", (width, height), tuple(int(v) for v in tint)), random)
    draw, left, right = ImageDraw.Draw(page.paper), width * 0.07, width * 0.93
    if not blank:
        title = choice(random, NAMES) if random.random() < 0.6 else choice(random, KINDS)
        if random.random() < 0.35:
            page.print_arc(width / 2, size * 1.2, title, int(size * 1.5))
        else:
            page.print_line(width / 2, size * 0.6, title, int(size * 1.7), "ma")
        street = f"{random.integers(1, 99)} {choice(random, STREETS)}"
        page.print_line(width / 2, size * 3.4, street, size, "ma")
        day, month, year = (random.integers(*span) for span in ((1, 29), (1, 13), (10, 26)))
        page.print_line(left, size * 5, f"{day:02d}/{month:02d}/20{year}", size)
        page.print_line(right, size * 5, f"NO {random.integers(100, 9999)}", size, "ra")
    y = size * 6.8
    for _ in range(items):
        if not blank:
            page.print_line(left, y, choice(random, ITEMS + MORE_ITEMS), size)
            page.print_line(right, y, price(random), size, "ra")
        y += size * 1.55
    for x in np.arange(left, right, size * 0.6):  # a dashed rule
        draw.line((x, y, x + size * 0.3, y), page.ink, max(1, size // 14))
    if not blank:
        page.print_line(left, y + size * 0.5, "TOTAL", int(size * 1.3))
        page.print_line(right, y + size * 0.5, price(random), int(size * 1.3), "ra")
        page.print_line(width / 2, y + size * 5.6, choice(random, FOOTERS), size, "ma")
    x = left + size
    while x < right - size:  # a barcode
        bar = size * float(random.uniform(0.06, 0.3))
        draw.rectangle((x, y + size * 2.9, x + bar, y + size * 4.7), page.ink)
        x += bar + size * float(random.uniform(0.08, 0.3))
    if page.words and random.random() < 0.4:
        page.smudge(int(random.integers(3, len(page.words))))
    return page


def photograph(page: Page, size: tuple[int, int], steep: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lay a page on a table and take its picture.

    size: (width, height) of the picture. Returns uint8 (height, width, 3) RGB, and the float64
    (2, 3) matrix from the paper's pixels to the picture's.
    """
    random, (width, height) = page.random, size
    angle = float(random.uniform(-15, 15) if steep else random.normal(0, 2))
    cosine, sine = abs(np.cos(np.radians(angle))), abs(np.sin(np.radians(angle)))
    across = page.paper.width * cosine + page.paper.height * sine
    down = page.paper.width * sine + page.paper.height * cosine
    scale = 0.96 * min(width / across, height / down)
    middle = (page.paper.width / 2, page.paper.height / 2)
    matrix = cv2.getRotationMatrix2D(middle, angle, scale)
    matrix[:, 2] += np.array([width / 2 - middle[0], height / 2 - middle[1]])
    colour = random.integers(40, 190, 3).astype(np.float32)
    grain = random.normal(0, 10, (height // 16 + 1, width // 4 + 1, 1)).astype(np.float32)
    table = colour + cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    paper = np.asarray(page.paper)
    # OpenCV counts from the middle of the top-left pixel; the polygons count from its corner.
    warp = matrix.copy()
    warp[:, 2] = warp @ [0.5, 0.5, 1.0] - 0.5
    laid = cv2.warpAffine(paper, warp, size)
    cover = cv2.warpAffine(np.full(paper.shape[:2], 255, np.uint8), warp, size)
    share = (cover / np.float32(255))[..., None]
    bright, dim = (float(v) for v in random.uniform(0.86, 1.04, 2))
    slope = np.linspace(bright, dim, width, dtype=np.float32)[None, :, None]
    picture = table + share * (laid - table)  # float32 and in place: scans are large
    picture *= slope
    picture += np.float32(2.5) * random.standard_normal((height, width, 1), np.float32)
    return picture.clip(0, 255, out=picture).astype(np.uint8), matrix


def encode(pixels: np.ndarray, kind: str, turn: int, quality: int) -> bytes:
    """The image file's bytes; turn: EXIF orientation for the kind `exif`."""
    image = Image.fromarray(pixels)
    options: dict[str, Any] = {"quality": quality}
    if kind == "grey":
        image = image.convert("L")
    elif kind == "cmyk":
        image = image.convert("CMYK")
    elif kind == "alpha":
        image.putalpha(255)
    elif kind == "exif":
        exif = image.getexif()
        exif[0x0112] = turn
        image, options["exif"] = image.transpose(UNTURN[turn]), exif.tobytes()
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if kind == "alpha" else "JPEG", **options)
    return buffer.getvalue()


def make_image(seed: int, split: int, number: int) -> tuple[str, bytes, dict[str, object]]:
    """One image of a split: its file's name and bytes, and its annotation."""
    random = np.random.default_rng([seed, split, number])
    kind = DOZEN[number % 12]
    turn = ORIENTATIONS[(number // 12 * 3 + DOZEN[: number % 12].count("exif")) % 7]
    width, height = int(random.integers(560, 760)), int(random.integers(800, 1060))
    if kind == "landscape":
        width, height = height, width
    if kind == "large":
        width, height = int(random.integers(2300, 2500)), int(random.integers(3300, 3500))
    text = 26 * max(width, height) // 800
    items = int(random.integers(2, 5) if kind == "landscape" else random.integers(4, 9))
    page = print_receipt(random, text, items, kind == "blank")
    pixels, matrix = photograph(page, (width, height), steep=random.random() < 0.25)
    data = encode(pixels, kind, turn, int(random.integers(85, 93)))
    words: dict[str, object] = {}
    for polygon, string, ignore in page.words:
        points = (polygon @ matrix[:, :2].T + matrix[:, 2]).round(2).tolist()
        flag = {"ignore": True} if ignore else {}
        words[f"{len(words) + 1:04d}"] = {"points": points, "text": string, **flag}
    name = f"receipt_{number:04d}.{'png' if kind == 'alpha' else 'jpg'}"
    without = kind == "blank" and number // 12 % 2  # both ways to say that there is no text
    return name, data, {} if without else {"words": words}


def is_complete(folder: Path, arguments: dict[str, int]) -> bool:
    """Whether the folder holds all that these arguments give."""
    try:
        record = json.loads((folder / "sample.json").read_text())
        files = {name: (folder / name).stat().st_size for name in record["files"]}
    except (OSError, ValueError, KeyError):
        return False
    expected = {"version": VERSION, "arguments": arguments, "files": files}
    return bool(record == expected)


def is_ours(folder: Path) -> bool:
    """Whether the folder holds nothing but what an earlier run of this script wrote."""
    try:
        record = json.loads((folder / "sample.json").read_text())
        made = {"sample.json", *record["files"]} if record["version"] else set()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix() for path in found} <= made


def natural(text: str) -> int:
    """A count or seed from the command line."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def make(folder: Path, arguments: dict[str, int]) -> None:
    """Write both splits into a folder that does not exist yet."""
    files: dict[str, int] = {}

    def write(name: str, data: bytes) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        files[name] = len(data)

    for split, label in enumerate(("train", "val")):
        images: dict[str, object] = {}
        for number in range(arguments[label]):
            name, data, images[name] = make_image(arguments["seed"], split, number)
            write(f"images/{label}/{name}", data)
        write(f"jsons/{label}.json", json.dumps({"images": images}).encode())
        print(f"{label}: {arguments[label]} images", file=sys.stderr)
    record = {"version": VERSION, "arguments": arguments, "files": files}
    (folder / "sample.json").write_text(json.dumps(record, indent=1))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("data/sample"), help="folder to make")
    parser.add_argument("--train", type=natural, default=120, help="training images (default: 120)")
    parser.add_argument("--val", type=natural, default=40, help="validation images (default: 40)")
    parser.add_argument("--seed", type=natural, default=0, help="another seed, other receipts")
    parser.add_argument("--force", action="store_true", help="make it again in any case")
    given = parser.parse_args()
    given.out = given.out.resolve()  # a link stays a link
    arguments = {"train": given.train, "val": given.val, "seed": given.seed}
    if not given.force and is_complete(given.out, arguments):
        print(f"{given.out}: already complete", file=sys.stderr)
        return 0
    if given.out.exists() and not is_ours(given.out):
        reason = "exists and is no sample data, or not only; name another --out"
        print(f"error: {given.out}: {reason}", file=sys.stderr)
        return 2
    beside = given.out.with_name(f".{given.out.name}-{os.getpid()}")
    old = given.out.with_name(f"{beside.name}-old")
    try:
        make(beside, arguments)
        if given.out.exists():
            given.out.rename(old)
        beside.rename(given.out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print(f"{given.train + given.val} images in {given.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that scratch files are removed
    sys.exit(main())
