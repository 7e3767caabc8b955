"""Which pixels without text a loss looks at: the hardest, so many in each row."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 15  # of the 31 bits of a float32 without its sign; two tables of counts are small then


@torch.no_grad()
def by_threshold(losses: Tensor, count: Tensor) -> Tensor:
    """Whether a pixel is one of the hardest of its row, bool (R, P); of equal ones the first are.

    losses: float32 (R, P), from 0 on; below 0 where a pixel may not be taken. count: int64 (R,),
    how many to take, at most as many as may be.

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
    return (bits > edge) | (equal & (equal.cumsum(1, dtype=torch.int32) <= left))


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
    """The same, but of equal ones it is left to chance which; as the authors' release does it.

    It sorts out as many as the row takes that takes most, for which a GPU is waited for.
    """
    most = int(count.max())
    order = losses.topk(most, dim=1).indices
    taken = torch.arange(most, device=losses.device) < count[:, None]
    return torch.zeros_like(losses, dtype=torch.bool).scatter_(1, order, taken)
