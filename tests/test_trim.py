"""Batches without padding that nothing needs: the same samples, cut, in an order as honest."""

from __future__ import annotations

import io
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Dataset, same
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from test_train import in_processes
from train_once import train

from ocr.datasets import BatchLoader, LiveDataset, SampleDataset, StoreDataset
from ocr.datasets.data_module import DetectionData
from ocr.datasets.folder import ImageFolder
from ocr.datasets.order import BatchOrder, grouped
from ocr.datasets.samples import ANNOTATIONS, TRAINING
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr.datasets.trim import kinds_of
from ocr.models import DBNet
from ocr_precompute.errors import StoreError
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

ALL = (*TRAINING, *ANNOTATIONS)
SIDE = 128
PAGES = [(240, 60), (240, 100), (200, 190), (100, 240), (48, 200), (150, 150), (60, 31)]


def pages(root: Path, count: int = 29) -> Dataset:
    """Pages of seven shapes, one of them turned by EXIF, in no order by shape."""
    made = Dataset(root, count=0)
    for number in range(count):
        made.add(f"page_{number:03d}.jpg", PAGES[number * 3 % len(PAGES)], words=2)
    path = made.images / "page_001.jpg"
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[274] = 6  # turned by a quarter for display
        turned = io.BytesIO()
        picture.save(turned, "JPEG", exif=exif)
    path.write_bytes(turned.getvalue())
    made.document["images"]["page_001.jpg"]["words"] = {}
    made.save()
    return made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return pages(tmp_path_factory.mktemp("data") / "d")


