"""Decoding in a process of its own, where a decoder writes its words to the error stream.

For the few kinds of files that no decoder reads that hands its warnings over: the stream belongs to
that process alone, so each line in it is about this file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np

_PROGRAM = """
import sys, cv2, numpy
data = numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8)
flags = {1: 1, 2: 17, 4: 33, 8: 65}[int(sys.argv[1])] | cv2.IMREAD_IGNORE_ORIENTATION
try:
    pixels = cv2.imdecode(data, flags)
except cv2.error:
    pixels = None
if pixels is not None:
    sys.stdout.buffer.write(b"%d %d\\n" % pixels.shape[:2])
    sys.stdout.buffer.write(pixels)
"""
_PREFIX = re.compile(r"^\[ *[A-Z]+:[^\]]*\] \w+ [\w.]+:\d+ \w+ ")


def decode_apart(data: bytes, factor: int = 1) -> tuple[np.ndarray | None, list[str]]:
    """The pixels of an image file as stored, and what the decoder said; takes a third of a second.

    factor: 1, 2, 4 or 8, by which a JPEG decoder shrinks.
    Returns uint8 (h, w, 3) BGR, or None if there are none, and then at least one line of words.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(factor)],
        input=data,
        capture_output=True,
        check=False,
        env={**os.environ, "OPENCV_LOG_LEVEL": "WARNING"},
    )
    lines = done.stderr.decode(errors="replace").splitlines()
    words = [_PREFIX.sub("", line) for line in lines if line.strip()]
    size, _, pixels = done.stdout.partition(b"\n")
    if not size:
        return None, words or ["no decoder reads it"]
    height, width = map(int, size.split())
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3), words
