"""Convex polygons offset in compiled code, vertex for vertex as Clipper 6 does it for pyclipper.

An offset there first moves every edge, with an arc or a spike at every vertex, in whole pixels; then
a sweep over the plane cleans that outline up. Of a convex polygon that is dilated there is nothing
to clean but vertices in line. Of one that is shrunk, moved edges cross their neighbours and nothing
else, as long as no edge vanishes, and the crossings, rounded as the sweep rounds them, are what is
left. Wherever this is not certain (other shapes, hardly any turn, edges that nearly vanish, values
on the edge of being rounded the other way), there is no answer, and Clipper is to be asked.

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
_EDGE = 2.0  # pixels of an edge that the shrink leaves at least


@compiled()
def offset_convex(
    points: np.ndarray, starts: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offset convex polygons, joints round.

    points: float64 (P, 2). starts: int64 (N + 1,), as Polygons has them. distances: float64 (N,),
    pixels, negative: inwards.
    Returns the vertices, int32 (V, 2), of the one part that each polygon becomes, one polygon after
    the other, and where each one's begin and end, int64 (N + 1,). A polygon without vertices has no
    certain answer. Vertices are those of pyclipper, in the same direction, and may begin at another.
    """
    count, widest, longest = len(distances), 0.0, 0
    for number in range(count):
        widest = max(widest, distances[number])
        longest = max(longest, starts[number + 1] - starts[number])
    room = 3 * longest + 8 + int(8 * np.sqrt(widest))
    ring, raw = np.empty((longest, 2), np.int64), np.empty((room, 2), np.int64)
    kept, ends = np.empty((count * 16 + room, 2), np.int32), np.zeros(count + 1, np.int64)
    for number in range(count):
        distance, end = distances[number], ends[number]
        made = 0
        if abs(distance) >= _LEAST and abs(distance) < _FAR:
            vertices = _contour(points[starts[number] : starts[number + 1]], ring)
            if vertices and distance > 0:
                made = _dilated(ring[:vertices], distance, raw)
            elif vertices:
                made = _shrunk(ring[:vertices], -distance, raw)
        if end + made > len(kept):
            more = np.empty((2 * len(kept) + made, 2), np.int32)
            more[:end] = kept[:end]
            kept = more
        for i in range(made):
            kept[end + i, 0], kept[end + i, 1] = raw[i, 0], raw[i, 1]
        ends[number + 1] = end + made
    return kept[: ends[count]], ends


