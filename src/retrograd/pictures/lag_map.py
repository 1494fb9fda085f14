"""Where a gradient comes from: a map of shares by source step and lag, and the shares summed by lag."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from retrograd.pictures.curves import Curve
from retrograd.pictures.figures import draw, finished, new_figure
from retrograd.pictures.palette import AGAINST, ALONG, BLACK, NO_SUCH_STEP, diverging

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = ["lag_map", "shares_by_lag"]

Array = np.ndarray[Any, Any]

# Distances between the ticks of an axis of lags.
_ROUND = [digit * 10**zeros for zeros in range(18) for digit in (1, 2, 5)]
_MOST_TICKS = 10
# Smaller shares are white in a map.
FAINTEST = 1e-6


def shares_by_lag(lags: Array, share: Array, title: str) -> Figure:
    """Draw the share of each bin of lags, ``(K,)``; ``lags (K + 1,)`` bounds the bins.

    Examples:
        >>> len(shares_by_lag(np.array([0, 1, 2, 4]), np.array([0.9, 0.2, -0.1]), "Shares").axes)
        1
    """
    figure, axis = new_figure()
    _draw_by_lag(axis, lags, share, sideways=False)
    axis.set_title(textwrap.fill(title, 70))
    return finished(figure)


def lag_map(steps: Array, lags: Array, share: Array, by_lag: Array, title: str) -> Figure:
    """Draw shares by bin of steps and bin of lags, and beside them those of each bin of lags over all steps.

    Args:
        steps: bounds of the bins of steps, counted from 0, ``(N + 1,)``.
        lags: bounds of the bins of lags, ``(K + 1,)``.
        share: ``(N, K)``; NaN where no step of a bin is that many lags after the first.
        by_lag: sums over all steps, ``(K,)``.
        title: of the map.
    """
    figure, (axis, beside) = new_figure(1, 2, width=8.6, height=4.4, sharey=True, width_ratios=(2.6, 1))
    drawn, patches = _draw_map(axis, steps, lags, share)
    axis.set_title(textwrap.fill(title, 50))
    _draw_by_lag(beside, lags, by_lag, sideways=True)
    beside.set(title="Over all steps", ylabel="")
    bar = figure.colorbar(drawn, ax=[axis, beside])
    bar.set_label("share of the gradient in a cell")
    return finished(figure, patches=patches, columns=3)


def _draw_map(axis: Axes, steps: Array, lags: Array, share: Array) -> tuple[Any, list[Patch]]:
    """Draw the heat map; return the mesh for the colour bar and the patches for the legend."""
    from matplotlib.colors import ListedColormap, SymLogNorm
    from matplotlib.patches import Patch

    # Step t, counted from 1, has the lags 0 to t - 1.
    there = lags[None, :-1] < steps[1:, None]
    rows, known = np.arange(len(lags)), np.isfinite(share)
    top = max(float(np.abs(share[known]).max(initial=0)), 10 * FAINTEST)
    axis.pcolormesh(
        steps + 0.5, rows, np.ma.masked_array(np.zeros(share.shape), there).T, cmap=ListedColormap([NO_SUCH_STEP]),
        rasterized=True,
    )  # fmt: skip
    drawn = axis.pcolormesh(
        steps + 0.5, rows, np.ma.masked_array(share, ~known).T, norm=SymLogNorm(FAINTEST, vmin=-top, vmax=top),
        cmap=ListedColormap(diverging(128)), rasterized=True,
    )  # fmt: skip
    patches = [Patch(facecolor="white", edgecolor=BLACK, linewidth=0.5, label=f"0, or less than {FAINTEST:g}")]
    if not there.all():
        patches.append(Patch(facecolor=NO_SUCH_STEP, label="no such step"))
    if (there & ~known).any():
        # Such cells are transparent, so that the hatched background shows.
        axis.patch.set(hatch="xxxx", edgecolor=BLACK, linewidth=0)
        patches.append(Patch(facecolor="white", edgecolor=BLACK, hatch="xxxx", linewidth=0.5, label="not finite"))
    ticks = _lag_ticks(lags)
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set(xlabel="source step t, where the loss enters", ylabel=_lag_label(lags))
    return drawn, patches


def _draw_by_lag(axis: Axes, lags: Array, share: Array, *, sideways: bool) -> None:
    """Draw the size of the share of every bin of lags; colour and marker show its sign."""
    at, size = np.arange(len(share)) + 0.5, np.abs(share)
    curves = [
        (Curve("along the gradient", at, size, left_out=~((share > 0) & (size < np.inf))), ALONG, "o"),
        (Curve("against the gradient", at, size, left_out=~((share < 0) & (size < np.inf))), AGAINST, "D"),
        (Curve("share", at, size, left_out=(size > 0) & (size < np.inf)), BLACK, "o"),
    ]
    scale = draw(axis, curves, "|share of the gradient|", sideways=sideways)
    axis.stairs(
        Curve("", at, size).heights(scale), np.arange(len(lags)), baseline=None, color=BLACK, linewidth=0.6, zorder=1,
        orientation="horizontal" if sideways else "vertical",
    )  # fmt: skip
    if not sideways:
        ticks = _lag_ticks(lags)
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.set(xlabel=_lag_label(lags), xlim=(0, len(lags) - 1))


def _lag_ticks(lags: Array) -> dict[int, str]:
    """Return the ticks of an axis of bins: positions, and the lags that the bins there begin at."""
    bins = len(lags) - 1
    least = -(-bins // _MOST_TICKS)
    step = next(size for size in (_ROUND if _even(lags) else range(least, bins + 1)) if size >= least)
    return {tick: str(lags[tick]) for tick in range(0, bins + 1, step)}


def _lag_label(lags: Array) -> str:
    return "lag k, steps" if _even(lags) else "lag k, steps (not to scale)"


def _even(lags: Array) -> bool:
    """Whether each bin is one lag."""
    return len(lags) == int(lags[-1]) + 1
