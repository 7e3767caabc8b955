"""Pixels interpolated bilinearly, in loops of which a processor does many rounds at once.

One loop for all of it would take longer than OpenCV's warp: where a pixel's neighbours lie is known
only pixel by pixel, so that a compiler would leave all steps to be done one pixel at a time. Here,
for each row of the result, that is the second of five loops, which does nothing but fetch: two
neighbours in one word of eight bytes.
"""

from __future__ import annotations

import numpy as np

from ocr_precompute.runtime.compiled import compiled
from ocr_precompute.runtime.scratch import scratch

_WORD = 8  # bytes that are fetched at once: two pixels and two bytes more
_FURTHEST = 16383.0  # pixels, beyond which no page of up to 8192 a side is looked at
GROUP = 4  # pixels that are written at once, as three words


def frame(name: str, height: int, across: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory for pixels with black around them, of a `scratch` of that name, and the rows in it.

    The rows, uint8 (height, across, 3), contiguous, hold anything. Black are a pixel before and the
    row above them, and two rows below; black at their ends is to be put there by the caller.
    """
    stride = 3 * across
    memory = scratch(name, (3 + (height + 3) * stride + _WORD,))
    rows = memory[3 + stride : 3 + stride * (height + 1)].reshape(height, across, 3)
    memory[: 3 + stride], memory[3 + stride * (height + 1) :] = 0, 0
    return memory, rows


def interpolate(
    memory: np.ndarray, across: int, size: tuple[int, int], back: np.ndarray, out: np.ndarray
) -> None:
    """Fill a picture with what lies where its pixels came from, black outside.

    memory, across: as of `frame`. size: (h, w) of the pixels that are looked at, which begin where
    rows do; around them lies one pixel of black, or more, where back leads outside. back: float64
    (2, 3), from pixels of out to those of the page. out: uint8 (H, W, 3), contiguous, W a multiple
    of GROUP.
    Places are held to 2^-16 of a pixel, weights to 2^-8, and levels are rounded after each of two
    steps, first from left to right.
    """
    stride = 3 * across
    count = (size[0] + 2) * stride + 3  # places at which a pixel's neighbours may begin
    upper, lower = (np.ndarray((count,), np.uint64, memory, offset, (1,)) for offset in (0, stride))
    words = out.reshape(len(out), -1).view(np.uint32)
    _interpolate(upper, lower, stride, size, back, words)


@compiled()
def _interpolate(
    upper: np.ndarray,
    lower: np.ndarray,
    stride: int,
    size: tuple[int, int],
    back: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill rows, uint32 (H, 3W / 4). upper: a word at each byte; lower: at that one row on."""
    width = out.shape[1] // 3 * GROUP
    x_steps, y_steps = np.empty(width, np.int32), np.empty(width, np.int32)
    for x in range(width):
        x_steps[x], y_steps[x] = _fixed(back[0, 0] * x), _fixed(back[1, 0] * x)
    starts = np.empty(width, np.uint32)
    across, down = np.empty(width, np.uint32), np.empty(width, np.uint32)
    above, below = np.empty(width, np.uint64), np.empty(width, np.uint64)
    corners, levels = np.empty((4, width), np.uint32), np.empty(width, np.uint32)
    # For the compiler: views as bytes are made once, and numbers are of the width that is meant.
    places, weights = corners.view(np.uint8), (across.view(np.uint8), down.view(np.uint8))
    mixed, half, row = levels.view(np.uint8), np.uint16(128), np.uint32(stride)
    limits = np.int32(size[0] + 1 << 16), np.int32(size[1] + 1 << 16)
    for y in range(len(out)):
        x_start, y_start = back[0, 1] * y + back[0, 2] + 1, back[1, 1] * y + back[1, 2] + 1
        first, last = _span(x_start, back[0, 0], size[1] + 1, 0, width)
        first, last = _span(y_start, back[1, 0], size[0] + 1, first, last)
        steps = x_steps[first:last], y_steps[first:last]
        _locate(_fixed(x_start), _fixed(y_start), *steps, limits, row, starts, across, down)
        _fetch(upper, lower, starts, last - first, above, below)
        _part(above, below, last - first, corners[0], corners[1], corners[2], corners[3])
        levels[:first] = 0
        levels[last:] = 0
        _blend(places, weights[0], weights[1], half, 4 * (last - first), mixed[4 * first :])
        _pack(levels, out[y])


@compiled()
def _fixed(place: float) -> np.int32:
    """A place in 2^-16 of a pixel; what lies further off than any page reaches is moved nearer."""
    return np.int32(np.rint(min(max(place, -_FURTHEST), _FURTHEST) * 65536))


@compiled()
def _span(start: float, step: float, end: float, first: int, last: int) -> tuple[int, int]:
    """Of pixels first to last, of which each lies step after the one before, those from 0 to end.

    One more on each side, so that rounding does not count.
    """
    if abs(step) < 1e-9:
        return (first, last) if -1 < start < end + 1 else (first, first)
    enters, leaves = -start / step, (end - start) / step
    if step < 0:
        enters, leaves = leaves, enters
    first = max(first, min(int(max(enters, -1.0)) - 1, last))
    return first, max(first, min(last, int(min(leaves, 1e6)) + 2))


@compiled()
def _locate(
    x_start: np.int32,
    y_start: np.int32,
    x_steps: np.ndarray,
    y_steps: np.ndarray,
    limits: tuple[np.int32, np.int32],
    stride: np.uint32,
    starts: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
) -> None:
    """Where each pixel's upper left neighbour begins; what its right and lower ones weigh.

    limits: the last places, y and x. Weights are in 2^-8, once in each byte of a word.
    """
    u32, zero, (bottom, right) = np.uint32, np.int32(0), limits
    for i in range(len(x_steps)):
        x = u32(min(max(np.int32(x_start + x_steps[i]), zero), right))
        y = u32(min(max(np.int32(y_start + y_steps[i]), zero), bottom))
        starts[i] = u32(u32(y >> u32(16)) * stride) + u32(u32(3) * u32(x >> u32(16)))
        across[i] = u32(u32(x >> u32(8)) & u32(255)) * u32(0x01010101)
        down[i] = u32(u32(y >> u32(8)) & u32(255)) * u32(0x01010101)


@compiled()
def _fetch(
    upper: np.ndarray,
    lower: np.ndarray,
    starts: np.ndarray,
    n: int,
    above: np.ndarray,
    below: np.ndarray,
) -> None:
    """Two neighbours of the row above each pixel, and of that below."""
    for i in range(n):
        start = starts[i]
        above[i], below[i] = upper[start], lower[start]


@compiled()
def _part(
    above: np.ndarray,
    below: np.ndarray,
    n: int,
    upper_left: np.ndarray,
    upper_right: np.ndarray,
    lower_left: np.ndarray,
    lower_right: np.ndarray,
) -> None:
    """Each neighbour in a word of its own; what comes after its three bytes is of no use."""
    pixel = np.uint64(24)
    for i in range(n):
        two, more = above[i], below[i]
        upper_left[i], upper_right[i] = np.uint32(two), np.uint32(two >> pixel)
        lower_left[i], lower_right[i] = np.uint32(more), np.uint32(more >> pixel)


@compiled()
def _blend(
    corners: np.ndarray,
    across: np.ndarray,
    down: np.ndarray,
    half: np.uint16,
    n: int,
    out: np.ndarray,
) -> None:
    """The level between four, uint8 (4, N), by weights (2, N).

    All in 16 bits, of which differences below zero run over and come back. half: 128, rounding; as
    a constant here it would have the compiler take 32 bits, and twice the time.
    """
    u16, bits = np.uint16, np.uint16(8)
    above_left, above_right, below_left, below_right = corners
    for i in range(n):
        right, lower = u16(across[i]), u16(down[i])
        first, second = u16(above_left[i]), u16(above_right[i])
        above = u16(u16(u16(first << bits) + half) + u16(u16(second - first) * right))
        above = u16(above >> bits)
        first, second = u16(below_left[i]), u16(below_right[i])
        below = u16(u16(u16(first << bits) + half) + u16(u16(second - first) * right))
        below = u16(below >> bits)
        level = u16(u16(u16(above << bits) + half) + u16(u16(below - above) * lower))
        out[i] = np.uint8(level >> bits)


@compiled()
def _pack(levels: np.ndarray, out: np.ndarray) -> None:
    """The three bytes of each word that are of use, one after the other: of four words three."""
    used = np.uint32(0xFFFFFF)
    for i in range(len(out) // 3):
        first, second = levels[4 * i] & used, levels[4 * i + 1] & used
        third, fourth = levels[4 * i + 2] & used, levels[4 * i + 3]
        out[3 * i] = first | np.uint32(second << np.uint32(24))
        out[3 * i + 1] = np.uint32(second >> np.uint32(8)) | np.uint32(third << np.uint32(16))
        out[3 * i + 2] = np.uint32(third >> np.uint32(16)) | np.uint32(fourth << np.uint32(8))
