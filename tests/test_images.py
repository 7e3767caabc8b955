"""Image files to pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ocr_precompute.errors import ImageError
from ocr_precompute.images.decoding import check_image, decode, letterbox

LIMIT = 10**6
# A white page with a red top left corner: shows which way is up, and which channel is which.
PAGE = np.full((120, 200, 3), 255, np.uint8)
PAGE[:40, :60] = (230, 20, 20)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def stored_under(orientation: int, kind: str = "JPEG", page: np.ndarray = PAGE) -> bytes:
    """The page as a file whose stored pixels need that EXIF orientation to stand upright."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # PIL.Image.Transpose values
    image = Image.fromarray(page)
    if orientation in undo:
        image = image.transpose(Image.Transpose(undo[orientation]))
    exif = image.getexif()
    exif[274] = orientation
    return encoded(image, kind, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "kind"),
    [("exact", kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")] + [("reduced", "JPEG")],
)
def test_exif_orientation_is_applied(orientation: int, mode: str, kind: str) -> None:
    data = stored_under(orientation, kind)
    decoded = decode(data, (30, 50), mode, LIMIT)
    image, scale = letterbox(decoded.pixels, decoded.size, (30, 50))
    assert decoded.size == (120, 200)
    assert scale == 0.25
    assert check_image(data, LIMIT) == (120, 200)
    assert image[2, 2, 0] > 200 > 90 > image[2, 2, 1]
    assert image[2, 40].min() > 200
    assert image[20, 2].min() > 200


@pytest.mark.parametrize(
    ("kind", "image"),
    [
        ("JPEG", Image.fromarray(PAGE).convert("CMYK")),
        ("PNG", Image.fromarray(PAGE).convert("RGBA")),
        ("PNG", Image.fromarray(PAGE).convert("P")),
        ("WEBP", Image.fromarray(PAGE)),
        ("BMP", Image.fromarray(PAGE)),
        ("TIFF", Image.fromarray(PAGE)),
    ],
)
def test_colour_kinds_become_rgb(kind: str, image: Image.Image) -> None:
    decoded = decode(encoded(image, kind), (120, 200), "exact", LIMIT)
    upright, _ = letterbox(decoded.pixels, decoded.size, (120, 200))
    assert np.abs(upright.astype(int) - PAGE)[5:30, 5:50].max() < 40
    assert upright.shape == (120, 200, 3)


@pytest.mark.parametrize("depth", ["L", "I;16"])
def test_grey_becomes_rgb(depth: str) -> None:
    grey = Image.fromarray(PAGE[..., 1] if depth == "L" else PAGE[..., 1].astype(np.uint16) * 257)
    pixels = decode(encoded(grey, "PNG"), (120, 200), "exact", LIMIT).pixels
    assert pixels.shape == (120, 200, 3)
    assert (pixels[..., 0] == PAGE[..., 1]).all()
    assert (pixels[..., 2] == PAGE[..., 1]).all()


def test_reduced_decodes_fewer_pixels_and_keeps_the_geometry() -> None:
    data = encoded(Image.fromarray(np.tile(PAGE, (9, 9, 1))[:1001, :1790]))
    exact, reduced = (decode(data, (160, 160), mode, 10**7) for mode in ("exact", "reduced"))
    assert exact.size == reduced.size == exact.pixels.shape[:2] == (1001, 1790)
    assert reduced.pixels.shape[:2] == (126, 224)  # an eighth, and still no smaller than 89 x 160
    a, b = (letterbox(d.pixels, d.size, (160, 160)) for d in (exact, reduced))
    assert a[1] == b[1]
    assert np.abs(a[0].astype(int) - b[0]).mean() < 3


def test_reduced_is_exact_for_what_is_not_twice_too_large() -> None:
    data = encoded(Image.fromarray(PAGE))
    exact, reduced = (decode(data, (61, 101), mode, LIMIT).pixels for mode in ("exact", "reduced"))
    assert np.array_equal(exact, reduced)


@pytest.mark.parametrize("size", [(640, 640), (48, 333), (16, 16), (120, 200)])
@pytest.mark.parametrize("original", [(120, 200), (3000, 7), (1, 1), (37, 1999)])
def test_letterbox_fits_and_pads(original: tuple[int, int], size: tuple[int, int]) -> None:
    image, scale = letterbox(np.full((*original, 3), 9, np.uint8), original, size)
    assert image.shape == (*size, 3)
    height, width = np.argwhere(image[..., 0] == 9).max(axis=0) + 1
    assert abs(height - original[0] * scale) <= max(1, 0.5)
    assert abs(width - original[1] * scale) <= max(1, 0.5)
    assert (image[:height, :width] == 9).all()
    assert not image[height:].any()
    assert not image[:, width:].any()
    assert height == size[0] or width == size[1]


def test_an_embedded_thumbnail_does_not_hide_truncation() -> None:
    thumbnail = encoded(Image.fromarray(PAGE[::4, ::4]))
    whole = encoded(Image.fromarray(PAGE), comment=thumbnail)
    assert decode(whole, (64, 64), "exact", LIMIT).damage is None
    assert decode(whole[:-40], (64, 64), "exact", LIMIT).damage
    with pytest.raises(ImageError, match="ends before its pixels begin"):
        check_image(whole[: len(thumbnail)], LIMIT)


@pytest.mark.parametrize("progressive", [False, True])
def test_every_truncation_of_a_jpeg_is_noticed(progressive: bool) -> None:
    data = encoded(Image.fromarray(PAGE), progressive=progressive)
    whole = decode(data, (64, 64), "exact", LIMIT).pixels
    for length in range(0, len(data) - 2, max(1, len(data) // 60)):
        try:
            decoded = decode(data[:length], (64, 64), "exact", LIMIT)
        except ImageError:
            continue
        assert decoded.damage or np.array_equal(decoded.pixels, whole), length


def test_every_truncation_of_a_png_is_an_error() -> None:
    data = encoded(Image.fromarray(PAGE), "PNG")
    for length in range(0, len(data) - 12, max(1, len(data) // 60)):
        with pytest.raises(ImageError):
            decode(data[:length], (64, 64), "exact", LIMIT)


@settings(max_examples=300, deadline=None)
@given(
    position=st.integers(0, 10**6),
    junk=st.binary(min_size=1, max_size=12),
    kind=st.sampled_from(["JPEG", "PNG", "BMP", "TIFF", "WEBP"]),
    mode=st.sampled_from(["exact", "reduced"]),
)
def test_damaged_files_decode_or_say_why(position: int, junk: bytes, kind: str, mode: str) -> None:
    data = bytearray(encoded(Image.fromarray(PAGE[:30, :40]), kind))
    start = position % len(data)
    data[start : start + len(junk)] = junk
    try:
        decoded = decode(bytes(data), (16, 16), mode, LIMIT)
    except ImageError:
        return
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.shape[2] == 3
    assert decoded.size[0] * decoded.size[1] <= LIMIT


def test_the_pixel_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"200 x 120 pixels, more than the limit of 23999;"):
        decode(encoded(Image.fromarray(PAGE)), (64, 64), "exact", 23_999)


# --------------------------------------------------------------------------------- JPEG as decoded


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {}),
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 1}),
        ("RGB", {"progressive": True}),
        ("RGB", {"keep_rgb": True}),
        ("RGB", {"restart_marker_rows": 1}),
        ("L", {}),
        ("CMYK", {}),
        ("CMYK", {"progressive": True}),
    ],
)
def test_jpeg_pixels_are_those_of_opencv(mode: str, options: dict, factor: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)
    page = Image.fromarray(noise).resize((203, 151)).convert(mode)
    data = encoded(page, **options)
    flags = {1: 1, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), flags.get(factor, 65))
    size = (-(-151 // factor), -(-203 // factor))
    ours = decode(data, size if factor == 1 else (size[0] - 1, size[1] - 1), "reduced", LIMIT)
    assert np.array_equal(ours.pixels, theirs)
    assert ours.damage is None


def jpeg_with(*swap: bytes) -> bytes:
    data = encoded(Image.fromarray(PAGE))
    return data.replace(*swap, 1) if swap else data


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(b"\xff\xdb", b"\0\0\xff\xff\xff\xdb"),
        jpeg_with(b"JFIF\0\1", b"JFIF\0\7"),
        jpeg_with(b"\x03\x11\0\x3f\0", b"\x03\x11\0\0\0"),  # parameters of the scan
        jpeg_with() + b"trailing",
        jpeg_with()[:-2],  # all pixels are there, the end marker is not
    ],
)
@pytest.mark.parametrize("mode", ["exact", "reduced"])
def test_oddities_that_cost_no_pixel_are_no_damage(
    data: bytes, mode: str, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = decode(jpeg_with(), (15, 25), mode, LIMIT)
    decoded = decode(data, (15, 25), mode, LIMIT)
    assert decoded.damage is None
    assert np.array_equal(decoded.pixels, whole.pixels)
    assert capfd.readouterr().err == ""


def test_what_the_decoder_left_untouched_is_no_picture() -> None:
    """It may give up between two warnings, and then calls that a warning as well."""
    data = encoded(Image.fromarray(PAGE), progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode(data[: second + 5], (64, 64), "exact", LIMIT)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = encoded(Image.fromarray(PAGE), progressive=True)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="more than 500 scans"):
        check_image(data[:last] + 500 * data[last:-2] + b"\xff\xd9", LIMIT)


def test_what_follows_the_image_is_not_counted() -> None:
    data = encoded(Image.fromarray(PAGE)) + 600 * b"\xff\xda"
    assert check_image(data, LIMIT) == (120, 200)


def test_sampling_without_a_name_is_decoded_apart(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(Image.fromarray(PAGE), subsampling=0))
    frame = data.index(b"\xff\xc0")
    data[frame + 11 : frame + 18 : 3] = b"\x22\x21\x11"  # and too few data for that
    decoded = decode(bytes(data), (64, 64), "exact", LIMIT)
    assert decoded.size == (120, 200)
    assert decoded.damage.words.startswith("Corrupt JPEG data")
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------------------------- PNG taken apart


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(page: np.ndarray, *, tail: bytes = b"", extra: bytes = b"", step: int = 0) -> bytes:
    """A PNG of grey pixels; step: interlaced if 1. tail: more pixel data. extra: more chunks."""
    height, width = page.shape
    passes = [(0, 0, 1, 1)]
    if step:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        passes += [(1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [
        b"\0" + row.tobytes()
        for left, top, right, down in passes
        for row in page[top::down, left::right]
        if row.size
    ]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, step)
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(b"".join(rows) + tail))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(120, 200), (1, 1), (3, 2), (1, 9), (300, 400)])
@pytest.mark.parametrize("step", [0, 1])
def test_png_pixels_are_kept(size: tuple[int, int], step: int) -> None:
    page = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    pixels = decode(png_of(page, step=step), (64, 64), "exact", LIMIT).pixels
    assert all(np.array_equal(pixels[..., channel], page) for channel in range(3))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "I;16"])
