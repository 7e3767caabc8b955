"""JPEG files: segments walked, pixels decoded, and damage found by what the decoder says.

libjpeg decodes what is left of a damaged file and only warns. libjpeg-turbo's own interface, which
simplejpeg calls, hands the warning over instead of writing it to the error stream, and the pixels
are those of OpenCV, which uses the same library, and reads such files where simplejpeg is missing.
No store can be made there, for simplejpeg's version is part of every key.
Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ocr_precompute.errors import ImageError
from ocr_precompute.images.apart import decode_apart
from ocr_precompute.images.headers import Header, damaged_header, exif_orientation
from ocr_precompute.samples import Damage

try:
    import simplejpeg
except ImportError:  # where a model is used with few packages, and no store is made or read live
    HAS_DECODER = False
else:
    HAS_DECODER = True

MAGIC = b"\xff\xd8\xff"
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOS, _DHT, _DQT, _DRI, _DAC, _APP0, _APP1, _APP14 = (
    *(0xDA, 0xC4, 0xDB, 0xDD, 0xCC),
    *(0xE0, 0xE1, 0xEE),
)
_FRAMES = {*range(0xC0, 0xD0)} - {_DHT, 0xC8, _DAC}
_SEQUENTIAL, _PROGRESSIVE = {0xC0, 0xC1, 0xC9}, {0xC2, 0xC6, 0xCA, 0xCE}
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_END_OF_SCAN = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")
_REFUSED = (ValueError, KeyError)
_MOST_SCANS = 500  # libjpeg-turbo's own limit for files of doubtful origin: each scan costs a pass
_ROWS_PER_BLOCK = 256
_FILLER = np.random.default_rng(0).integers(0, 255, 4096, np.uint8).tobytes()  # holds no marker


@dataclass(frozen=True)
class _Segment:
    """A marker segment: data[start:end] with its marker, data[body:end] without marker, length."""

    marker: int
    start: int
    body: int
    end: int


def _segments(data: bytes) -> Iterator[_Segment]:
    """The segments up to and with the first start of scan, as libjpeg finds them.

    Bytes that belong to no segment are passed over. Raises ImageError if the file ends before.
    """
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker in (0, 0xFF) or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in (0xD8, 0xD9) or length < 2:
            raise damaged_header()
        if at + 2 + length > len(data):
            break
        yield _Segment(marker, at, at + 4, at + 2 + length)
        if marker == _SOS:
            return
        at += 2 + length
    raise ImageError("is a truncated JPEG (it ends before its pixels begin); copy it again")


def read_header(data: bytes) -> Header:
    """A JPEG file's header. Raises ImageError if it is damaged or has more scans than are read."""
    frame: _Segment | None = None
    orientation = 0
    for segment in _segments(data):
        body = data[segment.body : segment.end]
        if segment.marker in _FRAMES:
            if frame or len(body) < 9 or not 0 < body[5] <= (len(body) - 6) // 3:
                raise damaged_header()
            frame = segment
        elif segment.marker == _APP1 and body.startswith(b"Exif\0\0") and not orientation:
            orientation = exif_orientation(body[6:])
    if frame is None:
        raise damaged_header()
    if data.count(b"\xff\xda", segment.start) > _MOST_SCANS < _scans(data, segment.end):
        raise ImageError(f"is a JPEG of more than {_MOST_SCANS} scans; save it again")
    body = data[frame.body : frame.end]
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    channels = body[5]
    cost = height * width * (7 if channels == 4 else 6)
    in_scan = data[segment.body] if segment.body < segment.end else 0
    if frame.marker in _PROGRESSIVE or in_scan < channels:  # all coefficients are held, in 16 bits
        cost = max(cost, 2 * _coefficients(body) + height * width * max(3, channels))
    return Header("JPEG", height, width, cost, orientation or 1)


def _scans(data: bytes, at: int) -> int:
    """How many scans there are up to the end of the image; at: where the first one's data begins.

    What follows the image, as the film of a moving photograph does, may hold any bytes.
    """
    count = 1
    while (found := _END_OF_SCAN.search(data, at)) and (marker := data[found.end() - 1]) != 0xD9:
        count += marker == _SOS
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return count


