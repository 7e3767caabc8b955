"""Images that nothing annotates."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from pathlib import Path

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def unannotated_images(images: Path, annotated: Container[str]) -> list[str]:
    """Names of image files below the folder `images` that are not annotated, in order.

    annotated: names, relative to `images`. Files are known by their suffix; hidden ones, and
    folders that are hidden or links, are passed over. Raises OSError if a folder cannot be read.
    """
    return sorted(name for name in _image_files(str(images), "") if name not in annotated)


def _image_files(folder: str, prefix: str) -> Iterator[str]:
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                continue
            if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
                yield prefix + name
            elif entry.is_dir(follow_symlinks=False):
                folders.append(name)
    for name in folders:
        yield from _image_files(os.path.join(folder, name), f"{prefix}{name}/")