def test_every_kind_of_png_is_as_opencv_reads_it(mode: str) -> None:
    page = Image.fromarray(PAGE)
    page = Image.fromarray(PAGE[..., 0].astype(np.uint16)) if mode == "I;16" else page.convert(mode)
    data = encoded(page, "PNG")
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode(data, (64, 64), "exact", LIMIT).pixels, theirs)


@pytest.mark.parametrize(
    "data",
    [
        png_of(PAGE[..., 1], extra=chunk(b"iCCP", b"broken")),
        png_of(PAGE[..., 1], extra=chunk(b"gAMA", b"\0")),
        png_of(PAGE[..., 1], tail=bytes(999)),
        png_of(PAGE[..., 1]) + b"trailing",
    ],
)
def test_png_oddities_are_read_in_silence(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    assert np.array_equal(decode(data, (64, 64), "exact", LIMIT).pixels[..., 0], PAGE[..., 1])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png_of(PAGE[..., 1])[:33] + chunk(b"IEND", b""), "is a truncated PNG .0 of 24120 bytes"),
        (png_of(PAGE[..., 1], extra=chunk(b"CgBI", b"")), "unknown chunk CgBI"),
        (
            png_of(PAGE[..., 1])[:33] + b"\xff\xff\xff\xfftEXt" + bytes(22),
            "its tEXt chunk claims 4294967295 bytes, 18 are there",
        ),
        (png_of(PAGE[..., 1])[:-12], "its end chunk is missing"),
        (png_of(PAGE[..., 1], extra=chunk(b"IDAT", b"a")), "is a damaged PNG .incorrect header"),
    ],
)
def test_damaged_png_files_are_named(
    data: bytes, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data, (64, 64), "exact", LIMIT)
    assert capfd.readouterr().err == ""


