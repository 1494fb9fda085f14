"""Formulas with matrices, in letters: blocks of lines set side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any

import numpy as np

__all__ = ["DIGITS", "Block", "bound", "bracketed", "matrix", "number", "set_side_by_side", "word"]

Array = np.ndarray[Any, Any]

DIGITS = 4
_ROUNDED = Context(prec=DIGITS, rounding=ROUND_HALF_UP)


def number(value: float) -> str:
    """Return a number to :data:`DIGITS` significant digits, halves rounded away from zero, as the page's script does.

    >>> [number(value) for value in (0.0, -0.0, 0.5, -1234.56, 0.15625, 1 / 3, 2.5e-7, 1e12, float("inf"))]
    ['0', '0', '0.5', '-1235', '0.1563', '0.3333', '2.5e-7', '1e12', 'inf']
    """
    if not np.isfinite(value):
        return str(value)
    rounded = _ROUNDED.create_decimal(Decimal(float(value)))
    if rounded == 0:
        return "0"
    exponent = rounded.adjusted()
    if -4 <= exponent < 6:
        text = f"{rounded:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa = f"{rounded.scaleb(-exponent):f}"
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"


def bound(size: float) -> str:
    """Return the power of ten that a small size does not exceed: of what rounding leaves, no digit can be relied on.

    >>> [bound(size) for size in (0.0, 3.1e-12, 1e-9, 0.02, 700.0, float("inf"))]
    ['0', '1e-11', '1e-9', '0.1', '1000', 'inf']
    """
    return number(size if size == 0 or not np.isfinite(size) else 10.0 ** math.ceil(math.log10(size)))


@dataclass(frozen=True)
class Block:
    """Lines of one width, of which the middle one (the upper of two) stands in the line of the formula."""

    lines: tuple[str, ...]

    @property
    def width(self) -> int:
        """In characters."""
        return len(self.lines[0])

    @property
    def above(self) -> int:
        """Lines above the middle."""
        return (len(self.lines) - 1) // 2


def word(text: str) -> Block:
    """Return a block of one line."""
    return Block((text,))


def matrix(values: Array) -> Block:
    """Return numbers in brackets; a vector is a column.

    >>> print(*matrix(np.array([[1.0, -0.25], [0.0, 12.0]])).lines, sep=chr(10))
    ⎡1 -0.25⎤
    ⎣0    12⎦
    """
    rows = values[:, None] if values.ndim == 1 else values
    return bracketed([[number(value) for value in row] for row in rows])


def bracketed(cells: Sequence[Sequence[str]]) -> Block:
    """Return rows of texts in brackets."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    texts = [" ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    if len(texts) == 1:
        return word(f"[{texts[0]}]")
    sides = ["⎡⎤", *["⎢⎥"] * (len(texts) - 2), "⎣⎦"]
    return Block(tuple(side[0] + text + side[1] for side, text in zip(sides, texts, strict=True)))


def set_side_by_side(start: str, pieces: Sequence[Sequence[Block]], width: int) -> list[str]:
    """Return the lines of a formula: a start, then pieces, each unbroken, with new lines where the width is full.

    >>> a = matrix(np.array([1.0, 2.0]))
    >>> pieces = [[word("="), a], [word("+"), a], [word("="), a]]
    >>> print(*set_side_by_side("y", pieces, 13), sep=chr(10))
    y = ⎡1⎤ + ⎡1⎤
        ⎣2⎦   ⎣2⎦
      = ⎡1⎤
        ⎣2⎦
    """
    indent = " " * len(start)
    rows: list[list[Block]] = [[word(start)]]
    for piece in pieces:
        taken = sum(block.width + 1 for block in rows[-1]) + sum(block.width + 1 for block in piece) - 1
        if taken > width and len(rows[-1]) > 1:
            rows.append([word(indent)])
        rows[-1].extend(piece)
    return [line for row in rows for line in _beside(row)]


def _beside(blocks: Sequence[Block]) -> list[str]:
    above = max(block.above for block in blocks)
    below = max(len(block.lines) - block.above for block in blocks)
    lines = []
    for k in range(-above, below):
        parts = []
        for block in blocks:
            at = block.above + k
            parts.append(block.lines[at] if 0 <= at < len(block.lines) else " " * block.width)
        lines.append(" ".join(parts).rstrip())
    return lines
