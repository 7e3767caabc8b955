"""The loss: by hand, as published, in several processes, and finite whatever comes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from ocr.models import DBLoss, DBOutput
from ocr.models.loss import Losses
from ocr_precompute.targets.maps import make_targets

GOLDEN = sorted((Path(__file__).parent / "golden").glob("loss_*.npz"))
HEADS = ("prob", "thresh")


def labels(*texts: str, size: int = 32) -> dict[str, Tensor]:
    """One sample each: none, ignored, all, or some text."""
    maps = []
    for text in texts:
        polygons = {
            "none": [],
            "ignored": [[[4, 4], [28, 4], [28, 20], [4, 20]]],
            "all": [[[-90, -90], [122, -90], [122, 122], [-90, 122]]],
            "some": [[[4, 4], [28, 4], [28, 20], [4, 20]]],
        }[text]
        arrays = [np.array(polygon, float) for polygon in polygons]
        recipe = "seed" if text == "all" else "dbnet"  # which would end at the image's border
        maps.append(make_targets(arrays, [text == "ignored"] * len(arrays), size, recipe))
    fields = ("prob", "prob_mask", "thresh", "thresh_mask")
    return {
        field: torch.from_numpy(np.stack([getattr(m, field) for m in maps])) for field in fields
    }


def logits(count: int, size: int = 32, scale: float = 1.0, seed: int = 0) -> DBOutput:
    generator = torch.Generator().manual_seed(seed)
    prob, thresh = torch.randn(2, count, size, size, generator=generator) * scale
    return DBOutput(prob.requires_grad_(), thresh.requires_grad_())


def by_hand(output: DBOutput, truth: dict[str, Tensor], loss: DBLoss) -> float:
    """The loss of one sample, pixel by pixel in plain Python."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    rows = zip(
        output.prob.detach().flatten().tolist(),
        output.thresh.detach().flatten().tolist(),
        *(truth[f].flatten().tolist() for f in ("prob", "prob_mask", "thresh", "thresh_mask")),
        strict=True,
    )
    positive, negative, distance, inside = [], [], 0.0, 0
    both = either = 0.0
    for p, t, text, mask, thresh, near in rows:
        if mask:
            chance = sigmoid(p)
            (positive if text else negative).append(-math.log(chance if text else 1 - chance))
            binary = sigmoid(loss.k * (chance - sigmoid(t)))
            both, either = both + binary * text, either + binary + text
        if near:
            distance, inside = distance + abs(sigmoid(t) - thresh), inside + 1
    count = min(
        len(negative),
        int(loss.negative_ratio * len(positive)) if positive else loss.fallback_negatives,
    )
    chosen = positive + sorted(negative, reverse=True)[:count]
    return (
        loss.prob_weight * sum(chosen) / max(1, len(chosen))
        + loss.thresh_weight * distance / max(1, inside)
        + loss.binary_weight * ((1 - 2 * both / either) if positive else 0.0)
    )


@pytest.mark.parametrize("text", ["none", "ignored", "all", "some"])
def test_the_loss_is_what_it_is_by_hand(text: str) -> None:
    loss = DBLoss(prob_weight=2, fallback_negatives=100)
    output, truth = logits(1), labels(text)
    assert loss(output, truth).total.item() == pytest.approx(by_hand(output, truth, loss), rel=1e-5)


def one_by_one(output: DBOutput, truth: dict[str, Tensor]) -> list[Losses]:
    return [
        DBLoss()(
            DBOutput(*(x[i : i + 1] for x in output)), {k: v[i : i + 1] for k, v in truth.items()}
        )
        for i in range(len(output.prob))
    ]


def test_a_part_of_the_loss_is_the_mean_over_the_samples_that_have_it() -> None:
    kinds = ("none", "ignored", "all", "none", "some")
    output, truth = logits(5), labels(*kinds)
    singles, together = one_by_one(output, truth), DBLoss()(output, truth)
    assert [part.item() == 0 for single in singles for part in single[2:]] == [
        kind in ("none", "ignored") for kind in kinds for _ in range(2)
    ]
    for part, count in (("prob", 5), ("thresh", 2), ("binary", 2)):
        mean = sum(getattr(single, part).item() for single in singles) / count
        assert getattr(together, part).item() == pytest.approx(mean, rel=1e-6)
    weighted = 5 * together.prob + 10 * together.thresh + together.binary
    assert together.total.item() == pytest.approx(weighted.item(), rel=1e-6)


def test_what_is_masked_out_whole_counts_in_no_part() -> None:
    output, truth = logits(2), labels("some", "none")
    truth["prob_mask"][1] = 0
    alone = DBLoss()(DBOutput(*(x[:1] for x in output)), {k: v[:1] for k, v in truth.items()})
    assert DBLoss()(output, truth).total.item() == pytest.approx(alone.total.item(), rel=1e-6)