@compiled()
def _contour(points: np.ndarray, ring: np.ndarray) -> int:
    """A polygon's vertices in whole pixels, the way around that Clipper takes, int64 (n, 2).

    Returns n; 0 unless the polygon is strictly convex.
    """
    n = 0
    for i in range(len(points)):
        x, y = points[i]
        if not (abs(x) < _FAR and abs(y) < _FAR):
            return 0
        if not n or int(x) != ring[n - 1, 0] or int(y) != ring[n - 1, 1]:
            ring[n, 0], ring[n, 1] = int(x), int(y)
            n += 1
    while n > 1 and ring[n - 1, 0] == ring[0, 0] and ring[n - 1, 1] == ring[0, 1]:
        n -= 1
    if n < 3:
        return 0
    left = _turn(ring[n - 1], ring[0], ring[1]) > 0
    for i in range(n):
        turn = _turn(ring[i - 1 if i else n - 1], ring[i], ring[i + 1 if i + 1 < n else 0])
        if turn == 0 or (turn > 0) != left:
            return 0
    if not left:
        for i in range(n // 2):
            for axis in range(2):
                ring[i, axis], ring[n - 1 - i, axis] = ring[n - 1 - i, axis], ring[i, axis]
    return n if _goes_around_once(ring[:n]) else 0


@compiled()
def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> int:
    """Twice the area of a triangle: positive for a turn to the left, with y upwards."""
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


@compiled()
def _goes_around_once(ring: np.ndarray) -> bool:
    """Whether a polygon goes to and fro only once along x, and only once along y."""
    for axis in range(2):
        changes, before = 0, 0
        for turn in range(2):
            for i in range(len(ring)):
                step = ring[i, axis] - ring[i - 1 if i else len(ring) - 1, axis]
                if step:
                    changes += turn and (step > 0) != (before > 0)
                    before = step
        if changes != 2:
            return False
    return True


@compiled()
def _rounded(value: float) -> int:
    """The nearest whole number; _NONE if another processor may find another."""
    above = value + 0.5
    return _NONE if abs(above - np.rint(above)) < _DOUBT else int(np.floor(above))


@compiled()
def _normals(ring: np.ndarray) -> np.ndarray:
    """The unit normal of each edge, to the right with y upwards, float64 (n, 2)."""
    n = len(ring)
    normals = np.empty((n, 2))
    for i in range(n):
        following = ring[i + 1 if i + 1 < n else 0]
        dx, dy = float(following[0] - ring[i, 0]), float(following[1] - ring[i, 1])
        share = 1.0 / np.sqrt(dx * dx + dy * dy)
        normals[i, 0], normals[i, 1] = dy * share, -(dx * share)
    return normals


@compiled()
def _dilated(ring: np.ndarray, distance: float, out: np.ndarray) -> int:
    """Vertices of a polygon dilated, into out. Returns how many; 0 if it is not certain."""
    n, normals, made = len(ring), _normals(ring), 0
    steps = np.pi / np.arccos(1 - min(0.25, distance * 0.25) / distance)
    steps = min(steps, distance * np.pi)
    sine, cosine = np.sin(2 * np.pi / steps), np.cos(2 * np.pi / steps)
    k = n - 1
    for j in range(n):
        turned = normals[k, 0] * normals[j, 1] - normals[j, 0] * normals[k, 1]
        along = normals[k, 0] * normals[j, 0] + normals[j, 1] * normals[k, 1]
        hardly = abs(turned * distance) < 1.0
        if abs(abs(turned * distance) - 1.0) < _DOUBT or turned <= 0 or (hardly and along <= 0):
            return 0
        x, y = normals[k]
        arc = 0
        if not hardly:
            arc = _rounded(steps / (2 * np.pi) * abs(np.arctan2(min(turned, 1.0), along)))
            if arc == _NONE:
                return 0
            arc = max(arc, 1)
        for step in range(arc + 1):
            if step and step == arc:
                x, y = normals[j]
            out[made, 0] = _rounded(ring[j, 0] + x * distance)
            out[made, 1] = _rounded(ring[j, 1] + y * distance)
            if out[made, 0] == _NONE or out[made, 1] == _NONE:
                return 0
            made += 1
            x, y = x * cosine - sine * y, x * sine + y * cosine
        if not hardly:
            k = j
    made = _without_needless(out, made)
    return made if made > 2 and _goes_around_once(out[:made]) else 0


@compiled()
def _without_needless(ring: np.ndarray, n: int) -> int:
    """Take vertices in line, and those that are there twice, out of n of a ring. Returns how many stay.
    """
    i = calm = 0
    while n > 2 and calm < n:
        before, after = i - 1 if i else n - 1, i + 1 if i + 1 < n else 0
        if _turn(ring[before], ring[i], ring[after]):
            i, calm = after, calm + 1
            continue
        for later in range(i, n - 1):
            ring[later, 0], ring[later, 1] = ring[later + 1, 0], ring[later + 1, 1]
        n -= 1
        i, calm = max(i - 1, 0) if before else 0, 0
    return n


@compiled()
def _shrunk(ring: np.ndarray, distance: float, out: np.ndarray) -> int:
    """Vertices of a polygon shrunk, into out. Returns how many; 0 if it is not certain."""
    n, normals = len(ring), _normals(ring)
    # Of each vertex where the edge before it ends, the vertex itself, and where the next one begins.
    spikes = np.empty((n, 3, 2), np.int64)
    for j in range(n):
        k = j - 1 if j else n - 1
        turned = normals[k, 0] * normals[j, 1] - normals[j, 0] * normals[k, 1]
        along = normals[k, 0] * normals[j, 0] + normals[j, 1] * normals[k, 1]
        if turned * distance < 1 + _DOUBT or abs(along) > _TURN:
            return 0
        for axis in range(2):
            spikes[j, 0, axis] = _rounded(ring[j, axis] - normals[k, axis] * distance)
            spikes[j, 1, axis] = ring[j, axis]
            spikes[j, 2, axis] = _rounded(ring[j, axis] - normals[j, axis] * distance)
            if spikes[j, 0, axis] == _NONE or spikes[j, 2, axis] == _NONE:
                return 0
    for j in range(n):
        k, m = j - 1 if j else n - 1, j + 1 if j + 1 < n else 0
        if not (
            _turn(spikes[k, 2], spikes[j, 0], spikes[j, 1])
            and _turn(spikes[j, 0], spikes[j, 1], spikes[j, 2])
            and _turn(spikes[j, 1], spikes[j, 2], spikes[m, 0])
        ):
            return 0
        out[j, 0], out[j, 1] = _crossing(
            spikes[k, 2], spikes[j, 0], spikes[j, 2], spikes[m, 0], spikes
        )
        if out[j, 0] == _NONE or out[j, 1] == _NONE:
            return 0
    for j in range(n):
        k, m = j - 1 if j else n - 1, j + 1 if j + 1 < n else 0
        length = normals[j, 0] * (out[m, 1] - out[j, 1]) - normals[j, 1] * (out[m, 0] - out[j, 0])
        if length < _EDGE or _turn(out[k], out[j], out[m]) <= 0:
            return 0
    return n


@compiled()
def _crossing(
    a_from: np.ndarray, a_to: np.ndarray, b_from: np.ndarray, b_to: np.ndarray, spikes: np.ndarray
) -> tuple[int, int]:
    """Where two edges cross, as the sweep rounds it; (_NONE, _NONE) if it is not certain.

    spikes: all vertices of the outline. The sweep goes from the largest y to the smallest and stops
    at each vertex; edges that have changed places since the last stop have crossed. There, x is
    rounded, so those that cross just before a stop are seen to at the next, and elsewhere.
    """
    nothing = (_NONE, _NONE)
    if a_from[1] == a_to[1] and b_from[1] == b_to[1]:
        return nothing
    if a_from[1] == a_to[1]:
        return _on_level(b_from, b_to, a_from, a_to)
    if b_from[1] == b_to[1]:
        return _on_level(a_from, a_to, b_from, b_to)
    a_bottom, a_top = (a_from, a_to) if a_from[1] > a_to[1] else (a_to, a_from)
    b_bottom, b_top = (b_from, b_to) if b_from[1] > b_to[1] else (b_to, b_from)
    a_slope = (a_top[0] - a_bottom[0]) / (a_top[1] - a_bottom[1])
    b_slope = (b_top[0] - b_bottom[0]) / (b_top[1] - b_bottom[1])
    if a_slope == b_slope:
        return nothing
    a_base, b_base = a_bottom[0] - a_bottom[1] * a_slope, b_bottom[0] - b_bottom[1] * b_slope
    level = (b_base - a_base) / (a_slope - b_slope)
    if not (max(a_top[1], b_top[1]) < level < min(a_bottom[1], b_bottom[1])):
        return nothing
    stop, last = max(a_top[1], b_top[1]), min(a_bottom[1], b_bottom[1])
    for spike in spikes:
        for vertex in spike:
            if vertex[1] <= level:
                stop = max(stop, vertex[1])
            else:
                last = min(last, vertex[1])
    if level - stop < 1e-6 or last - level < 1e-6:
        return nothing
    a_x, b_x = _at_level(a_bottom, a_top, a_slope, stop), _at_level(b_bottom, b_top, b_slope, stop)
    if a_x == _NONE or b_x == _NONE or a_x == b_x or (a_x < b_x) != (a_slope > b_slope):
        return nothing
    x = a_slope * level + a_base if abs(a_slope) < abs(b_slope) else b_slope * level + b_base
    return _rounded(x), _rounded(level)


@compiled()
def _at_level(bottom: np.ndarray, top: np.ndarray, slope: float, level: int) -> int:
    """x of an edge at a stop of the sweep, rounded as the sweep does."""
    if level == top[1]:
        return top[0]
    x = _rounded(slope * (level - bottom[1]))
    return x if x == _NONE else bottom[0] + x


@compiled()
def _on_level(
    a_from: np.ndarray, a_to: np.ndarray, b_from: np.ndarray, b_to: np.ndarray
) -> tuple[int, int]:
    """Where edge a crosses edge b, which is level."""
    bottom, top = (a_from, a_to) if a_from[1] > a_to[1] else (a_to, a_from)
    level = b_from[1]
    if not top[1] < level < bottom[1]:
        return _NONE, _NONE
    x = _at_level(bottom, top, (top[0] - bottom[0]) / (top[1] - bottom[1]), level)
    if not min(b_from[0], b_to[0]) < x < max(b_from[0], b_to[0]):
        return _NONE, _NONE
    return x, level