@pytest.fixture(scope="module")
def stored(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> StoreDataset:
    store = tmp_path_factory.mktemp("store") / "s"
    settings = Settings(store=store, size=SIDE, shard_length=8, backend="sequential")
    build("val", dataset.source, settings)
    return StoreDataset(store, "val", ALL)


@pytest.fixture(scope="module")
def live(dataset: Dataset) -> LiveDataset:
    return LiveDataset(dataset.images, dataset.annotations, ALL, size=SIDE)


def rounded(dataset: SampleDataset, trim: int = 32) -> np.ndarray:
    return np.minimum(-(-dataset.content_sizes // trim) * trim, SIDE)


# -------------------------------------------------------------------------------- content sizes


def test_content_is_where_pixels_are(stored: StoreDataset, live: LiveDataset) -> None:
    sizes = stored.content_sizes
    assert sizes.dtype == np.int32
    assert sizes.shape == (29, 2)
    for (height, width), index in zip(sizes.tolist(), range(29), strict=True):
        image = stored[index]["image"]
        assert not image[height:].any()
        assert not image[:, width:].any()
        # noise of a JPEG leaves no border black
        assert image[height - 1, :width].any()
        assert image[:height, width - 1].any()
    assert same(sizes, live.content_sizes)
    assert sizes[1].tolist() == [128, 53]  # displayed as 240 x 100
    assert len(np.unique(sizes, axis=0)) == 7


def test_a_folder_of_images_knows_content_sizes(dataset: Dataset, live: LiveDataset) -> None:
    folder = ImageFolder(dataset.images, live.parameters)
    assert same(folder.content_sizes, live.content_sizes)


def test_a_file_without_a_header_has_content_all_over(tmp_path: Path) -> None:
    made = pages(tmp_path / "d", 3)
    (made.images / "page_000.jpg").write_bytes(b"no image")
    (made.images / "page_002.jpg").unlink()
    live = LiveDataset(made.images, made.annotations, size=SIDE)
    assert live.content_sizes.tolist() == [[128, 128], [128, 53], [128, 128]]


@pytest.mark.parametrize(
    ("augmentation", "trimmed"),
    [
        (Augmentation(), True),
        (Augmentation(colour=0.3), True),
        (Augmentation(flip=0.5), False),
        (Augmentation(rotation=1), False),
        (Augmentation(scale=0.1), False),
        (Augmentation(crop=96), False),
        (Augmentation(crop=SIDE), False),
    ],
)
def test_only_what_stays_where_it_is_can_be_trimmed(
    stored: StoreDataset, augmentation: Augmentation, trimmed: bool
) -> None:
    varied = AugmentedDataset(stored, augmentation)
    side = augmentation.crop or SIDE
    whole = np.full((29, 2), side, np.int32)
    assert same(varied.content_sizes, stored.content_sizes if trimmed else whole)
    shapes = {batch["image"].shape[1:3] for batch in BatchLoader(varied, 4, trim=32, threads=2)}
    assert (len(shapes) > 1) == trimmed
    if not trimmed:  # and samples come as they do without
        loaders = [BatchLoader(varied, 4, shuffle=True, trim=trim, threads=2) for trim in (32, 0)]
        for one, other in zip(*loaders, strict=True):
            assert torch.equal(one["image"], other["image"])


# ---------------------------------------------------------------------------------------- order


def kinds(most: int = 60) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 6), min_size=1, max_size=most)


def order_of(numbers: list[int], batch_size: int, shuffle: bool, seed: int = 3) -> BatchOrder:
    """Kinds without gaps in their numbers, as kinds_of has them."""
    found = np.unique(numbers, return_inverse=True)[1]
    return BatchOrder(len(numbers), batch_size, shuffle, seed, found)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    numbers=kinds(), batch_size=st.integers(1, 9), world=st.integers(1, 5), shuffle=st.booleans()
)
def test_ranks_share_an_epoch_of_groups(
    numbers: list[int], batch_size: int, world: int, shuffle: bool
) -> None:
    order = order_of(numbers, batch_size, shuffle)
    ranks = [order.batches(1, rank, world) for rank in range(world)]
    lengths = [len(batches) for batches in ranks]
    assert lengths == [order.length(rank, world) for rank in range(world)]
    seen = sorted(int(i) for batches in ranks for batch in batches for i in batch)
    assert len(set(seen)) == len(seen)
    assert all(len(batch) <= batch_size for batches in ranks for batch in batches)
    if shuffle:
        assert len(numbers) - len(seen) < world
        for step in zip(*ranks, strict=True):
            assert len({len(batch) for batch in step}) == 1
    else:
        assert len(seen) == len(numbers)
        assert min(lengths) > 0  # each rank has part in what all do together
    steps = order.steps(1, world)
    for number, step in enumerate(steps):
        parts = [batches[number] for batches in ranks if number < len(batches)]
        assert np.array_equal(np.concatenate(parts), step)


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    numbers=kinds(80),
    begun=st.integers(1, 20),
    runs=st.lists(
        st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=6
    ),
)
def test_an_epoch_of_groups_is_seen_once_however_often_it_is_cut_anew(
    numbers: list[int], begun: int, runs: list[tuple[int, int, int]]
) -> None:
    seen: list[int] = []
    for last, (batch_size, world, steps) in enumerate(runs, 1 - len(runs)):
        order = order_of(numbers, batch_size, True)
        ranks = [order.batches(2, rank, world, len(seen), begun) for rank in range(world)]
        assert {len(batches) for batches in ranks} == {order.length(0, world, len(seen))}
        for step in list(zip(*ranks, strict=True))[: steps if last else None]:
            seen += [int(i) for batch in step for i in batch]
        if last and order.length(0, world, len(seen)) == 0:
            break
    whole = order_of(numbers, len(numbers), True).batches(2, group=begun)[0].tolist()
    assert seen == whole[: len(seen)]
    assert len(numbers) - len(seen) < world


