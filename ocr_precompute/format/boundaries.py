"""Where an ordered list of names is cut into shards."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence


def shard_bounds(names: Sequence[str], length: int) -> list[tuple[int, int]]:
    """Where to cut an ordered list of names into shards of about `length`, as (start, stop) pairs.

    A boundary falls after a name whose hash is the smallest within length // 2 names on either
    side, so boundaries depend on nothing but the names around them: adding or removing one name
    moves the boundaries next to it and no other. Shards hold more than length // 2 and at most
    2 * length names, save the first and last, which may be shorter. Local-minimum chunking:
    Bjorner, Blass, Gurevich 2010, "Content-dependent chunking for differential compression, the
    local maximum approach".
    """
    return list(bounds_of_ranges([names], length))


def bounds_of_ranges(ranges: Iterable[Iterable[str]], length: int) -> Iterator[tuple[int, int]]:
    """The same for names that come range by range; they may be cut into ranges anywhere.

    Of ranges before no more is held than hashes of the names since the last boundary, and of
    length // 2 before it.
    """
    window = length // 2
    hashes: list[bytes] = []  # of names from number `first` on
    first = begin = looked = 0  # where the stretch begins that is open; names looked at so far
    for names in itertools.chain(ranges, (None,)):
        hashes += [hashlib.sha256(name.encode()).digest() for name in names or ()]
        sure = len(hashes) - (1 if names is None else window)  # of these all neighbours are known
        for i in range(looked - first, sure):
            if hashes[i] == min(hashes[max(0, i - window) : i + window + 1]):
                yield from _short_enough(hashes, begin - first, i + 1, first, length)
                begin = first + i + 1
        looked = max(looked, first + sure)
        kept = max(0, min(begin, looked - window) - first)
        del hashes[:kept]
        first += kept
    if begin < first + len(hashes):
        yield from _short_enough(hashes, begin - first, len(hashes), first, length)


def _short_enough(
    hashes: Sequence[bytes], start: int, stop: int, first: int, length: int
) -> Iterator[tuple[int, int]]:
    """A stretch without a boundary within, cut at its smallest hashes while it is too long."""
    window, longest = length // 2, 2 * length
    stretches = [(start, stop)]
    while stretches:
        start, stop = stretches.pop()
        if stop - start <= longest:
            yield first + start, first + stop
        else:
            cut = min(range(start + window, stop - window - 1), key=hashes.__getitem__) + 1
            stretches += [(cut, stop), (start, cut)]
