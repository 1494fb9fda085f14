"""The tables of the lesson as plain text: the parts of the gradient by lag, and the check, with what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from retrograd.norms import norm
from retrograd.report.explain.blocks import bound, number
from retrograd.report.explain.difference import Difference
from retrograd.report.explain.texts import Texts, fill

__all__ = ["LETTERS", "Line", "check_table", "lag_table", "verdict"]

Array = np.ndarray[Any, Any]

LETTERS = {
    "weight_hh": "W_hh",
    "weight_ih": "W_ih",
    "bias": "b",
    "weight_out": "C",
    "bias_out": "c",
    "h0": "h_0",
    "x": "x",
}
INDENT = "  "
# Rounding error of the sum of a gradient's parts, relative to the gradient.
ROUNDING = 64 * np.finfo(np.float64).eps


@dataclass(frozen=True)
class Line:
    """A piece of the text: ``"heading"``, ``"prose"`` (to be wrapped), or ``"formula"``, lines as they are."""

    kind: str
    text: str = ""


def lag_table(lags: Array, gradient: Array, h0: Array, texts: Texts) -> Iterator[Line]:
    """Yield the parts of ∂L/∂W_hh by lag, and what they add up to."""
    by_lag = lags.sum(0)
    largest = float(np.abs(gradient).max())
    finite, last = bool(np.isfinite(by_lag).all() and np.isfinite(largest)), len(by_lag) - 1
    # Scaled, so that squares neither overflow nor vanish.
    along = gradient / largest if finite and largest > 0 else None
    rows = []
    for k, part in enumerate(by_lag):
        share = "–" if along is None else number(float((part / largest * along).sum() / (along**2).sum()))
        rows.append([str(k), number(float(norm(torch.from_numpy(part.ravel())))), share])
    yield from _table([texts.lag, texts.size, texts.share], rows)
    if along is None:
        yield Line("prose", texts.lags_none if finite else texts.lags_broken)
        return
    error = float(np.abs(by_lag.sum(0) - gradient).max())
    said = [fill(texts.lags_sum, error=bound(max(error, ROUNDING * largest)))]
    if not h0.any():
        said.append(fill(texts.lags_start, lag=last))
    yield Line("prose", texts.between.join(said))


def check_table(found: Sequence[Difference], texts: Texts) -> Iterator[Line]:
    """Yield every entry beside its finite difference, and the verdict."""
    rows = [
        [_entry(one), number(one.gradient), number(one.difference), bound(one.allowed), _outcome(one, texts)]
        for one in found
    ]
    header = [texts.entry, texts.by_backpropagation, texts.by_differences, texts.tolerance, texts.outcome]
    yield from _table(header, rows)
    yield Line("prose", verdict(found, texts))


def verdict(found: Sequence[Difference], texts: Texts) -> str:
    """Say how many entries agree with their finite differences, differ, or cannot be checked."""
    agreed = [one for one in found if one.checked and one.agrees]
    failed = [one for one in found if one.checked and not one.agrees]
    said = []
    if agreed:
        text = texts.agree if len(agreed) == len(found) else texts.agree_some
        said.append(fill(text, count=len(agreed), total=len(found), allowed=_accuracy(agreed)))
    if failed:
        largest = number(float(np.max([abs(one.gradient - one.difference) for one in failed])))
        count = {"count": len(failed), "total": len(found)}
        said.append(fill(texts.disagree, **count, largest=largest, allowed=_accuracy(failed)))
    if len(agreed) + len(failed) < len(found):
        said.append(fill(texts.cannot_check, count=len(found) - len(agreed) - len(failed), total=len(found)))
    return texts.between.join(said)


def _accuracy(found: Sequence[Difference]) -> str:
    return bound(max(one.allowed for one in found))


def _entry(one: Difference) -> str:
    """Return the name of an entry, counted from 1: ``W_hh[1,2]``."""
    return f"{LETTERS[one.name]}[{','.join(str(i + 1) for i in one.index)}]"


def _outcome(one: Difference, texts: Texts) -> str:
    if not one.checked:
        return texts.unchecked
    return texts.agrees if one.agrees else texts.differs


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Line]:
    """Yield a table's lines: the first column to the left, numbers to the right."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, *rows]:
        padded = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + padded[0], *(space + cell for space, cell in zip(padded[1:], row[1:], strict=True))]
        yield Line("formula", INDENT + "  ".join(cells).rstrip())