@hypothesis_settings(max_examples=200, deadline=None)
@given(numbers=kinds(), group=st.integers(1, 9), seed=st.none() | st.integers(0, 9))
def test_groups_are_of_one_kind_as_far_as_there_are_any(
    numbers: list[int], group: int, seed: int | None
) -> None:
    of = np.unique(numbers, return_inverse=True)[1]
    random = None if seed is None else np.random.default_rng(seed)
    order = grouped(np.arange(len(of)), of, group, random)
    assert sorted(order.tolist()) == list(range(len(of)))
    whole = order[: len(order) // group * group].reshape(-1, group)
    alike = Counter(int(of[members[0]]) for members in whole if len(set(of[members])) == 1)
    for kind, count in Counter(of.tolist()).items():
        held_back = 0 if random is None else group - 1
        assert alike[kind] >= (count - held_back) // group
    if random is None:  # what is left over is together with its neighbours
        for members in whole:
            assert (np.diff(of[members]) >= 0).all()


def test_two_ranks_see_in_a_step_what_one_does() -> None:
    numbers = [number % 5 for number in range(50)]
    one = order_of(numbers, 8, True).batches(2)
    two = [order_of(numbers, 4, True).batches(2, rank, 2) for rank in range(2)]
    for alone, *parts in zip(one, *two, strict=True):
        assert np.array_equal(alone, np.concatenate(parts))


@pytest.mark.parametrize("counts", [(8, 8), (4, 4, 4, 4), (3, 40, 8, 1, 16)])
def test_which_samples_meet_changes_from_epoch_to_epoch(counts: tuple[int, ...]) -> None:
    """Also where kinds are just as large as a group, or several make one."""
    numbers = [kind for kind, count in enumerate(counts) for _ in range(count)]
    order = order_of(numbers, 8, True)
    epochs = [order.steps(epoch) for epoch in range(60)]
    met = Counter(frozenset(step.tolist()) for steps in epochs for step in steps)
    assert max(met.values()) < 45  # no batch is the same in nearly every epoch
    last = {frozenset(steps[-1].tolist()) for steps in epochs}
    assert len(last) > 10  # nor is it the same samples that come last
    assert len({tuple(np.concatenate(steps)) for steps in epochs}) == 60


def test_kinds_go_from_the_narrowest_to_the_lowest() -> None:
    sizes = np.array([[64, 128], [128, 32], [128, 128], [32, 128], [128, 32], [128, 96]])
    assert kinds_of(sizes).tolist() == [3, 0, 2, 4, 0, 1]


# --------------------------------------------------------------------------------------- loader


def index_of(dataset: SampleDataset, name: str) -> int:
    return list(dataset.names).index(name)


@pytest.mark.parametrize("trim", [32, 64])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_hold_the_samples_without_padding(
    stored: StoreDataset, shuffle: bool, trim: int
) -> None:
    sizes = rounded(stored, trim)
    batches = list(BatchLoader(stored, 4, shuffle=shuffle, trim=trim, threads=3))
    assert [len(batch["name"]) for batch in batches] == [4] * 7 + [1]
    assert sorted(name for batch in batches for name in batch["name"]) == list(stored.names)
    for batch in batches:
        indices = [index_of(stored, name) for name in batch["name"]]
        height, width = sizes[indices].max(axis=0)
        for field in TRAINING:
            assert batch[field].shape[1:3] == (height, width)
            assert batch[field].is_contiguous()
        for position, index in enumerate(indices):
            whole = stored[index]
            for field in TRAINING:
                cut = np.ascontiguousarray(whole[field][:height, :width])
                assert same(batch[field][position].numpy(), cut)
                assert not whole["image"][height:].any()  # only padding was cut off
                assert not whole["image"][:, width:].any()
            for field in ("polygons", "ignore"):  # coordinates stay
                assert same(batch[field][position], whole[field])
            assert same(batch["matrix"][position].numpy(), whole["matrix"])
    pixels = sum(batch["image"][..., 0].numel() for batch in batches)
    assert pixels < 0.8 * 29 * SIDE**2


@pytest.mark.parametrize("shuffle", [True, False])
def test_trimmed_batches_from_store_and_live_are_equal(
    stored: StoreDataset, live: LiveDataset, shuffle: bool
) -> None:
    loaders = [BatchLoader(d, 4, shuffle=shuffle, trim=32, seed=2) for d in (stored, live)]
    for one, other in zip(*loaders, strict=True):
        assert one["name"] == other["name"]
        for field in (*TRAINING, "matrix", "original_size"):
            assert torch.equal(one[field], other[field])


def test_a_folder_is_trimmed_as_a_split_is(dataset: Dataset, live: LiveDataset) -> None:
    folder = ImageFolder(dataset.images, live.parameters)
    for one, other in zip(*(BatchLoader(d, 4, trim=32) for d in (folder, live)), strict=True):
        assert one["name"] == other["name"]
        assert torch.equal(one["image"], other["image"])


def test_colour_changes_no_more_of_a_trimmed_page(stored: StoreDataset) -> None:
    varied = AugmentedDataset(stored, Augmentation(colour=0.4), seed=1)
    loader = BatchLoader(varied, 4, trim=32, threads=2)
    order = [index for step in BatchOrder(29, 4, kinds=kinds_of(rounded(stored))).steps(0)
             for index in step]  # fmt: skip
    rows = itertools.chain.from_iterable(
        zip(*(batch[field].numpy() for field in TRAINING), strict=True) for batch in loader
    )
    changed = 0
    for index, row in zip(order, rows, strict=True):
        whole, plain = varied[index], stored[index]
        changed += not same(whole["image"], plain["image"])
        for field, value in zip(TRAINING, row, strict=True):
            height, width = value.shape[:2]
            assert np.array_equal(value, whole[field][:height, :width])
    assert changed > 20


def test_a_step_has_one_size_for_all_ranks(stored: StoreDataset) -> None:
    for shuffle in (True, False):
        one = list(BatchLoader(stored, 8, shuffle=shuffle, trim=32, rank=0, world_size=1))
        two = [
            list(BatchLoader(stored, 4, shuffle=shuffle, trim=32, rank=rank, world_size=2))
            for rank in range(2)
        ]
        for alone, *parts in list(zip(one, *two, strict=True))[: -1 if shuffle else None]:
            assert torch.equal(alone["image"], torch.cat([part["image"] for part in parts]))


def test_a_rank_without_samples_gets_an_empty_batch_of_the_size_of_the_others(
    tmp_path: Path,
) -> None:
    made = pages(tmp_path / "d", 3)
    made.remove("page_001.jpg")
    made.remove("page_002.jpg")
    made.save()
    live = LiveDataset(made.images, made.annotations, ALL, size=SIDE)
    ranks = [list(BatchLoader(live, 4, trim=32, rank=rank, world_size=2)) for rank in range(2)]
    assert [[tuple(b["image"].shape) for b in rank] for rank in ranks] == [
        [(1, 128, 32, 3)],
        [(0, 128, 32, 3)],
    ]


def test_memory_is_used_again_whatever_the_sizes(stored: StoreDataset) -> None:
    loader = BatchLoader(stored, 3, shuffle=True, trim=32, threads=2, prefetch=2)
    held, addresses = [], set()
    for epoch in range(8):
        for number, batch in enumerate(loader):
            addresses.add(batch["image"].data_ptr())
            if epoch == 3 and number % 3 == 0:
                view = batch["image"][1:].numpy()
                held.append((view, view.copy()))
            del batch
    for view, copy in held:  # a batch in hand never changes
        assert np.array_equal(view, copy)
    assert len(addresses) <= 5 + len(held)


@pytest.mark.parametrize("trim", [-32, 16, 33])
def test_trim_is_a_multiple_of_32(stored: StoreDataset, trim: int) -> None:
    message = f"trim is {trim}; it must be a multiple of 32, or 0 for none"
    with pytest.raises(ValueError, match=message):
        BatchLoader(stored, 4, trim=trim)
    with pytest.raises(ValueError, match=message):
        DetectionData(trim=trim)


# -------------------------------------------------------------------------------------- resuming


def taken(loader: BatchLoader, steps: int | None = None) -> list[list[str]]:
    batches = iter(loader)
    found = [batch["name"] for batch in itertools.islice(batches, steps)]
    batches.close()  # type: ignore[attr-defined]
    return found


def flat(batches: Iterable[list[str]]) -> list[str]:
    return list(itertools.chain.from_iterable(batches))


def loader_of(dataset: SampleDataset, batch_size: int = 5, **options: Any) -> BatchLoader:
    return BatchLoader(dataset, batch_size, **{"shuffle": True, "trim": 32, "seed": 4, **options})


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_goes_on_where_another_was(stored: StoreDataset, shuffle: bool) -> None:
    whole = loader_of(stored, shuffle=shuffle)
    epochs = [taken(whole) for _ in range(3)]
    first = loader_of(stored, shuffle=shuffle)
    taken(first)
    for number, _ in enumerate(first, 1):
        state = first.state_dict()
        second = loader_of(stored, shuffle=shuffle)
        second.load_state_dict(state)
        assert second.state_dict() == state
        left = epochs[1][number:]
        assert taken(second) == (left or epochs[2])
        if left:
            assert taken(second) == epochs[2]


@pytest.mark.parametrize("trim", [32, 64, 0])
def test_a_loader_goes_on_with_other_batches_ranks_and_trim(
    stored: StoreDataset, trim: int
) -> None:
    whole = flat(taken(loader_of(stored)))
    first = loader_of(stored)
    seen = flat(taken(first, 2))
    state = first.state_dict()
    assert state | {"sizes": 0} == {
        **{"epoch": 0, "seen": 10, "seed": 4, "samples": 29},
        **{"trim": 32, "group": 5, "sizes": 0},
    }
    ranks = [loader_of(stored, 3, trim=trim, rank=rank, world_size=2) for rank in range(2)]
    for loader in ranks:
        loader.load_state_dict(state)
    steps = [taken(loader, 2) for loader in ranks]
    seen += flat(flat(map(list, step)) for step in zip(*steps, strict=True))
    assert ranks[0].state_dict() == {**state, "seen": 22}  # still the groups of the beginning
    last = loader_of(stored, 2, trim=trim)
    last.load_state_dict(ranks[1].state_dict())
    seen += flat(taken(last))
    assert seen == whole
    again = loader_of(stored, 2, trim=trim)  # the next epoch is in groups of its own
    again.set_epoch(1)
    assert taken(last) == taken(again)


def test_an_epoch_that_was_not_trimmed_is_gone_on_with(stored: StoreDataset) -> None:
    whole = flat(taken(loader_of(stored, trim=None)))
    first = loader_of(stored, trim=None)
    seen = flat(taken(first, 2))
    assert first.state_dict() == {"epoch": 0, "seen": 10, "seed": 4, "samples": 29}
    second = loader_of(stored, 7)
    second.load_state_dict(first.state_dict())
    assert seen + flat(taken(second)) == whole
    other = loader_of(stored, 7)
    other.set_epoch(1)
    assert taken(second) == taken(other)


def test_an_epoch_of_other_sizes_is_refused(stored: StoreDataset) -> None:
    first = loader_of(stored)
    taken(first, 2)
    moved = loader_of(AugmentedDataset(stored, Augmentation(flip=0.5)))
    with pytest.raises(ValueError, match="the samples' content is of other sizes than before"):
        moved.load_state_dict(first.state_dict())
    taken(first)
    moved.load_state_dict(first.state_dict())  # between epochs there is nothing to go on with
    assert moved.state_dict()["epoch"] == 1


# --------------------------------------------------------------------------------------- network


def test_the_network_takes_batches_of_any_size() -> None:
    """In one process after each other, forwards and backwards, in either memory layout."""
    torch.manual_seed(0)
    for layout in (torch.contiguous_format, torch.channels_last):
        network = DBNet(channels=16).to(memory_format=layout)  # type: ignore[call-overload]
        for height, width in ((128, 32), (32, 128), (64, 96), (100, 70)):
            images = torch.randint(0, 255, (2, height, width, 3), dtype=torch.uint8)
            output = network(images)
            assert output.prob.shape == output.thresh.shape == (2, height, width)
            (output.prob.mean() + output.thresh.mean()).backward()


def shapes_of(batches: Iterable[Mapping[str, Any]]) -> set[tuple[int, ...]]:
    return {tuple(batch["image"].shape[1:3]) for batch in batches}


def test_training_and_validation_are_trimmed_unless_told_otherwise(stored: StoreDataset) -> None:
    for options, trimmed in (({"trim": 32}, True), ({"trim": 0}, False)):
        data = DetectionData(
            str(stored.split.storage.folder), "val", "val", batch_size=4, **options
        )
        data.setup("fit")
        for loader in (data.train_dataloader(), data.val_dataloader()):
            assert (shapes_of(loader) == {(SIDE, SIDE)}) != trimmed


# --------------------------------------------------------------------------------------- training

trains = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging interval",
    "ignore:.*exists and is not empty",
    "ignore:Be aware that when using `ckpt_path`",
)