def _coefficients(frame: bytes) -> int:
    """How many coefficients all components have, by their sampling factors (T.81, A.1.1)."""
    factors = [(frame[at] >> 4, frame[at] & 15) for at in range(7, 7 + 3 * frame[5], 3)]
    if not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
        raise damaged_header()
    most_h, most_v = (max(side) for side in zip(*factors, strict=True))
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    units = -(-height // (8 * most_v)) * -(-width // (8 * most_h))
    return sum(64 * units * h * v for h, v in factors)


def decode(data: bytes, header: Header, factor: int) -> tuple[np.ndarray, Damage | None]:
    """The pixels of a JPEG file as stored, and what is wrong with them.

    factor: 1, 2, 4 or 8, by which the decoder shrinks.
    Returns uint8 (h, w, 3), BGR, h and w rounded up; and the damage that the decoder warned of.
    Raises ImageError if nothing can be decoded.
    """
    try:
        return _pixels(data, header, factor), None
    except _REFUSED:
        pass  # most often stray bytes that do no harm
    tidy, words = _tidy(data), ""
    for candidate in (tidy, tidy + _EOI) if _is_one_scan(data) else (tidy,):
        try:
            return _pixels(candidate, header, factor), None
        except _REFUSED as error:
            words = words or _words(error)
    try:
        return _damaged(tidy, header, factor, words)
    except _REFUSED as error:
        if not (isinstance(error, KeyError) or "subsampling" in str(error)):
            raise ImageError(f"cannot be decoded ({_words(error)}); replace the file") from error
    # Sampling factors that libjpeg reads and its plainer interface has no name for.
    found, lines = decode_apart(tidy, factor)
    if found is None:
        raise ImageError(f"cannot be decoded ({lines[0]}); replace the file")
    return found, Damage(lines[0]) if lines else None


def _is_one_scan(data: bytes) -> bool:
    """Whether all pixels are whole in the first scan."""
    frame, *_, scan = (s for s in _segments(data) if s.marker in (*_FRAMES, _SOS))
    return frame.marker in _SEQUENTIAL and data[scan.body] == data[frame.body + 5]


def _damaged(
    data: bytes, header: Header, factor: int, words: str
) -> tuple[np.ndarray, Damage | None]:
    """What is left of a damaged file. Raises ValueError or KeyError if the decoder refuses it."""
    # The decoder may give up without a word between warnings: what it left as it was, it lost.
    pixels, other = (_pixels(data, header, factor, fill) for fill in (0, 255))
    left = (pixels != other).any(axis=(1, 2))
    if left.all():
        raise ImageError(f"cannot be decoded ({words}); replace the file")
    if left.any():
        return pixels, Damage(words, round(float(left.mean()), 4))
    return pixels, Damage(words, _lost_share(data, header))


def _words(error: Exception) -> str:
    return re.sub(r"^tj\w+\(\): ", "", str(error))


def _pixels(data: bytes, header: Header, factor: int, fill: int | None = None) -> np.ndarray:
    """Decode strictly, or over a picture of `fill` whatever the decoder warns of.

    Raises ValueError with the decoder's words, KeyError for sampling factors without a name.
    """
    size = -(-header.height // factor), -(-header.width // factor)
    cmyk = _frame_of(data)[5] == 4
    over = None if fill is None else np.full((*size, 4 if cmyk else 3), fill, np.uint8)
    pixels: np.ndarray = simplejpeg.decode_jpeg(
        data,
        "CMYK" if cmyk else "BGR",
        min_height=size[0],
        min_width=size[1],
        min_factor=factor,
        buffer=over,
        strict=over is None,
    )
    return _bgr(pixels) if cmyk else pixels


def _frame_of(data: bytes) -> bytes:
    """Content of the frame header: precision, height, width, number of components, components."""
    return next(data[s.body : s.end] for s in _segments(data) if s.marker in _FRAMES)


def _bgr(cmyk: np.ndarray) -> np.ndarray:
    """CMYK as JPEG files hold it, inverted, to BGR: OpenCV's formula, a few rows at a time."""
    bgr = np.empty((*cmyk.shape[:2], 3), np.uint8)
    for top in range(0, len(cmyk), _ROWS_PER_BLOCK):
        part = cmyk[top : top + _ROWS_PER_BLOCK].astype(np.int32)
        black = part[..., 3:]
        bgr[top : top + _ROWS_PER_BLOCK] = black - ((255 - part[..., 2::-1]) * black >> 8)
    return bgr


def _tidy(data: bytes) -> bytes:
    """The file without what a decoder warns of though no pixel depends on it.

    Only segments that decide pixels, nothing between them, the version of JFIF that libjpeg knows,
    and the parameters that a sequential scan must have.
    """
    parts = [_SOI]
    sequential = False
    for segment in _segments(data):
        content = bytearray(data[segment.start : segment.end])
        body = content[4:]
        sequential |= segment.marker in _SEQUENTIAL
        if segment.marker == _APP0 and body.startswith(b"JFIF\0") and len(body) > 5:
            content[9] = 1
        elif segment.marker == _SOS and sequential:
            content[-3:] = b"\0\x3f\0"
        elif segment.marker not in (*_FRAMES, _DQT, _DHT, _DRI, _DAC, _APP14, _SOS):
            continue
        parts.append(bytes(content))
    return b"".join(parts) + data[segment.end :]


def _lost_share(data: bytes, header: Header) -> float | None:
    """The share of rows, from the bottom, that the data says nothing about; None if untold.

    Told where all pixels are in one scan without restarts. Bytes put in where the scan's data ends
    change what is decoded from there on: rows above stand in the data, rows below do not.
    Raises ImageError if not even the first pixels stand in the data.
    """
    segments = list(_segments(data))
    start = segments[-1].end
    stop = _END_OF_SCAN.search(data, start)
    end = stop.start() if stop else start + len(data[start:].rstrip(b"\xff"))
    if any(s.marker == _DRI for s in segments) or data.find(b"\xff\xda", end) >= 0:
        return None
    probe = data[:end] + _FILLER + data[end:]
    try:
        before, after = (_pixels(d, header, 8, 0) for d in (data, probe))
    except _REFUSED:
        return None
    differs = (before != after).any(axis=2)
    if differs[0, 0]:
        raise ImageError("holds no pixel that can be decoded; replace the file")
    first = int(differs.any(axis=1).argmax())
    return round(1 - first / len(differs), 4) if first else None
