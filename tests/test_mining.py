"""Hard negatives: found without a sort, they are those that a sort finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from ocr.models import DBLoss, DBOutput
from ocr.models.mining import by_sorting, by_threshold

HUGE = float(np.finfo(np.float32).max)


def sorted_out(losses: Tensor, count: Tensor) -> Tensor:
    """The plain way: a stable sort of each row."""
    order = losses.sort(dim=1, descending=True, stable=True).indices
    first = torch.arange(losses.shape[1]) < count[:, None]
    return torch.zeros_like(losses, dtype=torch.bool).scatter(1, order, first)


CASES: dict[str, tuple[list[list[float]], list[int]]] = {
    "one": ([[0.5, 3.0, 1.0]], [1]),
    "some": ([[0.5, 3.0, 1.0, 2.0], [8.0, 1.0, 0.25, 4.0]], [2, 3]),
    "other counts in other rows": ([[0.5, 3.0, 1.0], [0.5, 3.0, 1.0]], [0, 3]),
    "all are negatives": ([[0.5, 3.0, 1.0]], [3]),
    "no negative": ([[-1.0, -1.0, -1.0]], [0]),
    "one negative": ([[-1.0, 0.25, -1.0]], [1]),
    "all that may be taken": ([[-1.0, 0.25, 7.0, -1.0]], [2]),
    "nothing is lost": ([[0.0, -1.0, 0.0]], [2]),
    "neighbours": ([[1.0, float(np.nextafter(np.float32(1), np.float32(2)))]], [1]),
    "tiny and huge": ([[1e-45, 0.0, HUGE, float("inf")]], [3]),
    "equal, and all taken": ([[2.0, 2.0, 1.0]], [2]),
    "equal, and some taken": ([[2.0, 1.0, 1.0, 5.0, 1.0, 1.0, -1.0]], [4]),
    "all equal": ([[0.0] * 9, [0.5] * 9], [4, 1]),
    "one pixel": ([[0.5]], [1]),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_pixels_as_by_sorting(case: str) -> None:
    losses, count = (torch.tensor(part) for part in CASES[case])
    found = by_threshold(losses, count)
    assert torch.equal(found, sorted_out(losses, count))
    assert found.sum(1).tolist() == count.tolist()
    either = by_sorting(losses, count)
    assert torch.equal(losses[found].sort().values, losses[either].sort().values)


def test_of_equal_ones_the_first_are_taken() -> None:
    found = by_threshold(torch.tensor([[2.0, 1.0, 1.0, 5.0, 1.0]]), torch.tensor([4]))
    assert found.tolist() == [[True, True, True, True, False]]


FEW = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 3.0])  # so many are equal
ANY = st.floats(0, 100, width=32) | st.just(-1.0)


@given(
    st.one_of(arrays.arrays(np.float32, (3, 17), elements=each) for each in (FEW, ANY)),
    st.tuples(*[st.floats(0, 1)] * 3),
)
@settings(max_examples=200, deadline=None)
def test_whatever_comes_it_is_what_a_stable_sort_takes(
    losses: np.ndarray, shares: tuple[float, ...]
) -> None:
    values = torch.from_numpy(losses)
    count = ((values >= 0).sum(1) * torch.tensor(shares)).long()
    found = by_threshold(values, count)
    assert torch.equal(found, sorted_out(values, count))
    assert not found[values < 0].any()


def output(seed: int, dtype: torch.dtype = torch.float32) -> DBOutput:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, 4, 24, 32, generator=generator) * 4
    return DBOutput(*(each.to(dtype).requires_grad_() for each in maps))


def labels(seed: int) -> dict[str, Tensor]:
    """Of four samples: much text, little, none, and one pixel of it and nothing else."""
    random = np.random.default_rng(seed)
    text = random.random((4, 24, 32)) < np.array([0.3, 0.02, 0, 0])[:, None, None]
    mask = random.random((4, 24, 32)) < 0.9
    text[3, 5, 5], mask[3] = True, False
    mask[3, 5, 5] = True
    maps = {"prob": text, "prob_mask": mask, "thresh_mask": random.random((4, 24, 32)) < 0.4}
    return {
        **{name: torch.from_numpy(each.astype(np.uint8)) for name, each in maps.items()},
        "thresh": torch.from_numpy(random.random((4, 24, 32), np.float32)),
    }


def losses_of(mining: str, seed: int, dtype: torch.dtype, **settings: Any) -> list[Tensor]:
    """Losses and gradients."""
    given = output(seed, dtype)
    losses = DBLoss(mining=mining, fallback_negatives=50, **settings)(given, labels(seed))  # type: ignore[arg-type]
    losses.total.backward()
    gradients = [x.grad for x in given if x.grad is not None]
    assert len(gradients) == 2
    return [*losses, *gradients]


@pytest.mark.parametrize("reduction", ["sample", "batch"])
@pytest.mark.parametrize("ratio", [0.0, 0.5, 3.0, 1000.0])
def test_losses_and_gradients_are_the_same_bit_for_bit(reduction: str, ratio: float) -> None:
    for seed in range(3):
        settings = {"reduction": reduction, "negative_ratio": ratio}
        found, expected = (
            losses_of(mining, seed, torch.float32, **settings) for mining in ("threshold", "sort")
        )
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        assert all(value.isfinite().all() for value in found)


def test_in_half_precision_where_many_are_equal_losses_are_the_same_within_rounding() -> None:
    for seed in range(3):
        found, expected = (losses_of(way, seed, torch.bfloat16) for way in ("threshold", "sort"))
        for a, b in zip(found[:4], expected[:4], strict=True):
            assert a.item() == pytest.approx(b.item(), rel=1e-6)


def test_no_value_is_needed_to_know_what_to_compute() -> None:
    """On a device that holds shapes and no values."""
    losses = torch.empty(3, 7, device="meta")
    count = torch.empty(3, dtype=torch.int64, device="meta")
    assert by_threshold(losses, count).shape == (3, 7)
    with pytest.raises(RuntimeError, match="meta tensors"):
        by_sorting(losses, count)
