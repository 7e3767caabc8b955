"""The order of an epoch by windows of shards: honest, the same everywhere, gone on with."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Dataset
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ocr.datasets import BatchLoader, StoreDataset
from ocr.datasets.order import BatchOrder
from ocr.datasets.transforms import Augmentation, AugmentedDataset
from ocr_precompute.pipeline.build import build
from ocr_precompute.settings import Settings

shard_lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def order_of(
    lengths: list[int], window: int, shuffle: bool, kinds: int, batch_size: int = 4
) -> BatchOrder:
    samples = sum(lengths)
    alike = np.random.default_rng(samples).integers(0, kinds, samples) if kinds else None
    return BatchOrder(
        samples, batch_size, shuffle, 3, alike, window=window, shards=np.array(lengths)
    )


def seen(order: BatchOrder, epoch: int, world_size: int = 1, **more: int) -> list[int]:
    """All ranks' samples in the order of an epoch."""
    return [index for step in order.steps(epoch, world_size, **more) for index in step.tolist()]


@hypothesis_settings(deadline=None)
@given(
    shard_lengths, st.integers(1, 14), st.booleans(), st.integers(0, 4), st.integers(1, 4),
    st.integers(1, 5), st.data(),
)  # fmt: skip
def test_every_sample_once_and_gone_on_with_from_anywhere(
    lengths: list[int],
    window: int,
    shuffle: bool,
    kinds: int,
    world_size: int,
    batch_size: int,
    data: st.DataObject,
) -> None:
    order = order_of(lengths, window, shuffle, kinds, batch_size)
    group = batch_size * world_size
    whole = seen(order, 2, world_size, group=group)
    lost = order.samples - len(whole)
    assert len(set(whole)) == len(whole)
    assert 0 <= lost < world_size if shuffle else lost == 0
    ranks = [order.batches(2, rank, world_size, group=group) for rank in range(world_size)]
    if shuffle:
        assert len({len(batches) for batches in ranks}) == 1
    # gone on with elsewhere, in other batches, by another number of ranks
    behind = data.draw(st.integers(0, len(whole)))
    others = data.draw(st.integers(1, 4))
    left = seen(replace(order, batch_size=3), 2, others, seen=behind, group=group)
    alone = seen(order, 2, 1, group=group)
    assert left == alone[behind : behind + len(left)]
    assert order.samples - behind - len(left) < (others if shuffle else 1)


@hypothesis_settings(deadline=None)
@given(shard_lengths, st.integers(1, 14), st.booleans())
def test_each_window_is_whole_shards(lengths: list[int], window: int, shuffle: bool) -> None:
    order = order_of(lengths, window, shuffle, 0)
    of = np.repeat(np.arange(len(lengths)), lengths)
    left, shards_seen = seen(order, 1), []
    while left:
        first = [of[left[0]]]
        for index in left:
            if of[index] not in first and len(first) < window:
                first.append(of[index])
        size = sum(lengths[shard] for shard in first)
        # the shards that a window begins with are those it holds, unless one of them is cut short
        assert {of[index] for index in left[:size]} <= {*first}
        shards_seen += first
        left = left[size:]
    assert sorted(shards_seen) == list(range(len(lengths)))
    if not shuffle:
        assert seen(order, 1) == list(range(order.samples))


def test_epochs_differ_in_shards_and_within_windows() -> None:
    order = order_of([8] * 40, 4, True, 0)
    first, second = seen(order, 0), seen(order, 1)
    assert first == seen(order, 0)
    assert {index // 8 for index in first[:32]} != {index // 8 for index in second[:32]}
    assert len({index // 8 for index in first[:8]}) > 2


def test_kinds_are_alike_within_windows() -> None:
    order = order_of([8] * 20, 4, True, 3)
    assert order.kinds is not None
    groups = np.array(seen(order, 0)).reshape(-1, 4)
    alike = (order.kinds[groups] == order.kinds[groups[:, :1]]).all(1)
    assert alike.mean() > 0.7
    places = np.empty(order.samples, int)
    places[groups.ravel()] = np.arange(order.samples)
    spread = [np.ptp(places[shard : shard + 8]) for shard in range(0, order.samples, 8)]
    assert np.median(spread) < 3 * 32


@hypothesis_settings(deadline=None)
@given(st.integers(1, 60), st.integers(0, 3), st.integers(0, 3))
def test_without_a_window_nothing_changes(samples: int, kinds: int, epoch: int) -> None:
    lengths = [1] * samples
    plain = replace(order_of(lengths, 0, True, kinds), shards=None)
    assert seen(order_of(lengths, 0, True, kinds), epoch) == seen(plain, epoch)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoreDataset:
    folder = tmp_path_factory.mktemp("windows")
    settings = Settings(store=folder / "s", size=64, shard_length=2, backend="sequential")
    build("val", Dataset(folder / "d").source, settings)
    return StoreDataset(folder / "s", "val", ("image", "name", "polygons", "ignore"))


def names(loader: BatchLoader) -> list[str]:
    return [name for batch in loader for name in batch["name"]]


def test_a_loader_goes_on_in_the_windows_it_began_with(stored: StoreDataset) -> None:
    first = BatchLoader(stored, 5, shuffle=True, seed=4, window=3)
    whole = names(first)
    first.set_epoch(0)
    for _ in itertools.islice(first, 2):
        pass
    state = first.state_dict()
    assert state["window"] == 3
    for window in (0, 3, 7):
        other = BatchLoader(stored, 3, shuffle=True, seed=4, window=window)
        other.load_state_dict(state)
        assert names(other) == whole[10:]
        assert "window" not in other.state_dict()  # an epoch begins
    with pytest.raises(ValueError, match="the samples lie in other shards than before"):
        first.load_state_dict({**state, "shards": 7})
    with pytest.raises(ValueError, match=r"window is -1; it must be at least 1, or 0 for all"):
        BatchLoader(stored, window=-1)


def test_varied_samples_come_by_windows_too(stored: StoreDataset) -> None:
    varied = AugmentedDataset(stored, Augmentation())
    assert varied.shards.tolist() == stored.shards.tolist()
    assert stored.shards.sum() == len(stored)


def test_old_states_are_gone_on_with(stored: StoreDataset, tmp_path: Path) -> None:
    loader = BatchLoader(stored, 5, shuffle=True, seed=4)
    for _ in itertools.islice(loader, 2):
        pass
    assert set(loader.state_dict()) == {"epoch", "seen", "seed", "samples"}
