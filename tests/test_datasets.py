"""Stored and live datasets stand in for each other; the loader makes honest batches of either."""

from __future__ import annotations

import gc
import inspect
import itertools
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import joblib
import lightning
import numpy as np
import pytest
import torch
from conftest import Dataset, same
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from local import shard_path
from shards import flip_chunk
from torch.utils.data import DataLoader

import ocr
import ocr_precompute
from ocr.datasets import BatchLoader, LiveDataset, SampleDataset, SampleError, StoreDataset
from ocr.datasets.buffers import BatchBuffers
from ocr.datasets.data_module import DetectionData
from ocr.datasets.folder import ImageFolder
from ocr.datasets.order import BatchOrder
from ocr.datasets.samples import ANNOTATIONS, TRAINING
from ocr.datasets.tuning import Pace, Setting
from ocr.datasets.under_way import make_batches
from ocr_precompute.errors import DamagedImageWarning, InputError, StoreError
from ocr_precompute.format import blosc
from ocr_precompute.pipeline.build import build
from ocr_precompute.runtime.stages import recording
from ocr_precompute.settings import Settings, Source

ALL = (*TRAINING, *ANNOTATIONS)


@pytest.fixture
def store(dataset: Dataset, settings: Settings) -> Path:
    dataset.document["images"]["page_003.jpg"]["words"]["0001"]["ignore"] = True
    del dataset.document["images"]["page_004.jpg"]["words"]
    dataset.save()
    build("val", dataset.source, settings)
    return settings.store


@pytest.fixture
def stored(store: Path) -> StoreDataset:
    return StoreDataset(store, "val", ALL)


def assert_equal(a: SampleDataset, b: SampleDataset) -> None:
    assert list(a.names) == list(b.names)
    assert len(a) == len(b) > 0
    for index in range(len(a)):
        one, other = a[index], b[index]
        assert list(one) == list(other)
        for field in one:
            assert same(one[field], other[field]), (index, field)


# ------------------------------------------------------------------------------------- datasets


