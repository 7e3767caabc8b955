"""Polygons matched as CTW1500 and ArT do it: each detection has its best text, and only that one.

Sources: Liu et al. 2017 (arXiv 1712.02170), with the rule of Everingham et al. 2010, The PASCAL
Visual Object Classes Challenge, IJCV 88(2); ICDAR 2019 ArT, task 1, which follows CTW1500.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ocr.metrics.overlap import overlap, shapes
from ocr.metrics.tally import Tally

_LEAST_IOU = 0.5  # a match has more


def ctw1500(
    detected: Sequence[np.ndarray], annotated: Sequence[np.ndarray], ignore: Sequence[bool]
) -> Tally:
    """Texts of one image that are the best of a detection.

    Polygons are (V, 2), xy in the same pixels. The text of a detection is the one with the largest
    intersection over union, if that is above one half. Where it is don't-care, the detection is
    left out. Of several detections of one text one is right, and the others are wrong.
    """
    ignored = np.asarray(ignore, bool)
    pairs = overlap(shapes(annotated), shapes(detected))
    # The best of each detection comes first; of equal ones the first that is annotated.
    order = np.lexsort((pairs.rows, -pairs.iou, pairs.columns))
    _, firsts = np.unique(pairs.columns[order], return_index=True)
    best = order[firsts]
    found = pairs.iou[best] > _LEAST_IOU
    texts = pairs.rows[best][found]
    matched = len(np.unique(texts[~ignored[texts]]))
    left_out = int(np.count_nonzero(ignored[texts]))
    wanted = int(np.count_nonzero(~ignored))
    return Tally(matched, wanted, matched, len(detected) - left_out)
