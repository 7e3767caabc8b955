"""Which image a file of one image's annotations belongs to: by its own name, by what it says."""

from __future__ import annotations

import os

from ocr_precompute.annotations.folders import ImageNames


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
