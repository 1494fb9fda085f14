"""Configurations by shape: the diagonal's measured on an H100 (docs/gpu.md); never tuned at run time."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch

__all__ = ["GRID", "OPTIONS", "Tiles", "configuration", "steps_of_a_chunk"]

# Programs along all but a grid's first axis, at most.
GRID = 65535
# What every kernel is compiled with. Products and sums are fused, which from Triton 3.10 on must be said, and from 3.9
# on warns where it is not.
OPTIONS = {"enable_fp_fusion": True}


class Tiles(NamedTuple):
    """Tiles of groups x rows steps and some lanes (`tiles.py`); time in chunks of ``length`` steps, 0: whole rows.

    What enters the chunks is told by a launch of ``carry_lanes`` lanes a program; 0: by each chunk's own program.
    """

    groups: int
    rows: int
    lanes: int
    warps: int
    stages: int
    length: int = 0
    carry_chunks: int = 1024
    carry_lanes: int = 1
    carry_warps: int = 8


# Channels from which on whole rows keep an H100's 132 multiprocessors busy, and from which on tiles may be long.
_FEW, _MANY = 2048, 12288
# Programs of chunks, and the steps of a chunk.
_PROGRAMS, _SHORTEST, _LONGEST = 1024, 64, 1024


@cache
def configuration(batch: int, time: int, width: int, dtype: torch.dtype, coded: bool, back: bool) -> Tiles:
    """Return the configuration for a shape; ``coded``: of sequences that are not whole rows."""
    channels = batch * width
    size = dtype.itemsize
    if channels < _FEW and time >= 4 * _SHORTEST:
        length = _SHORTEST
        while time // length >= GRID or (
            length < _LONGEST and -(-channels // 64) * (time // length) > 2 * _PROGRAMS
        ):  # fmt: skip
            length *= 2
        if coded or size > 4:
            return Tiles(1, 4, 32, 1, 1, length)
        # Many short chunks wait for memory: they load further ahead.
        return Tiles(1, 16, 32, 1, 1, length) if length == _SHORTEST else Tiles(1, 8, 64, 1, 1, length)
    if size > 4:  # float64, complex
        return Tiles(4, 4, 32, 2, 2) if channels >= _MANY else Tiles(8, 4, 16, 2, 2)
    if channels >= _MANY:
        if coded or size == 2:
            return Tiles(4, 4 if coded else 8, 32, 1, 4)
        return Tiles(2, 8, 64, 2, 3) if back else Tiles(2, 8, 64, 1, 4)
    if coded:
        return Tiles(16, 4, 16, 2, 3)
    return Tiles(8, 8, 16, 1, 3 if back else 4)


# Of a time-varying dense scan: rows that keep an H100's 132 multiprocessors busy, steps that are worth the launches of
# chunks, and multiplications of one step's products up to which these cost less than the loop's wait for a step.
_ROWS, _STEPS, _PRODUCTS = 128, 256, 1 << 22


def steps_of_a_chunk(batch: int, groups: int, time: int, width: int) -> int:
    """Return the steps C of a chunk of a time-varying dense scan, 2 C² ≤ time; 0: a program walks each row.

    Chunks wait for 2 C + time / C steps one after another, rows for all of them.
    """
    if batch >= _ROWS or time < _STEPS or groups * width**3 > _PRODUCTS:
        return 0
    return 1 << (((time // 2).bit_length() - 1) // 2)
