"""Image files to pixels."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ocr_precompute.errors import ImageError
from ocr_precompute.images import check_image, decode, letterbox

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
@pytest.mark.parametrize("mode", ["exact", "reduced"])
def test_exif_orientation_is_applied(orientation: int, mode: str) -> None:
    data = stored_under(orientation)
    pixels, size = decode(data, (30, 50), mode, LIMIT)
    image, scale = letterbox(pixels, size, (30, 50))
    assert size == (120, 200)
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
    pixels, size = decode(encoded(image, kind), (120, 200), "exact", LIMIT)
    upright, _ = letterbox(pixels, size, (120, 200))
    assert np.abs(upright.astype(int) - PAGE)[5:30, 5:50].max() < 40
    assert upright.shape == (120, 200, 3)


@pytest.mark.parametrize("depth", ["L", "I;16"])
def test_grey_becomes_rgb(depth: str) -> None:
    grey = Image.fromarray(PAGE[..., 1] if depth == "L" else PAGE[..., 1].astype(np.uint16) * 257)
    pixels, _ = decode(encoded(grey, "PNG"), (120, 200), "exact", LIMIT)
    assert pixels.shape == (120, 200, 3)
    assert (pixels[..., 0] == PAGE[..., 1]).all()
    assert (pixels[..., 2] == PAGE[..., 1]).all()


def test_reduced_decodes_fewer_pixels_and_keeps_the_geometry() -> None:
    data = encoded(Image.fromarray(np.tile(PAGE, (9, 9, 1))[:1001, :1790]))
    exact, size = decode(data, (160, 160), "exact", 10**7)
    reduced, same = decode(data, (160, 160), "reduced", 10**7)
    assert size == same == (1001, 1790)
    assert exact.shape[:2] == size
    assert reduced.shape[:2] == (126, 224)  # an eighth, and still no smaller than 89 x 160
    a, b = (letterbox(p, size, (160, 160)) for p in (exact, reduced))
    assert a[1] == b[1]
    assert np.abs(a[0].astype(int) - b[0]).mean() < 3


def test_reduced_is_exact_for_what_is_not_twice_too_large() -> None:
    data = encoded(Image.fromarray(PAGE))
    exact, reduced = (decode(data, (61, 101), mode, LIMIT)[0] for mode in ("exact", "reduced"))
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
    assert check_image(whole, LIMIT) == (120, 200)
    with pytest.raises(ImageError, match="truncated JPEG"):
        check_image(whole[: len(whole) - 40], LIMIT)


def test_every_truncation_is_noticed() -> None:
    for data in (encoded(Image.fromarray(PAGE)), encoded(Image.fromarray(PAGE), "PNG")):
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
        pixels, size = decode(bytes(data), (16, 16), mode, LIMIT)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert size[0] * size[1] <= LIMIT


def test_the_pixel_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"200 x 120 pixels, more than the limit of 23999;"):
        decode(encoded(Image.fromarray(PAGE)), (64, 64), "exact", 23_999)