# ------------------------------------------------------------------------------ silence and memory


def test_no_decoder_writes_to_the_error_stream(capfd: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    page = Image.fromarray(PAGE[:30, :40])
    kinds = [("PNG", {}), ("BMP", {}), ("WEBP", {}), ("JPEG", {})]
    kinds += [("TIFF", {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", None)]
    level = cv2.utils.logging.getLogLevel()
    for kind, options in kinds:
        data = np.frombuffer(encoded(page, kind, **options), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
            with contextlib.suppress(ImageError):
                decode(broken.tobytes(), (16, 16), "exact", LIMIT)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level


def test_damage_inside_a_tiff_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(Image.fromarray(PAGE), "TIFF", compression="jpeg"))
    assert decode(bytes(data), (64, 64), "exact", LIMIT).damage is None
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    assert "Corrupt JPEG data" in decode(bytes(data), (64, 64), "exact", LIMIT).damage.words
    assert capfd.readouterr().err == ""


MEMORY = """
import sys, zlib, struct
from ocr_precompute.errors import ImageError
from ocr_precompute.images.decoding import decode
from ocr_precompute.runtime.clock import peak_memory as peak
before = peak()
for path in sys.argv[1:]:
    try:
        decode(open(path, "rb").read(), (64, 64), "exact", 4_000_000)
    except ImageError as error:
        print(str(error)[:60], end="; ")
    print(path[-12:], (peak() - before) // 10**6)
assert peak() - before < 12 * 4_000_000 + 200e6
"""


def tiff_of(**tags: int) -> bytes:
    """A TIFF of nothing but a directory: tags by number, as LONG."""
    entries = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 279: 64 * 64}
    entries |= {int(name[1:]): value for name, value in tags.items()}
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, n) for tag, n in sorted(entries.items()))
    start = 8 + 64 * 64
    head = b"II*\0" + struct.pack("<I", start) + bytes(64 * 64)
    return head + struct.pack("<H", len(entries)) + listed + bytes(4)


def hostile() -> dict[str, bytes]:
    """Files that claim much, or unfold to much."""
    side = 1990
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0))
    bomb = chunk(b"IDAT", zlib.compress(bytes(10**9), 1)) + chunk(b"IEND", b"")
    png = b"\x89PNG\r\n\x1a\n" + ihdr
    return {
        "claim.png": png + b"\xff\xff\xff\xffIDAT" + bytes(18),
        "text.png": png + b"\x7f\xff\xff\xffiCCP" + bytes(18),
        "bomb.png": png + bomb,
        "cmyk.jpg": encoded(noise.convert("CMYK"), progressive=True),
        "tile.tif": tiff_of(t322=2**20, t323=2**20, t324=8, t325=2**31),
        "strip.tif": tiff_of(t279=2**32 - 1),
        "whole.tif": encoded(noise, "TIFF"),
        "film.webp": encoded(noise, "WEBP", save_all=True, append_images=[noise], method=0),
        "plain.bmp": encoded(noise, "BMP"),
    }


def test_what_takes_too_much_memory_is_refused() -> None:
    with pytest.raises(ImageError, match=r"takes \d+ MB to decode, more than the limit of 112 MB"):
        check_image(hostile()["tile.tif"], LIMIT)
    assert check_image(tiff_of(), LIMIT) == (64, 64)
    assert check_image(tiff_of(t257=32, t274=6), LIMIT) == (64, 32)
    with pytest.raises(ImageError, match="is a TIFF of 32 bits, which is not supported"):
        check_image(tiff_of(t258=32), LIMIT)


def test_memory_is_bounded_whatever_a_header_says(tmp_path: Path) -> None:
    for name, data in hostile().items():
        (tmp_path / name).write_bytes(data)
    paths = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *paths], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_a_tenth_of_the_fuzzing() -> None:
    script = Path(__file__).resolve().parents[1] / "scripts" / "fuzz.py"
    counts = ["--images", "500", "--annotations", "1000"]
    done = subprocess.run(
        [sys.executable, script, *counts], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
