"""Whose annotations they are: an image by a file's own name, by what it says, by an address."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ocr_precompute.annotations.folders import ImageNames, is_image_name, plain_name

_LONGEST = 4096  # characters of an address that are looked at; no file system has longer names


def image_of(stem: str, declared: str, images: ImageNames, above: bool = False) -> tuple[str, str]:
    """The image of a file, by its own name or else by what it says; or why there is none.

    stem: the file's name below the folder of annotations, without its suffix. declared: the image
    that it names, or empty. above: whether the image may lie a folder above, as those of
    `page/a.xml` do.
    """
    folder, file = os.path.split(stem)
    stems = [stem, os.path.join(os.path.dirname(folder), file)] if above else [stem]
    by_stem = [images.of_stem(each) for each in dict.fromkeys(stems)]
    for found in by_stem:
        if len(found) == 1:
            return found[0], ""
    by_path = images.resolved(declared)
    if by_path in images.names:
        return by_path, ""
    several = next((found for found in by_stem if found), [])
    if several:
        return "", f"fits several images: {', '.join(several)}; keep one of them"
    said = f", nor the image {declared!r} that it names" if declared else ""
    return "", f"there is no image {stem}.jpg, .png or the like{said}; add it or remove this file"


def image_beside(file: Path, images: ImageNames, swap: tuple[str, str] = ("", "")) -> str:
    """The image of an annotation file: of the same name, in folders that end alike.

    `sub/a.json` belongs to `sub/a.jpg`, else to `a.jpg`; `a.jpg.json` to `a.jpg`. swap: what the
    folders of annotations and of images beside each other are called: the last folder of the first
    name stands for one of the second. Raises ValueError if there is no such image, or not one.
    """
    parts = os.path.splitext(os.path.abspath(file))[0].split(os.sep)[1:]
    swapped = list(parts)
    folders = parts[:-1]
    if swap[0] in folders:
        swapped[len(folders) - 1 - folders[::-1].index(swap[0])] = swap[1]
    for start in range(len(parts)):
        for end in dict.fromkeys(("/".join(swapped[start:]), "/".join(parts[start:]))):
            matches = images.of_stem(end)
            if len(matches) == 1:
                return matches[0]
            if matches:
                shown = ", ".join(matches)
                raise ValueError(f"fits several images: {shown}; keep one of them")
    wanted = parts[-1] if is_image_name(parts[-1]) else f"{parts[-1]}.jpg, .png or the like"
    raise ValueError(f"there is no image {wanted}; add it or remove this file")


def image_at(address: str, images: ImageNames) -> str:
    """The image that an address means, as `ImageNames.resolved` finds it.

    It is looked for as it is written, then without a query (of `?d=sub/a.jpg` by what the query
    says) and with `%20` and the like decoded. If there is none, what its path says: all of it if it
    is relative, else its end.
    """
    name = address
    for name in _readings(address) if len(address) <= _LONGEST else ():
        found = images.resolved(name)
        if found in images.names:
            return found
    plain = plain_name(name)
    absolute = plain.startswith("/") or "://" in address or plain[1:2] == ":"
    return plain.rpartition("/")[2] if absolute else plain


def _readings(address: str) -> Iterator[str]:
    yield address
    try:
        parts = urlsplit(address)
        served = parse_qs(parts.query).get("d")
    except ValueError:  # what stands in brackets is no address, or there are too many fields
        return
    if served:
        yield served[0]
    elif parts.scheme and not parts.netloc:  # C:\a.jpg
        yield address
    elif parts.path:
        yield unquote(parts.path)
