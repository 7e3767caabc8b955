"""Convex polygons offset in compiled code, vertex for vertex as Clipper 6 does it for pyclipper.

Clipper moves every edge, with an arc or a spike at every vertex, in whole pixels; then a sweep over
the plane cleans that outline up. Where a convex polygon is dilated there is nothing to clean but
vertices in line. Where one is shrunk, moved edges cross their neighbours and nothing else, as long
as no edge vanishes, and these crossings, rounded as the sweep rounds them, are what is left. Where
that is not certain (other shapes, hardly any turn, edges that nearly vanish, values that another
processor may round the other way), there is no answer, and Clipper is to be asked.

Source: Johnson, Clipper 6.4.2, `ClipperOffset` and `IntersectPoint`.
"""

from __future__ import annotations

import numpy as np

from ocr_precompute.runtime.compiled import compiled

_FAR = 2.0**14  # pixels; in nearer places doubles are off by less than a hundredth of _DOUBT
_DOUBT = 1e-7  # pixels around a half, which another processor may round the other way
_NONE = -(2**40)  # in place of a number whose rounding is in doubt
_LEAST = 1.0  # pixels by which a polygon is offset at least
_TURN = 0.6  # of the shrink's corners: how much of the cosine of the turn there may be
_EDGE = 1.0  # pixels of an edge that the shrink leaves at least


