"""What a fit warns of, in plain words: one sentence each, that says what was found and what to try."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from retrograd.estimators.identification.bounds import modes_at
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.search import STABLE_RADIUS, Settings, colour_of
from retrograd.estimators.identification.selection import Selection
from retrograd.estimators.identification.system import predict

__all__ = ["IdentificationWarning", "cautions_of", "runs_worse"]

Array = np.ndarray[Any, Any]

# Lags over which residuals are tested, where there are ten times as many steps.
LAGS = 20
# Standard deviations above what white residuals give, from which they count as not white, ...
SURELY = 6.0
# ... where their own past tells this share of them too: in long data the smallest rest is certain.
WORTH = 0.1
# By how much less RMS an unstable start surely fits better: a chance mode buys a part of what drifts.
HALF = 0.5
# Observed values for each parameter, fewer of which are few.
FEW = 4
# How many times as large errors are elsewhere where a model does not carry over, ...
WORSE = 2.0
# ... if they are this share of the outputs' spread: below it they are small wherever they are.
FELT = 0.3
# Lags up to which errors are held against inputs, and the correlation from which an effect is missed.
LATE = 60
MISSED = 0.3
# Of an input's variance: what a direction of its past has at least where it counts as excited.
EXCITED = 1e-7


class IdentificationWarning(ConvergenceWarning):  # type: ignore[misc]  # scikit-learn is untyped
    """A fit to look at twice: the message says why, and what to try.

    Examples:
        >>> import warnings
        >>> from retrograd.estimators import IdentificationWarning
        >>> warnings.simplefilter("ignore", IdentificationWarning)
    """


def cautions_of(chosen: Selection, data: Experiments, settings: Settings) -> tuple[str, ...]:
    """Return the sentences of a fit.

    Args:
        chosen: what was chosen and fitted.
        data: the experiments, scaled.
        settings: of the estimator.
    """
    fit, system = chosen.fit, chosen.fit.system
    criterion = Criterion(data, settings.burn_in)
    e = criterion.residuals(predict(system, data)[1])
    found = []
    if not fit.converged and settings.optimizer != "adam":
        found.append(f"not converged: {fit.reason}; raise max_iter, try starts=3, or a lower order")
    if settings.stability and len(modes_at(system.A, STABLE_RADIUS)):
        found.append(
            f"stopped at a bound: a mode of A has the size {STABLE_RADIUS:g}, the largest that stability allows; data "
            "with a trend or an integrator may want their differences for outputs, or stability=False"
        )
    elif settings.stability:
        found += _grows(chosen, criterion, criterion.value(e))
    # As Akaike's criterion has it: parameters that say nothing bring the likelihood one nat each.
    gain = criterion.value(criterion.residuals(np.zeros_like(e))) - criterion.value(e)
    if not gain > chosen.search.layout(chosen.order).count():
        found.append(
            "the model is no better than predicting the mean, for as many parameters: are inputs and outputs those of "
            "one system, at the same times? Try other inputs, or another order"
        )
    if chosen.search.noise == "innovations" or system.K.any():
        found += _not_white(e, criterion.counted, data)
    count, seen = chosen.search.layout(chosen.order).count(), int(criterion.counted.sum())
    if seen < FEW * count:
        found.append(
            f"{seen} observed values are few for {count} parameters: predictions of other data may be far off; take a "
            "lower order, or more data"
        )
    if chosen.at_most:
        found.append(f"order {chosen.order} is the largest that was tried, and the best: raise max_order")
    found += _weak_inputs(data, chosen.order)
    found += _uneven(e, criterion.counted, data)
    found += _late(e, data, chosen.order)
    return tuple(found)


def runs_worse(name: str, fitted: Array, errors: Array, held_out: Array, free: Array) -> str | None:
    """Return a sentence where a free run over held-out steps is much worse than over those fitted; None where not.

    Args:
        name: of the output.
        fitted: it over the steps of the fit ``(N,)``; NaN where missing.
        errors: of the free run there.
        held_out: the output over steps after them ``(M,)``.
        free: the free run there.

    >>> y = np.sin(np.arange(100.0))
    >>> runs_worse("y", y, 0.1 * y, y[:50], 0.9 * y[:50]) is None
    True
    >>> runs_worse("y", y, 0.1 * y, y[:50], -y[:50])[:52]
    'the free run of y fits -100 % over the held-out rows'
    """
    seen = np.isfinite(held_out)
    if seen.sum() < 2:
        return None
    spread, own = float(np.nanstd(fitted)), float(held_out[seen].std())
    with np.errstate(over="ignore", invalid="ignore"):
        before = float(np.sqrt(np.nanmean(errors**2)))
        after = float(np.sqrt(np.mean((held_out - free)[seen] ** 2)))
        of_mean = float(np.sqrt(np.mean((held_out[seen] - np.nanmean(fitted)) ** 2)))
    # Written so that a run that goes off is worse.
    carries_over = after <= max(WORSE * before, FELT * max(spread, own))
    says_something = after <= max(of_mean, 0.5 * spread)
    if (carries_over and says_something) or own == 0:
        return None
    return (
        f"the free run of {name} fits {100 * (1 - after / own):.0f} % over the held-out rows, "
        f"{100 * (1 - before / spread):.0f} % over those of the fit (100: exact, 0: no better than a constant): do not "
        "rely on it far ahead; the system may not be linear, may drift, or the held-out rows may lie where no row of "
        "the fit does"
    )


def _uneven(e: Array, counted: Array, data: Experiments) -> list[str]:
    """Return a sentence for every output whose errors surely grow or shrink from the first half to the second."""
    found, middle = [], len(e) // 2
    colour = colour_of(e, data)
    for name, column, seen, y in zip(data.output_names, e.T, counted.T, data.outputs.T, strict=True):
        halves = [column[half][seen[half]] for half in (slice(middle), slice(middle, None))]
        independent = min(map(len, halves)) / colour
        if independent < LAGS or not column.any():
            continue
        sizes = [float(np.sqrt(np.mean(half**2))) for half in halves]
        small, large = sorted(sizes)
        # The logarithm of a variance of n independent values has the variance 2 / n.
        surely = 2 * np.log(large / max(small, 1e-300)) > SURELY * 2 / independent**0.5
        if surely and large > WORSE * small and large > FELT * y[seen].std():
            which, other = ("second", "first") if sizes[1] > sizes[0] else ("first", "second")
            found.append(
                f"the errors of {name} are {large / small:.3g} times as large in the {which} half of the data as in "
                f"the {other}: the system may change, or not be linear; fit the rows that are like those to come, or "
                "logarithms where errors grow with the level"
            )
    return found


def _grows(chosen: Selection, criterion: Criterion, value: float) -> list[str]:
    """Return a sentence where a start with a mode beyond the circle, unrefined, halves the stable fit's error."""
    free = chosen.search.unbounded(chosen.order)
    # A mode that is not on the circle for rounding or chance alone grows severalfold over the data.
    if free is None or not free.radius() > np.exp(1 / max(criterion.data.lengths)):
        return []
    gain = value - criterion.value(criterion.residuals(predict(free, criterion.data)[1]))
    if not gain > -np.log(HALF) * criterion.counted.sum():
        return []
    return [
        f"the data grow: the subspace estimate has a mode of size {free.radius():.4g}, and leaves less than half "
        "the error of the model, whose modes are kept within the unit circle; try stability=False"
    ]


