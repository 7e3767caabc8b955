"""Which pixels without text a loss looks at: the hardest, so many in each row."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 15  # of the 31 bits of a float32 without its sign; two tables of counts are small then


@torch.no_grad()
def by_threshold(losses: Tensor, count: Tensor) -> Tensor:
    """How far each pixel counts among the hardest of its row, float32 (R, P).

    losses: float32 (R, P), from 0 on; below 0 where a pixel may not be taken. count: int64 (R,),
    how many to take, at most as many as may be.

    A row's `count` largest losses count 1 and all others 0. Where several are equal and not all of
    them are among these, they share what is left: 0.25 each, if one of four would be. Which ones a
    sort takes is left to chance; the sum of the losses is the same.

    Floats from 0 on have the order of their bits. So the smallest loss that is taken is found as in
    a radix sort, by counting how often each beginning of its bits occurs, and in the one where it
    lies each end. Nothing is sorted, no shape depends on what is found, and nobody waits for a GPU.
    """
    bits, wanted = losses.contiguous().view(torch.int32), count[:, None]
    high, low = bits >> _LOW, bits & ((1 << _LOW) - 1)
    first, left = _digit(high.clamp(min=0), bits >= 0, 1 << (31 - _LOW), wanted)
    second, left = _digit(low, high == first, 1 << _LOW, left)
    edge = (first << _LOW) | second
    equal = bits == edge
    share = left / equal.sum(1, keepdim=True).clamp(min=1)
    return (bits > edge).float() + equal * share


def _digit(digits: Tensor, counts: Tensor, different: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The digit of the smallest of a row's `wanted` largest, int32 (R, 1), and how many of these
    have that digit.

    digits: int32 (R, P), each below `different`. counts: bool (R, P), whether it is looked at.
    """
    each = torch.zeros(len(digits), different, dtype=torch.int32, device=digits.device)
    each.scatter_add_(1, digits.long(), counts.int())
    from_the_top = each.flip(1).cumsum(1)
    place = (from_the_top < wanted).sum(1, keepdim=True).clamp(max=different - 1)
    digit = different - 1 - place
    above = from_the_top.gather(1, place) - each.gather(1, digit)
    return digit.int(), wanted - above


@torch.no_grad()
def by_sorting(losses: Tensor, count: Tensor) -> Tensor:
    """The same by sorting as many as the row takes that takes most, for which a GPU is waited for.

    Of losses that are equal it takes any.
    """
    most = int(count.max())
    order = losses.topk(most, dim=1).indices
    taken = torch.arange(most, device=losses.device) < count[:, None]
    return torch.zeros_like(losses).scatter_(1, order, taken.float())