@compiled()
def offset_convex(
    points: np.ndarray, starts: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offset convex polygons, joints round.

    points: float64 (P, 2). starts: int64 (N + 1,), as Polygons has them. distances: float64 (N,),
    pixels, negative: inwards.
    Returns the vertices, int32 (V, 2), of the one part that each polygon becomes, one polygon after
    the other, and where each one's begin and end, int64 (N + 1,). A polygon without vertices has no
    certain answer. The others have pyclipper's vertices, in its direction, from any on.
    """
    count, widest, longest = len(distances), 0.0, 0
    for number in range(count):
        widest = max(widest, abs(distances[number]))
        longest = max(longest, starts[number + 1] - starts[number])
    room = 3 * longest + 10 + int(8 * np.sqrt(min(widest, _FAR)))
    ring, raw = np.empty((longest + 2, 2), np.int64), np.empty((room, 2), np.int64)
    normals, edges = np.empty((longest, 2)), np.empty((longest + 1, 5))
    kept, ends = np.empty((count * 16 + room, 2), np.int32), np.zeros(count + 1, np.int64)
    for number in range(count):
        distance, end, made = distances[number], ends[number], 0
        if _LEAST <= abs(distance) < _FAR:
            n = _contour(points, starts[number], starts[number + 1], ring)
            _find_normals(ring, n, normals)
            if n and distance > 0:
                made = _dilated(ring, n, normals, distance, raw)
            elif n and _moved_edges(ring, n, normals, -distance, edges):
                made = _shrunk(ring, n, normals, edges, raw)
        if end + made > len(kept):
            more = np.empty((2 * len(kept) + made, 2), np.int32)
            for i in range(end):
                more[i, 0], more[i, 1] = kept[i, 0], kept[i, 1]
            kept = more
        for i in range(made):
            kept[end + i, 0], kept[end + i, 1] = raw[i, 0], raw[i, 1]
        ends[number + 1] = end + made
    return kept[: ends[count]], ends


@compiled()
def _turn(ax: int, ay: int, bx: int, by: int, cx: int, cy: int) -> int:
    """Twice the area of a triangle a, b, c; positive if it goes around as Clipper goes."""
    return (bx - ax) * (cy - by) - (by - ay) * (cx - bx)


@compiled()
def _turn_at(ring: np.ndarray, i: int) -> int:
    """That of a vertex with its neighbours, i from 1 to n."""
    return _turn(
        ring[i - 1, 0], ring[i - 1, 1], ring[i, 0], ring[i, 1], ring[i + 1, 0], ring[i + 1, 1]
    )


@compiled()
def _close(ring: np.ndarray, n: int) -> None:
    """Write the first two of n vertices once more behind the last."""
    for i in range(2):
        ring[n + i, 0], ring[n + i, 1] = ring[i, 0], ring[i, 1]


@compiled()
def _goes_around_once(ring: np.ndarray, n: int) -> bool:
    """Whether a closed ring goes to and fro once along x, and once along y."""
    for axis in range(2):
        changes, first, before = 0, 0, 0
        for i in range(n):
            step = ring[i + 1, axis] - ring[i, axis]
            if step:
                if not first:
                    first = before = step
                changes += (step > 0) != (before > 0)
                before = step
        if changes + ((first > 0) != (before > 0)) != 2:
            return False
    return True


@compiled()
def _contour(points: np.ndarray, first: int, last: int, ring: np.ndarray) -> int:
    """A polygon's n vertices in whole pixels, the way around that Clipper takes, as a closed ring.

    Returns n; 0 unless the polygon is strictly convex.
    """
    n = 0
    for i in range(first, last):
        if not (abs(points[i, 0]) < _FAR and abs(points[i, 1]) < _FAR):
            return 0
        x, y = int(points[i, 0]), int(points[i, 1])
        if not n or x != ring[n - 1, 0] or y != ring[n - 1, 1]:
            ring[n, 0], ring[n, 1] = x, y
            n += 1
    while n > 1 and ring[n - 1, 0] == ring[0, 0] and ring[n - 1, 1] == ring[0, 1]:
        n -= 1
    if n < 3:
        return 0
    _close(ring, n)
    lefts = rights = 0
    for i in range(1, n + 1):
        turn = _turn_at(ring, i)
        lefts += turn > 0
        rights += turn < 0
    if max(lefts, rights) < n or not _goes_around_once(ring, n):
        return 0
    if rights:
        for i in range(n // 2):
            for axis in range(2):
                swapped = ring[i, axis]
                ring[i, axis] = ring[n - 1 - i, axis]
                ring[n - 1 - i, axis] = swapped
        _close(ring, n)
    return n


@compiled()
def _rounded(value: float) -> int:
    """The nearest whole number; _NONE if another processor may find another."""
    above = value + 0.5
    return _NONE if abs(above - np.rint(above)) < _DOUBT else int(np.floor(above))


@compiled()
def _find_normals(ring: np.ndarray, n: int, normals: np.ndarray) -> None:
    """The unit normal of each edge, outwards."""
    for i in range(n):
        dx, dy = float(ring[i + 1, 0] - ring[i, 0]), float(ring[i + 1, 1] - ring[i, 1])
        share = 1.0 / np.sqrt(dx * dx + dy * dy)
        normals[i, 0], normals[i, 1] = dy * share, -(dx * share)


@compiled()
def _dilated(
    ring: np.ndarray, n: int, normals: np.ndarray, distance: float, out: np.ndarray
) -> int:
    """Vertices of a polygon dilated, into out. Returns how many; 0 if it is not certain."""
    made, k = 0, n - 1
    steps = np.pi / np.arccos(1 - min(0.25, distance * 0.25) / distance)
    steps = min(steps, distance * np.pi)
    sine, cosine = np.sin(2 * np.pi / steps), np.cos(2 * np.pi / steps)
    for j in range(n):
        turned = normals[k, 0] * normals[j, 1] - normals[j, 0] * normals[k, 1]
        along = normals[k, 0] * normals[j, 0] + normals[j, 1] * normals[k, 1]
        hardly = abs(turned * distance) < 1.0
        if abs(abs(turned * distance) - 1.0) < _DOUBT or turned <= 0 or (hardly and along <= 0):
            return 0
        x, y, arc = normals[k, 0], normals[k, 1], 0
        if not hardly:
            arc = _rounded(steps / (2 * np.pi) * np.arctan2(min(turned, 1.0), along))
            if arc == _NONE:
                return 0
            arc = max(arc, 1)
        for step in range(arc + 1):
            if step and step == arc:
                x, y = normals[j, 0], normals[j, 1]
            out[made, 0] = _rounded(ring[j, 0] + x * distance)
            out[made, 1] = _rounded(ring[j, 1] + y * distance)
            if out[made, 0] == _NONE or out[made, 1] == _NONE:
                return 0
            made += 1
            x, y = x * cosine - sine * y, x * sine + y * cosine
        if not hardly:
            k = j
    made = _without_needless(out, made)
    return made if made > 2 and _goes_around_once(out, made) else 0


@compiled()
def _without_needless(ring: np.ndarray, n: int) -> int:
    """Take vertices in line, and repeated ones, out of a ring. Returns how many stay."""
    _close(ring, n)
    i = calm = 0
    while n > 2 and calm < n:
        if _turn_at(ring, i + 1):
            i, calm = (i + 1) % n, calm + 1
            continue
        for later in range((i + 1) % n, n - 1):
            ring[later, 0], ring[later, 1] = ring[later + 1, 0], ring[later + 1, 1]
        n -= 1
        _close(ring, n)
        i, calm = (i - 1 if i else n - 1) % n, 0
    return n


@compiled()
def _moved_edges(
    ring: np.ndarray, n: int, normals: np.ndarray, distance: float, edges: np.ndarray
) -> bool:
    """The edges of a polygon moved inwards, in whole pixels: from x, y to x, y, and the slope.

    The last is written once more behind. Returns whether they are certain, and regular.
    """
    for j in range(n):
        k = j - 1 if j else n - 1
        turned = normals[k, 0] * normals[j, 1] - normals[j, 0] * normals[k, 1]
        along = normals[k, 0] * normals[j, 0] + normals[j, 1] * normals[k, 1]
        if turned * distance < 1 + _DOUBT or abs(along) > _TURN:
            return False
        for axis in range(2):
            begin = _rounded(ring[j, axis] - normals[j, axis] * distance)
            end = _rounded(ring[j + 1, axis] - normals[j, axis] * distance)
            if begin == _NONE or end == _NONE:
                return False
            edges[j + 1, axis], edges[j + 1, 2 + axis] = begin, end
        down = edges[j + 1, 3] - edges[j + 1, 1]
        edges[j + 1, 4] = (edges[j + 1, 2] - edges[j + 1, 0]) / down if down else np.inf
    for i in range(5):
        edges[0, i] = edges[n, i]
    return True


@compiled()
def _shrunk(
    ring: np.ndarray, n: int, normals: np.ndarray, edges: np.ndarray, out: np.ndarray
) -> int:
    """Vertices of a polygon whose edges were moved, into out. Returns how many; 0: not certain."""
    for j in range(n):
        x, y = ring[j, 0], ring[j, 1]  # by which the outline leads from edge to edge
        if not (
            _turn(edges[j, 0], edges[j, 1], edges[j, 2], edges[j, 3], x, y)
            and _turn(edges[j, 2], edges[j, 3], x, y, edges[j + 1, 0], edges[j + 1, 1])
            and _turn(x, y, edges[j + 1, 0], edges[j + 1, 1], edges[j + 1, 2], edges[j + 1, 3])
            and _cross(ring, n, edges, j, out)
        ):
            return 0
    _close(out, n)
    for j in range(n):
        dx, dy = out[j + 1, 0] - out[j, 0], out[j + 1, 1] - out[j, 1]
        if normals[j, 0] * dy - normals[j, 1] * dx < _EDGE or _turn_at(out, j + 1) <= 0:
            return 0
    return n


@compiled()
def _cross(ring: np.ndarray, n: int, edges: np.ndarray, j: int, out: np.ndarray) -> bool:
    """Write where edges j - 1 and j cross, as the sweep rounds it. Returns whether it is certain.

    The sweep goes from the largest y to the smallest and stops at each vertex; edges that have
    changed places since the last stop have crossed. At stops x is rounded: edges that cross just
    before a stop, and lie on one pixel there, cross there at the earliest, for the sweep finds out
    at the next.
    """
    a, b = j, j + 1  # the last edge comes first
    if edges[a, 1] == edges[a, 3]:
        return edges[b, 1] != edges[b, 3] and _cross_level(edges, b, a, out, j)
    if edges[b, 1] == edges[b, 3]:
        return _cross_level(edges, a, b, out, j)
    a_slope, b_slope = edges[a, 4], edges[b, 4]
    if a_slope == b_slope:
        return False
    a_base = edges[a, 0] - edges[a, 1] * a_slope
    b_base = edges[b, 0] - edges[b, 1] * b_slope
    level = (b_base - a_base) / (a_slope - b_slope)
    begin = min(max(edges[a, 1], edges[a, 3]), max(edges[b, 1], edges[b, 3]))
    end = max(min(edges[a, 1], edges[a, 3]), min(edges[b, 1], edges[b, 3]))
    if not end < level < begin:
        return False
    apart = abs(a_slope - b_slope)  # for each row; over 1.001 pixels differ when rounded, too
    if apart * (begin - level) < 1.001:  # the sweep may begin with them crossed
        a_x, b_x = _at_level(edges, a, begin), _at_level(edges, b, begin)
        unsure = a_x == _NONE or b_x == _NONE
        if unsure or a_x == b_x or (a_x > b_x) != (a_slope > b_slope):
            return False
    x = a_slope * level + a_base if abs(a_slope) < abs(b_slope) else b_slope * level + b_base
    out[j, 0], out[j, 1] = _rounded(x), _rounded(level)
    stop = _next_stop(ring, n, edges, level + 1e-6)
    while stop >= end and out[j, 0] != _NONE and out[j, 1] != _NONE:
        if apart * (level - stop) > 1.001:
            return True
        a_x, b_x = _at_level(edges, a, stop), _at_level(edges, b, stop)
        if a_x == _NONE or b_x == _NONE:
            return False
        if a_x != b_x:
            return bool((a_x < b_x) == (a_slope > b_slope))
        if out[j, 1] > stop:
            out[j, 0], out[j, 1] = a_x, stop
        stop = _next_stop(ring, n, edges, stop - 0.5)
    return False


@compiled()
def _next_stop(ring: np.ndarray, n: int, edges: np.ndarray, level: float) -> int:
    """The largest y of the outline's vertices up to a level; _NONE if there is none."""
    stop = float(_NONE)
    for j in range(n):
        for y in (float(ring[j, 1]), edges[j, 1], edges[j, 3]):
            if stop < y <= level:
                stop = y
    return int(stop)


@compiled()
def _at_level(edges: np.ndarray, edge: int, y: int) -> int:
    """x of an edge at a stop of the sweep, rounded as the sweep does."""
    for end in (0, 2):
        if y == edges[edge, end + 1]:
            return int(edges[edge, end])
    low = 0 if edges[edge, 1] > edges[edge, 3] else 2
    x = _rounded(edges[edge, 4] * (y - edges[edge, low + 1]))
    return x if x == _NONE else int(edges[edge, low]) + x


@compiled()
def _cross_level(edges: np.ndarray, edge: int, flat: int, out: np.ndarray, j: int) -> bool:
    """As _cross, where one of the two edges is level."""
    y, low, high = edges[flat, 1], edges[edge, 1], edges[edge, 3]
    if not min(low, high) < y < max(low, high):
        return False
    out[j, 0], out[j, 1] = _at_level(edges, edge, int(y)), int(y)
    ends = edges[flat, 0], edges[flat, 2]
    return bool(min(ends[0], ends[1]) < out[j, 0] < max(ends[0], ends[1]))
