"""Long series for display: fewer points, every peak kept."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

__all__ = ["thin"]

Array = np.ndarray[Any, Any]


def thin(values: Array, most: int) -> Array:
    """Return the indices of at most about ``most`` values whose line looks like that of all.

    The series is cut into equal pieces; each keeps its smallest and its largest value, so that no peak is lost (every
    k-th value would lose most), and a missing one if it has any, so that a gap stays a gap. The ends are kept.

    >>> thin(np.array([0.0, 0, 9, 0, 0, -5, 0, 0]), 4).tolist()
    [0, 2, 4, 5, 7]
    >>> thin(np.arange(3.0), 4).tolist()
    [0, 1, 2]
    """
    count = len(values)
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, max(most // 2, 1) + 1).astype(int)
    kept = {0, count - 1}
    for start, end in pairwise(edges.tolist()):
        piece = values[start:end]
        missing = np.isnan(piece)
        if missing.any():
            kept.add(int(start + missing.argmax()))
        if not missing.all():
            kept.update((int(start + np.nanargmin(piece)), int(start + np.nanargmax(piece))))
    return np.array(sorted(kept))