def _not_white(e: Array, counted: Array, data: Experiments) -> list[str]:
    found = []
    for name, column, seen in zip(data.output_names, e.T, counted.T, strict=True):
        count, lags = int(seen.sum()), min(LAGS, int(seen.sum()) // 10)
        if lags < 1 or not column.any():
            continue
        rho = np.zeros(lags)
        for part in data.split(column):
            for lag in range(1, min(lags, len(part) - 1) + 1):
                rho[lag - 1] += part[lag:] @ part[:-lag]
        squared = (rho / (column @ column)) ** 2
        # N Σ ρ² has mean L and variance 2 L where the residuals are white (Box and Pierce 1970).
        surely = (count * squared.sum() - lags) / (2 * lags) ** 0.5 > SURELY
        if surely and squared.sum() > WORTH:
            lag = int(squared.argmax()) + 1
            found.append(
                f"the residuals of {name} are not white: most of all they repeat after {lag} step{'s'[: lag > 1]}; try "
                "a higher order, or inputs that say what comes then"
            )
    return found


def _late(e: Array, data: Experiments, order: int) -> list[str]:
    """Return a sentence for every output whose errors follow an input of more steps before than the order holds."""
    lags = min(LATE, max(data.lengths) // 4)
    u = data.inputs - data.inputs.mean(axis=0)
    if not data.inputs.shape[1] or lags <= order:
        return []

    def products(left: Array, right: Array) -> Array:
        """Return Σ_t left_t right_{t−lag}ᵀ of lags 0, 1, …: of all columns with all."""
        parts = list(zip(data.split(left), data.split(right), strict=True))
        return np.array([sum(a[lag:].T @ b[: len(b) - lag] for a, b in parts) for lag in range(lags + 1)])

    of_e, of_u = (np.diagonal(products(x, x), axis1=1, axis2=2) for x in (e, u))
    with np.errstate(divide="ignore", invalid="ignore"):
        together = np.nan_to_num(products(e, u) / np.sqrt(of_e[0][:, None] * of_u[0]))
        # Ljung 1999, equation (16.67): the variance where residual and input are both slow.
        own = np.nan_to_num(np.einsum("lq,lm->qm", of_e[1:] / of_e[0], of_u[1:] / of_u[0]))
    band = SURELY * np.sqrt(np.maximum(1 + 2 * own, 1) / len(e))
    found = []
    for q, name in enumerate(data.output_names):
        late = np.abs(together[order + 1 :, q])
        lag, k = np.unravel_index(int(late.argmax()), late.shape)
        felt = of_e[0, q] > FELT**2 * float(np.sum(data.outputs[data.observed[:, q], q] ** 2))
        if felt and late[lag, k] > max(MISSED, float(band[q, k])):
            first = order + 1 + int(np.flatnonzero(late[:, k] > late[lag, k] / 2)[0])
            found.append(
                f"the errors of {name} follow input {data.input_names[k]} of {first} steps before, later than the "
                f"order {order} holds: if it acts with a delay, give it shifted by about so many steps"
            )
    return found


def _weak_inputs(data: Experiments, order: int) -> list[str]:
    """Return a sentence for every input whose past has too few directions to tell ``order`` modes and zeros."""
    wanted, found = 2 * order + 1, []
    for name, column in zip(data.input_names, data.inputs.T, strict=True):
        pieces = [part for part in data.split(column - column.mean()) if len(part) >= 2 * wanted]
        if not pieces:
            continue
        rows = np.concatenate([np.lib.stride_tricks.sliding_window_view(part, wanted) for part in pieces])
        values = np.linalg.eigvalsh(rows.T @ rows / len(rows))
        excited = int((values > EXCITED * values[-1]).sum())
        if excited < wanted:
            found.append(
                f"input {name} is weakly exciting: its past moves in {excited} directions (a sine in 2), and order "
                f"{order} asks for {wanted}; poles may be wrong: take a lower order, or excite with steps or noise"
            )
    return found
