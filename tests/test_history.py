"""Long histories of a store, by chance, against a model of what each split must hold."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from conftest import same
from hypothesis import HealthCheck, event
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from local import manifest_path, shard_keys

from ocr_precompute.checking.verify import verify
from ocr_precompute.errors import StoreError
from ocr_precompute.format.schema import MAPS
from ocr_precompute.pipeline.build import build
from ocr_precompute.reading.split import Split
from ocr_precompute.reading.store import open_store
from ocr_precompute.samples import CanonicalSample, Polygons
from ocr_precompute.settings import Settings, Source
from ocr_precompute.storage.garbage import GRACE, collect_garbage, remove_split
from ocr_precompute.targets.sample import compute_sample

HISTORIES = int(os.environ.get("OCR_HISTORIES", "12"))

Page = tuple[int, int]  # which pixels, which polygon
Pages = dict[str, Page]  # by name

names = st.sampled_from([f"page_{number}.png" for number in range(8)])
pages = st.tuples(st.integers(0, 1), st.integers(0, 1))
splits = st.sampled_from(["train", "val"])
moments = st.integers(1, 400)  # of a kill: before so many changes to the disk


@cache
def image_file(pixels: int) -> bytes:
    noise = np.random.default_rng(pixels).integers(0, 255, (40, 32, 3), np.uint8)
    return cv2.imencode(".png", noise)[1].tobytes()


def points(polygon: int) -> list[list[float]]:
    x, y = 2.0 + 3 * polygon, 4.0 + 5 * polygon
    return [[x, y], [x + 18, y], [x + 18, y + 14], [x, y + 14]]


def source_in(root: Path) -> Source:
    (root / "images").mkdir()
    return Source(images=root / "images", annotations=root / "labels.json")


def write_dataset(source: Source, pages: Pages) -> None:
    for name in os.listdir(source.images):
        (source.images / name).unlink()
    for name, (pixels, _) in pages.items():
        (source.images / name).write_bytes(image_file(pixels))
    words = {name: {"1": {"points": points(polygon)}} for name, (_, polygon) in pages.items()}
    listed = {name: {"words": entry} for name, entry in words.items()}
    source.annotations.write_text(json.dumps({"images": listed}))


def options(store: Path) -> Settings:
    return Settings(store=store, size=32, shard_length=2, backend="sequential", recipe="seed")


@cache
def expected(page: Page) -> CanonicalSample:
    """What must be read of a page, but for its name."""
    polygons = Polygons.from_list([np.array(points(page[1]))], [False])
    parameters = options(Path()).parameters
    return compute_sample("", image_file(page[0]), polygons, parameters, 10_000)


def holds(split: Split, wanted: Pages) -> None:
    """Raises AssertionError unless the split holds these pages, to the last bit."""
    assert split.names == tuple(sorted(wanted))
    maps = split.read(range(len(split)), tuple(MAPS))
    for row, name in enumerate(split.names):
        sample, record = expected(wanted[name]), split.record(row)
        assert all(same(maps[field][row], getattr(sample, field)) for field in MAPS), name
        for field in ("polygons", "ignore", "matrix", "original_size"):
            assert same(getattr(record, field), getattr(sample, field)), (name, field)


def killed(action: Callable[[], object], moment: int) -> bool:
    """Do it in another process, which ends before that many changes to the disk: whether it did.

    The process ends without tidying up, and what it has not yet handed to the system is lost.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of others do not matter here
        child = os.fork()
    if child == 0:
        status = 3
        try:
            left = [moment]

            def count(event: str, arguments: tuple[object, ...]) -> None:
                writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
                opens = event == "open" and isinstance(arguments[2], int)
                if event in CHANGES or (opens and arguments[2] & writing):
                    left[0] -= 1
                    if left[0] == 0:
                        os._exit(9)

            sys.addaudithook(count)
            action()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9), "it failed of itself"
    return status == 9


CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "sqlite3.connect"}


@dataclass
class Reader:
    """A split as it was opened when it was published, what it must read, and when it was replaced.

    It has read nothing yet: what has been read stays open, and could be deleted.
    """

    split: Split
    pages: Pages
    replaced: datetime | None = None

    def reads_on(self) -> None:
        holds(pickle.loads(pickle.dumps(self.split)), self.pages)