# Of equal hard negatives, the release's gradient goes to those that its sort takes, by chance.
@pytest.mark.parametrize(("mining", "apart"), [("sort", 1e-4), ("threshold", 0.02)])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_sums_over_a_batch_are_as_published(path: Path, mining: str, apart: float) -> None:
    golden = np.load(path)
    output = DBOutput(
        *(torch.from_numpy(golden[f"{head}_logits"]).float().requires_grad_() for head in HEADS)
    )
    truth = {
        field: torch.from_numpy(np.unpackbits(golden[field], axis=-1))
        for field in ("prob", "prob_mask", "thresh_mask")
    } | {"thresh": torch.from_numpy(golden["thresh"])}
    losses = DBLoss(reduction="batch", mining=mining)(output, truth)  # type: ignore[arg-type]
    losses.total.backward()
    names = ("total", "part_bce_loss", "part_l1_loss", "part_thresh_loss")
    for name, value in zip(names, losses, strict=True):
        assert value.item() == pytest.approx(float(golden[name]), rel=1e-5), name
    for head, x in zip(HEADS, output, strict=True):
        expected = golden[f"grad_{head}"]
        assert x.grad is not None
        assert np.linalg.norm(x.grad.numpy() - expected) <= apart * np.linalg.norm(expected)


def test_golden_losses_are_at_hand() -> None:
    assert len(GOLDEN) == 4


# Two processes' worth. In the last, each has so much text that it takes all other pixels as hard
# negatives: these are chosen in each process, and so would differ from those of one.
BATCHES: dict[str, list[tuple[str, ...]]] = {
    "sample": [("none", "some", "none", "none", "some", "all", "ignored", "some"), ("none",) * 8],
    "batch": [("all", "none", "some", "ignored", "some", "all", "none", "none")],
}


def gradients(rank: int, count: int, folder: Path) -> None:
    """Write the losses and gradients that one of several processes sees."""
    if count > 1:
        place = f"file://{folder}/meeting"
        distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=count)
    seen = []
    for reduction, batches in BATCHES.items():
        for kinds in batches:
            torch.manual_seed(0)
            # in float64, so that only the loss rounds
            network: torch.nn.Module = torch.nn.Conv2d(3, 2, 3, padding=1, dtype=torch.float64)
            images = torch.randn(len(kinds), 3, 32, 32, dtype=torch.float64)
            truth = labels(*kinds)
            share = slice(rank * len(kinds) // count, (rank + 1) * len(kinds) // count)
            if count > 1:
                network = DistributedDataParallel(network)
            output = DBOutput(*network(images[share]).unbind(1))
            loss = DBLoss(reduction=reduction)  # type: ignore[arg-type]
            losses = loss(output, {k: v[share] for k, v in truth.items()})
            losses.total.backward()
            values = torch.stack(losses).detach()
            seen.append(torch.cat([values, *(p.grad.flatten() for p in network.parameters())]))
    torch.save(seen, folder / f"{rank}-of-{count}.pt")
    if count > 1:
        distributed.destroy_process_group()


@pytest.mark.time
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    gradients(0, 1, tmp_path)
    multiprocessing.spawn(gradients, (2, tmp_path), nprocs=2)
    alone, *together = (
        torch.load(tmp_path / f"{name}.pt") for name in ("0-of-1", "0-of-2", "1-of-2")
    )
    for seen in together:
        for expected, values in zip(alone, seen, strict=True):
            assert expected.abs().max() > 0.1
            assert torch.allclose(values, expected, rtol=1e-6, atol=1e-6)


class Reads(TorchDispatchMode):
    """Counts how often a value is read from a tensor, for which a device's queue must run dry."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("reduction", ["sample", "batch"])
@pytest.mark.parametrize(("mining", "times"), [("threshold", 0), ("sort", 1)])
def test_the_device_is_not_waited_for(reduction: str, mining: str, times: int) -> None:
    output, truth = logits(2), labels("none", "some")
    loss = DBLoss(reduction=reduction, mining=mining)  # type: ignore[arg-type]
    with Reads() as reads:
        loss(output, truth).total.backward()
    assert reads.count == times


@pytest.mark.parametrize("kinds", [("none", "none"), ("ignored",), ("all",), ("none", "some")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 60.0])
@pytest.mark.parametrize("reduction", ["sample", "batch"])
def test_the_loss_is_finite_and_differentiable(
    kinds: tuple[str, ...], dtype: torch.dtype, scale: float, reduction: str
) -> None:
    raw = logits(len(kinds), scale=1.0)
    extreme = [torch.where(x.detach() > 0, scale, -scale) if scale > 1 else x.detach() for x in raw]
    output = DBOutput(*(x.to(dtype).requires_grad_() for x in extreme))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = DBLoss(reduction=reduction)(output, labels(*kinds))  # type: ignore[arg-type]
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in losses)
    losses.total.backward()
    for x in output:
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
    if "some" in kinds or "all" in kinds or ("none" in kinds and reduction == "sample"):
        assert output.prob.grad is not None
        assert output.prob.grad.abs().sum() > 0


def test_masked_pixels_do_not_count() -> None:
    truth = labels("ignored", "some")
    output = logits(2)
    with torch.no_grad():
        moved = DBOutput(output.prob.clone(), output.thresh.clone())
        moved.prob[truth["prob_mask"] == 0] += 9
    first, second = DBLoss()(output, truth), DBLoss()(moved, truth)
    assert first.prob.item() == second.prob.item()
    assert first.binary.item() == second.binary.item()
    with torch.no_grad():
        moved.thresh[truth["thresh_mask"] == 0] += 9
    assert DBLoss()(moved, truth).thresh.item() == first.thresh.item()


def test_settings_of_the_loss_are_checked() -> None:
    with pytest.raises(ValueError, match="k is nan; it must be 0 or more"):
        DBLoss(k=math.nan)
    with pytest.raises(ValueError, match="reduction is 'mean'; one of sample, batch"):
        DBLoss(reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mining is 'luck'; one of threshold, sort"):
        DBLoss(mining="luck")  # type: ignore[arg-type]