def test_seven_functions_lead_from_the_shard_to_the_batch(
    stored: StoreDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted from the loader's thread to the call of compiled code, both included."""
    loader = BatchLoader(stored, 8, threads=1)
    direct, stacks = blosc.library(), []
    assert isinstance(direct, blosc.Direct)
    monkeypatch.setattr(direct, "_done", blosc._FEW)
    list(loader)  # loads what is compiled
    decompress = direct._together
    assert decompress is not None
    roots = [Path(package.__file__).parent for package in (ocr, ocr_precompute)]

    def recorded(*arguments: np.ndarray) -> int:
        frames = [(Path(f.filename), f.function) for f in inspect.stack(0)]
        stacks.append([name for path, name in frames if set(roots) & set(path.parents)])
        return decompress(*arguments)

    monkeypatch.setattr(direct, "_together", recorded)
    assert sum(len(batch["image"]) for batch in loader) == len(stored)
    assert len(stacks) == 3
    way = ["fill", "fill", "fill", "_fill", "decompress", "decompress", "_all"]
    assert [stack[::-1] for stack in stacks] == [way] * 3


def test_stored_equals_live(stored: StoreDataset, dataset: Dataset) -> None:
    assert_equal(stored, LiveDataset(dataset.images, dataset.annotations, ALL, size=64))


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "seed"},
        {"size": "48x96"},
        {"decode": "reduced", "size": 32},
        {"shrink_ratio": 0.6, "thresh_min": 0.2, "thresh_max": 0.8},
    ],
)
def test_stored_equals_live_under_every_setting(
    dataset: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = Settings.model_validate(
        {"store": tmp_path / "s", "backend": "sequential", "size": 64, **changes}
    )
    build("val", dataset.source, settings)
    live = LiveDataset(dataset.images, dataset.annotations, ALL, **{"size": 64, **changes})
    assert_equal(StoreDataset(tmp_path / "s", "val", ALL), live)


@pytest.mark.parametrize("recipe", ["seed", "dbnet"])
@pytest.mark.parametrize("name", ["sroie/train", "sroie/val", "icdar2015"])
def test_stored_equals_live_on_real_data(
    shared: Path, tmp_path: Path, name: str, recipe: Any
) -> None:
    folder = shared / name
    labels = folder / ("gt" if name == "icdar2015" else "box")
    source = Source(images=folder / "img", annotations=labels)
    build("real", source, Settings(store=tmp_path / "store", recipe=recipe))
    stored = StoreDataset(tmp_path / "store", "real", ALL)
    assert_equal(stored, LiveDataset(source.images, source.annotations, ALL, recipe=recipe))


@pytest.mark.parametrize("skip_bad", ["polygon", "image"])
def test_live_skips_what_the_store_skips(skip_bad: str, settings: Settings, tmp_path: Path) -> None:
    """One page of the case has a bad polygon, one is damaged and built, one shows no picture."""
    case = tmp_path / "case"
    shutil.copytree(Path(__file__).parent / "cases" / "skipbad_live", case)
    broken = bytearray(cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes())
    broken[60:70] = b"no deflate"
    (case / "img" / "p0.jpg").write_bytes(broken)
    with pytest.raises(InputError, match=r"p1\.jpg: word 0002: has 2 points"):
        LiveDataset(case / "img", case / "gt.json", size=64)
    live = LiveDataset(case / "img", case / "gt.json", size=64, skip_bad=skip_bad)
    source = Source(images=case / "img", annotations=case / "gt.json")
    build("val", source, settings.model_copy(update={"skip_bad": skip_bad}))
    with pytest.warns(DamagedImageWarning, match=r"p3\.jpg: is damaged"):
        assert_equal(StoreDataset(settings.store, "val"), live)
    assert list(live.names) == ["p1.jpg", "p2.jpg", "p3.jpg"][skip_bad == "image" :]


@pytest.mark.parametrize("recipe", ["dbnet", "seed"])
def test_live_and_store_repair_the_same(recipe: str, settings: Settings) -> None:
    case = Path(__file__).parent / "cases" / "bowtie_all"
    source = Source(images=case / "img", annotations=case / "gt.json")
    build("val", source, settings.model_copy(update={"recipe": recipe}))
    live = LiveDataset(case / "img", case / "gt.json", ALL, recipe=recipe, size=64)
    assert_equal(StoreDataset(settings.store, "val", ALL), live)
    mended = LiveDataset(case / "img", case / "gt.json", ALL, size=64, repair=True)
    assert (recipe == "dbnet") == same(live[0]["polygons"], mended[0]["polygons"])


def test_fields_are_chosen_and_keep_their_order(store: Path) -> None:
    item = StoreDataset(store, "val", ("thresh", "name", "image"))[0]
    assert list(item) == ["thresh", "name", "image"]
    assert item["name"] == "page_000.jpg"
    assert list(StoreDataset(store, "val")[0]) == list(TRAINING)
    with pytest.raises(ValueError, match=r"unknown fields \['labels'\]; any of image, prob"):
        StoreDataset(store, "val", ("image", "labels"))


def test_what_cannot_be_opened(store: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no split 'train' in this store; splits: val"):
        StoreDataset(store, "train")
    with pytest.raises(StoreError, match="there is no store here"):
        StoreDataset(tmp_path / "nowhere", "val")
    with pytest.raises(InputError, match="there is no such image folder"):
        LiveDataset(tmp_path / "nowhere", dataset.annotations)
    with pytest.raises(ValueError, match="size 'big' is neither N nor HxW"):
        LiveDataset(dataset.images, dataset.annotations, size="big")
    dataset.points("page_001.jpg")[:] = [[1, 1]]
    dataset.points("page_002.jpg")[0][0] = float("nan")
    dataset.save()
    with pytest.raises(InputError) as caught:
        LiveDataset(dataset.images, dataset.annotations)
    assert len(caught.value.problems) == 2


def test_a_plain_dataloader_takes_a_store_dataset(store: Path) -> None:
    dataset = StoreDataset(store, "val", ("image", "thresh", "matrix"))
    loader = DataLoader(dataset, batch_size=5, num_workers=2)
    images = torch.cat([batch["image"] for batch in loader])
    assert images.dtype == torch.uint8
    assert same(images.numpy(), dataset.split.read(range(24), ["image"])["image"])


# ---------------------------------------------------------------------------------------- order


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(0, 60),
    batch_size=st.integers(1, 9),
    world=st.integers(1, 5),
    shuffle=st.booleans(),
)
def test_ranks_share_an_epoch(samples: int, batch_size: int, world: int, shuffle: bool) -> None:
    order = BatchOrder(samples, batch_size, shuffle, 3)
    ranks = [order.batches(1, rank, world) for rank in range(world)]
    lengths = [len(batches) for batches in ranks]
    assert lengths == [order.length(rank, world) for rank in range(world)]
    seen = sorted(int(i) for batches in ranks for batch in batches for i in batch)
    assert len(set(seen)) == len(seen)
    left_out = samples - len(seen)
    if shuffle:
        assert left_out < world
        for step in zip(*ranks, strict=True):  # a sample counts for as much on any rank
            assert len({len(batch) for batch in step}) == 1
    else:
        assert left_out == 0
    assert all(len(batch) <= batch_size for batches in ranks for batch in batches)
    for batches in ranks:
        # only the one batch of a rank that would have none is empty
        assert all(len(batch) for batch in batches) or (len(batches) == 1 and not shuffle)
    if samples and not shuffle:
        assert min(lengths) > 0


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    samples=st.integers(1, 80),
    runs=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=6
    ),
)
def test_an_epoch_is_seen_once_however_often_it_is_cut_anew(
    samples: int, runs: list[tuple[int, int, int]]
) -> None:
    seen: list[int] = []
    for last, (batch_size, world, steps) in enumerate(runs, 1 - len(runs)):
        order = BatchOrder(samples, batch_size, True, 3)
        ranks = [order.batches(2, rank, world, len(seen)) for rank in range(world)]
        assert {len(batches) for batches in ranks} == {order.length(0, world, len(seen))}
        for step in list(zip(*ranks, strict=True))[: steps if last else None]:
            seen += [int(i) for batch in step for i in batch]
        if last and order.length(0, world, len(seen)) == 0:
            break
    assert seen == BatchOrder(samples, samples, True, 3).batches(2)[0].tolist()[: len(seen)]
    assert samples - len(seen) < world