@pytest.fixture(scope="module")
def computed(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A configuration of the compiler for the same split."""
    path = tmp_path_factory.mktemp("config") / "precompute.yaml"
    source = dataset.source.model_dump(mode="json")
    path.write_text(yaml.safe_dump({"size": SIDE, "splits": {"val": source}}))
    return str(path)


def data(stored: StoreDataset, **changes: Any) -> dict[str, Any]:
    store = str(stored.split.storage.folder)
    both = {"store": store, "train": "val", "val": "val"}
    return {**both, "batch_size": 4, "threads": 2, "trim": 32, **changes}


@trains
def test_steps_are_the_same_from_the_store_and_live(
    stored: StoreDataset, computed: str, tmp_path: Path
) -> None:
    loops = {"max_epochs": 3}  # of 8 steps
    one = train(str(tmp_path / "a"), data(stored), trainer=loops)
    other = train(str(tmp_path / "b"), data(stored, store="none", live=computed), trainer=loops)
    assert len(one.losses) == 24
    assert one.losses == other.losses
    assert one.images == other.images
    assert one.names == other.names
    assert one.metrics["val/hmean"] == other.metrics["val/hmean"]


@trains
def test_an_interrupted_training_goes_on_trimmed(stored: StoreDataset, tmp_path: Path) -> None:
    loops, out = {"max_epochs": 2}, str(tmp_path)
    whole = train(out, data(stored), trainer=loops, checkpoint_every=5)
    again = train(out, data(stored), trainer=loops, ckpt_path=f"{out}/step5.ckpt")
    assert again.losses == whole.losses[5:]
    plain = data(stored, trim=0, batch_size=7)  # the pixels are others, the samples are not
    other = train(out, plain, trainer=loops, ckpt_path=f"{out}/step5.ckpt")
    assert [len(step) for step in other.images[:2]] == [7, 2]
    moved = data(stored, augmentation={"flip": 0.5})
    with pytest.raises(StoreError, match=r"of other sizes than before.*bring data and data\.augm"):
        train(out, moved, trainer=loops, ckpt_path=f"{out}/step5.ckpt")


@trains
@pytest.mark.time
def test_two_processes_do_what_one_does(stored: StoreDataset, tmp_path: Path) -> None:
    """Where none is left out, for 29 samples make steps of two halves but for the last."""
    loops, model = {"max_epochs": 1, "limit_train_batches": 3}, {"norm": "group"}
    (one,) = in_processes(
        tmp_path / "one", 1, data=data(stored, batch_size=8), model=model, trainer=loops
    )
    two = in_processes(tmp_path / "two", 2, data=data(stored), model=model, trainer=loops)
    together = np.mean([rank["losses"] for rank in two], axis=0)
    assert together.shape == (3,)
    assert np.allclose(together, one["losses"], atol=1e-5, rtol=0)
    assert sorted(two[0]["names"] + two[1]["names"]) == sorted(one["names"])
    assert len(one["names"]) == 29
    for name in ("val/hmean", "val/precision", "val/recall"):
        assert two[0]["metrics"][name] == two[1]["metrics"][name] == one["metrics"][name]


@trains
def test_checkpointing_changes_no_loss_of_a_trimmed_training(
    stored: StoreDataset, tmp_path: Path
) -> None:
    plain = train(str(tmp_path / "a"), data(stored))
    assert len(plain.losses) == 8
    for mode in ("selective", "full"):
        kept = train(str(tmp_path / mode), data(stored), model={"activation_checkpointing": mode})
        assert plain.losses == kept.losses


def test_a_trimmed_page_looks_the_same_away_from_the_cut() -> None:
    """What is cut off is seen no farther than the network's field of view reaches."""
    torch.manual_seed(0)
    network = DBNet(channels=16).eval()
    page = torch.zeros((1, 1024, 128, 3), dtype=torch.uint8)
    page[:, :960] = torch.randint(0, 255, (1, 960, 128, 3), dtype=torch.uint8)
    with torch.no_grad():
        whole, cut = network(page).prob, network(page[:, :960]).prob
    assert not torch.equal(whole[:, 900:960], cut[:, 900:960])
    assert torch.allclose(whole[:, :400], cut[:, :400], atol=1e-4)
