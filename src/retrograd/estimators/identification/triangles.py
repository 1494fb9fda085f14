"""Least squares of tall matrices in bounded memory: the triangle of a QR factorisation, from blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["least_squares", "solution", "triangle_of"]

Array = np.ndarray[Any, Any]

# Rows that are factorised at once; four times the columns where these are many.
AT_ONCE = 1 << 12


def triangle_of(blocks: Iterable[Array]) -> Array:
    """Return R, ``(at most k, k)``, of blocks of rows ``(., k)`` that lie one below the other.

    >>> rows = np.arange(12.0).reshape(6, 2)
    >>> R = triangle_of([rows[:4], rows[4:]])
    >>> np.allclose(R.T @ R, rows.T @ rows)
    True
    """
    together: list[Array] = []
    waiting = 0
    for block in blocks:
        step = max(AT_ONCE, 4 * block.shape[1])
        for start in range(0, max(len(block), 1), step):
            together.append(block[start : start + step])
            waiting += len(together[-1])
            if waiting >= step:
                together, waiting = [np.asarray(np.linalg.qr(np.concatenate(together), mode="r"))], 0
    return np.asarray(np.linalg.qr(np.concatenate(together), mode="r"))


def solution(triangle: Array, columns: int) -> Array:
    """Return the shortest x that brings ‖D x − t‖ down, of the triangle of (D, t), D having so many columns."""
    scale = np.linalg.norm(triangle[:, :columns], axis=0)
    scale[scale == 0] = 1.0
    found = np.linalg.lstsq(triangle[:, :columns] / scale, triangle[:, columns:], rcond=1e-10)[0]
    return np.asarray(found / scale[:, None])


def least_squares(design: Array, target: Array) -> Array:
    """Return the least-squares solution of ``design (N, k)`` to ``target (N,)`` or ``(N, p)``, columns scaled alike.

    >>> least_squares(np.array([[1.0], [2.0], [3.0]]), np.array([2.0, 4.0, 6.0]))
    array([2.])
    """
    columns = target.reshape(len(target), -1)
    cuts = [slice(start, start + AT_ONCE) for start in range(0, len(target), AT_ONCE)]
    found = solution(triangle_of(np.concatenate([design[at], columns[at]], axis=1) for at in cuts), design.shape[1])
    return np.asarray(found[:, 0] if target.ndim == 1 else found)
