"""Where an ordered list of names is cut into shards."""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence

_BLOCK = 8192  # names that are held, where they come one by one


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


def bounds_of_names(names: Iterable[str], length: int) -> Iterator[tuple[int, int]]:
    """The same for names that come one by one."""
    return bounds_of_ranges(_blocks(names), length)


def bounds_of_ranges(ranges: Iterable[Iterable[str]], length: int) -> Iterator[tuple[int, int]]:
    """The same for names that come range by range; they may be cut into ranges anywhere."""
    for start, hashes in _stretches(ranges, length):
        yield from _short_enough(hashes, start, length)


def undisturbed(
    names: Iterable[str], left_out: Collection[str], length: int
) -> Iterator[tuple[int, int]]:
    """Where boundaries are the same whichever of some names are left out.

    left_out: those, which are among the names. Yields ranges of all other names, as (start, stop).
    """
    window, places = length // 2, []  # where such names are; known as far as boundaries depend

    def noted() -> Iterator[str]:
        for number, name in enumerate(names):
            if name in left_out:
                places.append(number)
            yield name

    for start, hashes in _stretches(_blocks(noted()), length):
        stop, before = start + len(hashes), bisect_left(places, start)
        # The boundaries lie behind the names start - 1 and stop - 1.
        if bisect_left(places, start - 1 - window) == bisect_left(places, stop + window):
            yield start - before, stop - before


def _blocks(names: Iterable[str]) -> Iterator[list[str]]:
    left = iter(names)
    return iter(lambda: list(itertools.islice(left, _BLOCK)), [])


def _stretches(ranges: Iterable[Iterable[str]], length: int) -> Iterator[tuple[int, list[bytes]]]:
    """Where each stretch begins that has no boundary within, and the hashes of its names.

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
                yield begin, hashes[begin - first : i + 1]
                begin = first + i + 1
        looked = max(looked, first + sure)
        kept = max(0, min(begin, looked - window) - first)
        del hashes[:kept]
        first += kept
    if begin < first + len(hashes):
        yield begin, hashes[begin - first :]


def _short_enough(hashes: Sequence[bytes], first: int, length: int) -> Iterator[tuple[int, int]]:
    """A stretch that begins at first, cut at its smallest hashes while it is too long."""
    window, longest = length // 2, 2 * length
    stretches = [(0, len(hashes))]
    while stretches:
        start, stop = stretches.pop()
        if stop - start <= longest:
            yield first + start, first + stop
        else:
            cut = min(range(start + window, stop - window - 1), key=hashes.__getitem__) + 1
            stretches += [(cut, stop), (start, cut)]
