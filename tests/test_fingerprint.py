"""Keys cover everything; shard boundaries depend on their neighbourhood alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ocr_precompute.format.boundaries import shard_bounds
from ocr_precompute.format.keys import data_hash, geometry_hash, shard_key
from ocr_precompute.parameters import RECIPES, Compression, Parameters, Recipe
from ocr_precompute.samples import ImageFile, Polygons
from ocr_precompute.settings import Settings
from ocr_precompute.storage.digests import DigestCache

SQUARE = np.array([[0, 0], [9, 0], [9, 9], [0, 9]], float)
PAGE = Polygons.from_list([SQUARE, SQUARE + 20], [False, True])


def leaves(model: Parameters | Recipe | Compression) -> set[str]:
    names = set()
    for name in type(model).model_fields:
        value = getattr(model, name)
        nested = leaves(value) if isinstance(value, Recipe | Compression) else {""}
        names |= {f"{name}.{leaf}".rstrip(".") for leaf in nested}
    return names


CHANGES = {
    "size": (640, 641),
    "decode": "reduced",
    "libraries": {"opencv": "0", "pyclipper": "0"},
    "compression.cname": "zstd",
    "compression.clevel": 6,
    "compression.shuffle": "bitshuffle",
    "compression.block_rows": 32,
    "recipe.name": "other",
    "recipe.integer_vertices": True,
    "recipe.clip": False,
    "recipe.min_size": 9.0,
    "recipe.min_area": 2.0,
    "recipe.masks": False,
    "recipe.every_part": True,
    "recipe.shrink_ratio": 0.41,
    "recipe.thresh_min": 0.31,
    "recipe.thresh_max": 0.71,
    "recipe.early_thresh": True,
    "recipe.shrink_again": True,
    "recipe.whole_shrink": True,
    "recipe.turned_box": True,
}


def test_every_parameter_is_tried() -> None:
    assert leaves(Parameters()) == set(CHANGES)


@pytest.mark.parametrize("field", CHANGES)
def test_every_parameter_changes_the_geometry_hash(field: str) -> None:
    document = Parameters().model_dump()
    *path, leaf = field.split(".")
    target = document
    for part in path:
        target = target[part]
    assert target.get(leaf) != CHANGES[field]  # what is off is left out
    target[leaf] = CHANGES[field]
    changed = Parameters.model_validate(document)
    assert geometry_hash(changed, bytes(32), PAGE) != geometry_hash(Parameters(), bytes(32), PAGE)


def test_image_polygons_and_flags_change_the_geometry_hash() -> None:
    moved = SQUARE.copy()
    moved[0, 0] += 1e-9
    pages = [
        PAGE,
        Polygons.from_list([SQUARE, SQUARE + 20], [False, False]),
        Polygons.from_list([SQUARE + 20, SQUARE], [False, True]),
        Polygons.from_list([moved, SQUARE + 20], [False, True]),
        Polygons.from_list([np.concatenate([SQUARE, SQUARE + 20])], [False]),
        Polygons.from_list([SQUARE], [False]),
        Polygons.from_list([], []),
    ]
    hashes = {geometry_hash(Parameters(), bytes(32), page) for page in pages}
    hashes.add(geometry_hash(Parameters(), bytes(31) + b"\1", PAGE))
    assert len(hashes) == len(pages) + 1


def test_geometry_hash_is_the_same_everywhere() -> None:
    """A changed value here orphans every store there is: change FORMAT_VERSION with it."""
    parameters = Parameters(libraries={"opencv": "5.0.0", "pyclipper": "1.4.0"})
    assert parameters.recipe == RECIPES["dbnet"]
    assert geometry_hash(parameters, bytes(32), PAGE).hex() == (
        "d58efeefc52023df6cb985bdf9f2e317df83a9eb2f7751104cf236785601e25d"
    )


def test_shard_key_and_data_hash_follow_names_hashes_and_order() -> None:
    a, b = bytes(32), bytes(31) + b"\1"
    keys = {
        shard_key(["x", "y"], [a, b]),
        shard_key(["y", "x"], [a, b]),
        shard_key(["x", "y"], [b, a]),
        shard_key(["xy"], [a]),
        shard_key(["x"], [a]),
    }
    assert len(keys) == 5
    first, second = sorted(keys)[:2]
    assert data_hash([first, second]) != data_hash([second, first])


names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), unique=True, max_size=300)


@settings(max_examples=60, deadline=None)
@given(names=names, length=st.integers(2, 40))
@example(names=["0", "5", "6", "7", "111", "0000", "3010"], length=2)
def test_shards_cover_the_names_within_the_bounds(names: list[str], length: int) -> None:
    bounds = shard_bounds(sorted(names), length)
    assert [i for start, stop in bounds for i in range(start, stop)] == list(range(len(names)))
    lengths = [stop - start for start, stop in bounds]
    assert all(n <= 2 * length for n in lengths)
    assert all(n > length // 2 for n in lengths[1:-1])


def cut(names: list[str], length: int) -> set[tuple[str, ...]]:
    return {tuple(names[a:b]) for a, b in shard_bounds(names, length)}


def test_a_change_stays_local() -> None:
    """Many removals and additions: one or two shards, three at the very most."""
    random = np.random.default_rng(1)
    names = sorted(f"{n:09d}.jpg" for n in random.integers(0, 10**9, 1500))
    before = cut(names, 32)
    new: list[int] = []
    for i in range(0, len(names), 5):
        new.append(len(cut(names[:i] + names[i + 1 :], 32) - before))
        added = sorted([*names, f"{random.integers(0, 10**9):09d}.jpg"])
        new.append(len(cut(added, 32) - before))
    assert max(new) <= 3
    assert np.mean(np.array(new) <= 2) > 0.997


def test_default_shards_keep_eight_workers_busy_on_four_hundred() -> None:
    shards = shard_bounds([f"image_{n:05d}.jpg" for n in range(400)], 32)
    assert len(shards) >= 10
    assert max(stop - start for start, stop in shards) <= 64


@pytest.fixture
def settled(tmp_path: Path) -> Path:
    path = tmp_path / "image.jpg"
    path.write_bytes(b"pixels")
    return path


class Later(DigestCache):
    """A cache for which every file is old enough to be remembered."""

    _SETTLED_NS = -(10**18)


SEEN = ImageFile(b"d" * 32, (30, 20), True)


def remember(cache: Path, file: Path, image: ImageFile = SEEN) -> None:
    with Later(cache) as digests:
        digests.learn(str(file), file.stat(), image)


def known(cache: Path, file: Path) -> ImageFile | None:
    with DigestCache(cache) as digests:
        return digests.lookup(str(file), file.stat())


def test_digests_are_remembered_until_the_file_is_touched(tmp_path: Path, settled: Path) -> None:
    cache = tmp_path / "digests.sqlite"
    assert known(cache, settled) is None
    remember(cache, settled)
    assert known(cache, settled) == SEEN
    status = settled.stat()
    settled.write_bytes(b"PIXELS")  # as long as before, and the old modification time put back:
    os.utime(settled, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert known(cache, settled) is None  # the change time gives it away


def test_paths_of_any_bytes_are_remembered(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode(b"caf\xe9?#%41.jpg")
    file.write_bytes(b"pixels")
    folder = tmp_path / "50%41 of? #1"
    folder.mkdir()
    remember(folder / "digests.sqlite", file)
    assert known(folder / "digests.sqlite", file) == SEEN


def test_a_file_written_just_now_is_not_remembered(tmp_path: Path, settled: Path) -> None:
    cache = tmp_path / "digests.sqlite"
    with DigestCache(cache) as digests:
        digests.learn(str(settled), settled.stat(), SEEN)
    assert known(cache, settled) is None


@pytest.mark.parametrize("damage", [b"", b"not a database", b"SQLite format 3\0" + bytes(200)])
def test_a_damaged_cache_is_replaced(tmp_path: Path, settled: Path, damage: bytes) -> None:
    cache = tmp_path / "digests.sqlite"
    cache.write_bytes(damage)
    assert known(cache, settled) is None
    remember(cache, settled)
    remember(cache, settled)
    assert known(cache, settled) == SEEN


def test_a_cache_without_sizes_starts_afresh(tmp_path: Path, settled: Path) -> None:
    cache = tmp_path / "digests.sqlite"
    with sqlite3.connect(cache) as database:
        database.execute("CREATE TABLE digests (path BLOB PRIMARY KEY, stamp TEXT, digest BLOB)")
        database.execute("INSERT INTO digests VALUES (?, ?, ?)", (b"image.jpg", "1 2 3", b"d" * 32))
    database.close()
    assert known(cache, settled) is None
    remember(cache, settled)
    assert known(cache, settled) == SEEN


@pytest.mark.parametrize(
    "column", ["stamp = 7", "digest = 'text'", "digest = x'00'", "height = 'high'", "width = -1"]
)
def test_hostile_rows_of_a_cache_are_passed_over(
    tmp_path: Path, settled: Path, column: str
) -> None:
    cache = tmp_path / "digests.sqlite"
    remember(cache, settled)
    with sqlite3.connect(cache) as database:
        database.execute(f"UPDATE images SET {column}")
    database.close()
    assert known(cache, settled) is None


@pytest.mark.parametrize("kind", ["pipe", "folder", "endless", "dangling"])
def test_what_is_no_file_is_no_cache(tmp_path: Path, settled: Path, kind: str) -> None:
    cache = tmp_path / "digests.sqlite"
    if kind == "pipe":
        os.mkfifo(cache)
    elif kind == "folder":
        cache.mkdir()
    else:
        cache.symlink_to("/dev/zero" if kind == "endless" else "nowhere")
    remember(cache, settled)
    assert known(cache, settled) is None
    assert sorted(os.listdir(tmp_path)) == ["digests.sqlite", "image.jpg"]


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT "
TABLE = "CREATE TABLE images (path, stamp, digest, height, width, turned)"
COLUMNS = "x AS path, '' AS stamp, '' AS digest, 1 AS height, 1 AS width, 0 AS turned"


@pytest.mark.parametrize(
    "statements",
    [
        [f"CREATE VIEW images AS {ENDLESS} {COLUMNS} FROM n"],
        [TABLE, "INSERT INTO images VALUES (3, 'text', 'text', 1, 1, 0)"],
        [TABLE, "INSERT INTO images VALUES (x'2f', 4, zeroblob(32), 1, 1, 0)"],
        [TABLE, f"CREATE TRIGGER t AFTER INSERT ON images BEGIN {ENDLESS} count(*) FROM n; END"],
    ],
    ids=["view", "no path", "no stamp", "trigger"],
)
def test_a_hostile_cache_is_not_believed(
    tmp_path: Path, settled: Path, statements: list[str]
) -> None:
    cache = tmp_path / "digests.sqlite"
    with contextlib.closing(sqlite3.connect(cache)) as database, database:
        for statement in statements:
            database.execute(statement)
    assert known(cache, settled) is None
    remember(cache, settled)


def test_a_busy_cache_costs_nothing_but_memory(
    tmp_path: Path, settled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "digests.sqlite"
    remember(cache, settled)
    connect = sqlite3.connect
    impatient = lambda *a, **k: connect(*a, **{**k, "timeout": 0})  # noqa: E731
    monkeypatch.setattr(sqlite3, "connect", impatient)
    other = connect(cache, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    remember(cache, settled, SEEN._replace(digest=b"e" * 32))
    other.execute("ROLLBACK")
    other.close()
    assert known(cache, settled) == SEEN


def test_a_reduced_build_packs_quickly_unless_told_otherwise() -> None:
    def level(**settings: object) -> int:
        return Settings.model_validate(settings).parameters.compression.clevel

    assert level() == level(compression={"cname": "zstd"}) == 5
    assert level(decode="reduced") == level(decode="reduced", compression={"cname": "lz4"}) == 2
    assert level(decode="reduced", compression={"clevel": 5}) == 5