class History(RuleBasedStateMachine):
    """What may be done to a store, in any order.

    published: what each split must hold; where a build was killed, that or what it was to hold.
    readers: those of every state of every split that must still be readable.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = self.root / "store"
        self.source = source_in(self.root)
        self.pages: Pages = {}
        self.past: list[Pages] = []  # what was ever built
        self.published: dict[str, Reader] = {}
        self.readers: list[Reader] = []
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    # The dataset

    @rule(name=names, page=pages)
    def add_or_edit(self, name: str, page: Page) -> None:
        self.pages[name] = page

    @precondition(lambda self: len(self.pages) > 1)
    @rule(data=st.data())
    def take_out(self, data: st.DataObject) -> None:
        del self.pages[data.draw(st.sampled_from(sorted(self.pages)))]

    @precondition(lambda self: self.pages)
    @rule(data=st.data(), new=names)
    def rename(self, data: st.DataObject, new: str) -> None:
        self.pages[new] = self.pages.pop(data.draw(st.sampled_from(sorted(self.pages))))

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        self.pages = dict(data.draw(st.sampled_from(self.past)))

    # The store

    def build(self, split: str) -> None:
        build(split, self.source, options(self.store))

    @precondition(lambda self: self.pages)
    @rule(split=splits)
    def build_whole(self, split: str) -> None:
        write_dataset(self.source, self.pages)
        self.build(split)
        self.replace(split, dict(self.pages))

    @precondition(lambda self: self.pages)
    @rule(split=splits, moment=moments)
    def build_killed(self, split: str, moment: int) -> None:
        write_dataset(self.source, self.pages)
        before = shard_keys(self.store)
        ended = killed(lambda: self.build(split), moment)
        event("a build was killed" if ended else "a build was done before it was killed")
        assert before <= shard_keys(self.store)
        if not ended or self.holds_now(split, self.pages):
            self.replace(split, dict(self.pages))

    @precondition(lambda self: self.published)
    @rule(data=st.data(), moment=st.none() | st.integers(1, 4))
    def remove(self, data: st.DataObject, moment: int | None) -> None:
        split = data.draw(st.sampled_from(sorted(self.published)))
        if moment is None:
            remove_split(self.store, split)
        else:
            killed(lambda: remove_split(self.store, split), moment)
        if not manifest_path(self.store, split).exists():
            self.replace(split, None)

    @precondition(lambda self: (self.store / "splits").is_dir())
    @rule(
        grace=st.sampled_from([GRACE, GRACE, GRACE / 2, timedelta(0)]),
        moment=st.none() | st.integers(1, 60),
    )
    def gc(self, grace: timedelta, moment: int | None) -> None:
        self.readers = [
            reader
            for reader in self.readers
            if reader.replaced is None or reader.replaced + grace > self.now
        ]
        if moment is None:
            collect_garbage(self.store, grace=grace, now=self.now)
        else:
            killed(lambda: collect_garbage(self.store, grace=grace, now=self.now), moment)

    @rule(hours=st.sampled_from([1, 13, 25]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    # What is read

    def holds_now(self, split: str, wanted: Pages) -> bool:
        """Whether the split holds these pages; if not, it has to hold what it held before."""
        if not manifest_path(self.store, split).exists():
            return False
        opened = open_store(self.store).split(split)
        try:
            holds(opened, wanted)
        except AssertionError:
            return False
        return True

    def replace(self, split: str, new: Pages | None) -> None:
        before = self.published.pop(split, None)
        if before and before.pages == new:
            self.published[split] = before
            return
        if before:
            before.replaced = self.now
        if new is not None:
            self.published[split] = Reader(open_store(self.store).split(split), new)
            self.readers.append(self.published[split])
            self.past.append(new)

    @precondition(lambda self: self.published)
    @rule()
    def verify(self) -> None:
        report = verify(self.store, jobs=1)
        assert report.problems == ()
        assert report.samples == sum(len(reader.pages) for reader in self.published.values())

    @invariant()
    def nothing_is_lost(self) -> None:
        try:
            store = open_store(self.store)
        except StoreError:
            assert not self.published
            return
        assert store.splits == sorted(self.published)
        for split, reader in self.published.items():
            assert store.split(split).manifest == reader.split.manifest
        for reader in {reader.split.manifest.data_hash: reader for reader in self.readers}.values():
            reader.reads_on()

    def teardown(self) -> None:
        """Nothing stays that nobody needs."""
        if (self.store / "splits").is_dir():
            collect_garbage(self.store, now=self.now)
            collect_garbage(self.store, now=self.now + GRACE)
            opened = [open_store(self.store).split(name) for name in open_store(self.store).splits]
            named = {shard.key for split in opened for shard in split.manifest.shards}
            assert shard_keys(self.store) == named
            assert os.listdir(self.store / "tmp") == []
            assert not list((self.store / "unnamed").glob("*"))
        shutil.rmtree(self.root)


TestHistory = History.TestCase
TestHistory.settings = hypothesis_settings(
    max_examples=HISTORIES,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_gc_killed_at_any_moment(tmp_path: Path) -> None:
    """What it was about to delete is whole, or gone and built again; never half of a shard."""
    source, whole, store = source_in(tmp_path), tmp_path / "whole", tmp_path / "store"
    old, new = ({f"page_{i}.png": (pixels, 0) for i in range(5)} for pixels in (0, 1))
    for pages in (old, new):
        write_dataset(source, pages)
        build("val", source, options(whole))
    write_dataset(source, old)
    moment, kills = 1, 0
    while True:
        shutil.copytree(whole, store)
        ended = killed(lambda: collect_garbage(store, grace=timedelta(0)), moment)
        holds(open_store(store).split("val"), new)
        build("val", source, options(store))
        holds(open_store(store).split("val"), old)
        assert verify(store, jobs=1).problems == ()
        assert os.listdir(store / "tmp") == []
        shutil.rmtree(store)
        if not ended:
            break
        moment, kills = moment + 1, kills + 1
    assert kills > 5