def test_a_step_sees_the_same_samples_however_many_ranks_share_it() -> None:
    one = BatchOrder(50, 8, True, 5).batches(2)
    two = [BatchOrder(50, 4, True, 5).batches(2, rank, 2) for rank in range(2)]
    for alone, *parts in zip(one, *two, strict=True):
        assert np.array_equal(alone, np.concatenate(parts))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        return BatchOrder(100, 100, True, seed).batches(epoch)[0].tolist()

    assert first(1, 1) == first(1, 1)
    assert len({tuple(first(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert BatchOrder(100, 100).batches(7)[0].tolist() == list(range(100))


# --------------------------------------------------------------------------------------- loader


def names(loader: BatchLoader) -> list[list[str]]:
    return [batch["name"] for batch in loader]


def flat(batches: list[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(batches))


@pytest.mark.parametrize("threads", [1, 3, 20])
def test_batches_hold_the_samples(stored: StoreDataset, threads: int) -> None:
    loader = BatchLoader(stored, 7, threads=threads)
    batches = list(loader)  # all at once: none may be overwritten by another
    assert len(batches) == len(loader) == 4
    assert [len(batch["image"]) for batch in batches] == [7, 7, 7, 3]
    index = 0
    for batch in batches:
        assert list(batch) == list(ALL)
        for position, name in enumerate(batch["name"]):
            item = stored[index]
            assert name == item["name"]
            for field in (*TRAINING, "matrix", "original_size"):
                assert same(batch[field][position].numpy(), item[field]), field
            assert same(batch["polygons"][position], item["polygons"])
            assert same(batch["ignore"][position], item["ignore"])
            index += 1
    assert index == 24


def test_live_and_stored_batches_are_equal(store: Path, dataset: Dataset) -> None:
    live = LiveDataset(dataset.images, dataset.annotations, size=64)
    loaders = [BatchLoader(d, 5, shuffle=True, seed=2) for d in (live, StoreDataset(store, "val"))]
    for a, b in zip(*loaders, strict=True):
        for field in TRAINING:
            assert torch.equal(a[field], b[field])


def test_epochs_differ_and_can_be_repeated(stored: StoreDataset) -> None:
    loader = BatchLoader(stored, 5, shuffle=True, seed=1, threads=3)
    first, second = names(loader), names(loader)
    assert first != second
    assert sorted(flat(first)) == sorted(flat(second)) == list(stored.names)
    loader.set_epoch(0)
    next(iter(loader))  # begun and left: still the same epoch
    assert names(loader) == first
    again = BatchLoader(stored, 5, shuffle=True, seed=1, threads=1)
    again.set_epoch(1)
    assert names(again) == second
    assert names(BatchLoader(stored, 5, shuffle=True, seed=2)) != first


def test_ranks_by_number(stored: StoreDataset) -> None:
    parts = [names(BatchLoader(stored, 4, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(flat(parts[0] + parts[1])) == list(stored.names)
    assert [len(part) for part in parts] == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"threads": -1}, "threads is -1; it must be at least 1"),
        ({"prefetch": 0}, "prefetch is 0; it must be at least 1"),
        ({"rank": 1}, "give rank and world_size together"),
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
    ],
)
def test_wrong_options(stored: StoreDataset, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchLoader(stored, **options)


def test_a_batch_in_hand_never_changes(store: Path) -> None:
    loader = BatchLoader(StoreDataset(store, "val", ("image",)), 4, shuffle=True, threads=4)
    held = []
    for epoch in range(6):
        for number, batch in enumerate(loader):
            # Of some batches a view of a view is all that is kept.
            view = (batch["image"][1:][0] if number % 2 else batch["image"]).numpy()[2:]
            held.append((view, view.copy()))
            if epoch % 2:
                held.pop(0)
    for view, copy in held:
        assert np.array_equal(view, copy)


def addresses(loader: BatchLoader) -> list[int]:
    return [batch["image"].data_ptr() for batch in loader]


def test_memory_is_used_again(store: Path) -> None:
    loader = BatchLoader(StoreDataset(store, "val", ("image",)), 3, threads=2, prefetch=2)
    gc.collect()
    seen = {address for _ in range(10) for address in addresses(loader)}
    assert len(seen) <= 5  # two under way, one being taken, one in hand, one just let go


def alive() -> int:
    return sum(thread.name.startswith("batch-loader") for thread in threading.enumerate())


def test_stopping_in_the_middle_leaves_nothing_behind(stored: StoreDataset) -> None:
    loader = BatchLoader(stored, 2, threads=3)
    for batch in loader:
        assert len(batch["name"]) == 2
        assert alive() > 0
        break
    gc.collect()
    assert alive() == 0
    batches = iter(loader)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert alive() == 0
    assert len(names(loader)) == 12


class Broken(StoreDataset):
    """Fails at one sample."""

    def fill(self, indices: Sequence[int], out: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        if 11 in indices:
            raise ZeroDivisionError("no ink")
        return super().fill(indices, out)


def test_an_error_in_a_thread_reaches_the_caller(store: Path) -> None:
    loader = BatchLoader(Broken(store, "val", ALL), 4, threads=2)
    batches = iter(loader)
    assert len([next(batches) for _ in range(2)]) == 2
    with pytest.raises(SampleError, match=r"sample 'page_011\.jpg': no ink") as caught:
        next(batches)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert alive() == 0


def test_a_damaged_sample_is_named(store: Path, stored: StoreDataset) -> None:
    key = stored.split.manifest.shards[0].key
    flip_chunk(shard_path(store, key), "thresh")
    message = rf"sample 'page_000\.jpg': shard {key}: sample 'page_000\.jpg': thresh cannot be read"
    with pytest.raises(SampleError, match=message):
        list(BatchLoader(StoreDataset(store, "val"), 4))


def test_a_live_image_that_went_away_is_named(dataset: Dataset) -> None:
    live = LiveDataset(dataset.images, dataset.annotations, size=64)
    (dataset.images / "page_007.jpg").unlink()
    (dataset.images / "page_009.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"page_007\.jpg: cannot be read: No such file"):
        live[7]
    buffers, pace = BatchBuffers(live.layout, 2), Pace(Setting(1, 1))
    with pytest.raises(SampleError, match=r"sample 'page_009\.jpg': .* is not a JPEG, PNG"):
        list(make_batches(live, buffers, [np.array([9])], [(64, 64)], pace))


def test_ctrl_c_ends_the_process_at_once(store: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from ocr.datasets import BatchLoader, StoreDataset\n"
        f"loader = BatchLoader(StoreDataset({str(store)!r}, 'val'), 2, threads=2)\n"
        "try:\n"
        "    while True:\n"
        "        for number, batch in enumerate(loader):\n"
        "            if number == 3: os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\n", "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Counting(lightning.LightningModule):
    """Counts what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[list[str]]] = {"train": [], "val": []}

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        self.seen["train"].append(batch["name"])
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch: dict[str, Any]) -> None:
        self.seen["val"].append(batch["name"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*num_workers")
def test_lightning_takes_the_loader(store: Path, tmp_path: Path) -> None:
    dataset = StoreDataset(store, "val", ("image", "name"))
    module = Counting()
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    train, val = BatchLoader(dataset, 5, shuffle=True), BatchLoader(dataset, 7)
    trainer.fit(module, train, val)
    epochs = [flat(module.seen["train"][i : i + 5]) for i in (0, 5)]
    assert epochs[0] != epochs[1]
    expected = BatchLoader(dataset, 5, shuffle=True)
    assert epochs == [flat(names(expected)) for _ in range(2)]
    assert flat(module.seen["val"]) == [*dataset.names, *dataset.names]


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_goes_on_where_another_was(stored: StoreDataset, shuffle: bool) -> None:
    def make() -> BatchLoader:
        return BatchLoader(stored, 5, shuffle=shuffle, threads=2)

    def names(loader: BatchLoader) -> list[list[str]]:
        return [batch["name"] for batch in loader]

    whole = make()
    epochs = [names(whole) for _ in range(3)]
    first = make()
    for _ in first:
        pass
    for number, _ in enumerate(first, 1):
        state = first.state_dict()
        epoch, seen = (1, 5 * number) if number < 5 else (2, 0)
        assert state == {"epoch": epoch, "seen": seen, "seed": 0, "samples": 24}
        second = make()
        second.load_state_dict(state)
        assert second.state_dict() == state
        left = epochs[1][number:] or epochs[2]
        assert names(second) == left
        if number < 5:
            assert names(second) == epochs[2]
        third = make()
        third.load_state_dict(state)
        third.set_epoch(2)  # another epoch than the one that was left
        assert names(third) == epochs[2]


def test_a_loader_goes_on_with_other_batches_and_ranks(stored: StoreDataset) -> None:
    whole = flat(names(BatchLoader(stored, 24, shuffle=True, seed=4)))
    first = BatchLoader(stored, 5, shuffle=True, seed=4)
    for _ in zip(range(2), first, strict=False):
        pass
    assert first.place == 2
    ranks = [
        BatchLoader(stored, 3, shuffle=True, seed=4, rank=rank, world_size=2) for rank in range(2)
    ]
    for loader in ranks:
        loader.load_state_dict(first.state_dict())
        assert (loader.place, len(loader)) == (1, 4)
    left = [names(loader) for loader in ranks]
    together = [flat(list(step)) for step in zip(*left, strict=True)]
    assert flat(together) == whole[10:]
    assert [len(loader) for loader in ranks] == [4, 4]
    other = BatchLoader(stored, 5, shuffle=True, seed=5)
    with pytest.raises(ValueError, match="seed is 5, and was 4 before"):
        other.load_state_dict(first.state_dict())
    fewer = BatchLoader(First(stored.split.storage, "val", ALL), 5, shuffle=True, seed=4)
    with pytest.raises(ValueError, match="samples is 1, and was 24 before"):
        fewer.load_state_dict(first.state_dict())


def test_a_rank_without_samples_gets_one_empty_batch(stored: StoreDataset) -> None:
    loader = BatchLoader(stored, 24, rank=1, world_size=2)
    whole = list(BatchLoader(stored, 24, rank=0, world_size=2))
    assert [len(batch["name"]) for batch in whole] == [12]
    few = BatchLoader(First(stored.split.storage, "val", ALL), 24, rank=1, world_size=2)
    (batch,) = few
    assert len(few) == 1
    assert batch["image"].shape == (0, 64, 64, 3)
    assert batch["matrix"].shape == (0, 3, 3)
    assert batch["original_size"].shape == (0, 2)
    assert batch["name"] == batch["polygons"] == []
    assert len(loader) == 1


class First(StoreDataset):
    """The first sample of a split alone."""

    def __len__(self) -> int:
        return 1


def test_the_loader_says_how_long_it_was_waited_for(stored: StoreDataset) -> None:
    loader = BatchLoader(stored, 4, threads=2)
    with recording() as recorded:
        batches = list(loader)
    wait = recorded.totals().waits["loader"]
    assert wait.count == len(batches) + 1  # and for the end
    assert wait.seconds > 0


def test_a_folder_of_images_is_seen_as_a_split_is(dataset: Dataset, tmp_path: Path) -> None:
    live = LiveDataset(dataset.images, dataset.annotations, ALL, size=64)
    folder = ImageFolder(dataset.images, live.parameters)
    assert list(folder.names) == list(live.names)
    assert len(folder) == len(live)
    for index in range(len(live)):
        for field, value in folder[index].items():
            assert same(value, live[index][field]), field
    (dataset.images / "deeper").mkdir()
    (dataset.images / "page_001.jpg").rename(dataset.images / "deeper" / "page_001.jpg")
    (dataset.images / "notes.txt").write_text("no image")
    again = ImageFolder(dataset.images, live.parameters)
    assert again.names[0] == "deeper/page_001.jpg"
    (dataset.images / "page_002.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"page_002\.jpg: is not a JPEG"):
        again[again.names.index("page_002.jpg")]
    with pytest.raises(InputError, match="there is no image in this folder; name another"):
        ImageFolder(tmp_path / "nothing", live.parameters)


def test_processes_of_a_machine_share_its_cores(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    for devices, wanted, threads in ((1, None, 6), (2, None, 3), (9, None, 1), (2, 5, 5)):
        data = DetectionData(str(store), "val", "val", threads=wanted)
        data.trainer = lightning.Trainer(accelerator="cpu", devices=devices, logger=False)
        data.setup("fit")
        assert data.train_dataloader().threads == threads
        assert data.val_dataloader().threads == threads
    data = DetectionData(str(store), "val", "val", threads=0)
    data.setup("fit")
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        data.val_dataloader()
