"""Where an ordered list of names is cut into shards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def shard_bounds(names: Sequence[str], length: int) -> list[tuple[int, int]]:
    """Where to cut an ordered list of names into shards of about `length`, as (start, stop) pairs.

    A boundary falls after a name whose hash is the smallest within length // 2 names on either
    side, so boundaries depend on nothing but the names around them: adding or removing one name
    moves the boundaries next to it and no other. Shards hold more than length // 2 and at most
    2 * length names, save the first and last, which may be shorter. Local-minimum chunking:
    Bjorner, Blass, Gurevich 2010, "Content-dependent chunking for differential compression, the
    local maximum approach".
    """
    if not names:
        return []
    window, longest = length // 2, 2 * length
    hashes = [hashlib.sha256(name.encode()).digest() for name in names]
    cuts = [
        i + 1
        for i, value in enumerate(hashes[:-1])
        if value == min(hashes[max(0, i - window) : i + window + 1])
    ]
    bounds: list[tuple[int, int]] = []
    stretches = list(zip([0, *cuts], [*cuts, len(names)], strict=True))[::-1]
    while stretches:
        start, stop = stretches.pop()
        if stop - start <= longest:
            bounds.append((start, stop))
        else:
            cut = min(range(start + window, stop - window - 1), key=hashes.__getitem__) + 1
            stretches += [(cut, stop), (start, cut)]
    return bounds
