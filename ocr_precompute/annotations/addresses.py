"""Images that annotations name by an address: of a page, an upload, a bucket or a served folder."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qs, unquote, urlsplit

from ocr_precompute.annotations.folders import ImageNames, plain_name

_LONGEST = 4096  # characters that are looked at; no file system has longer names


def image_of(address: str, images: ImageNames) -> str:
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
