"""The way from experiments to an identified system: check, scale, choose the order, start, refine, scale back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from retrograd.errors import InputError, require_choice, require_number, require_whole
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.identified import Identified
from retrograd.estimators.identification.kalman import filter_of
from retrograd.estimators.identification.prediction_error import Fit, Refinement
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.starts import extended, start_systems, subspace_of
from retrograd.estimators.identification.system import (
    Layout,
    final_state,
    predict,
    root_of,
    tensors,
    with_unit_states,
)

__all__ = ["NOISES", "OPTIMIZERS", "STARTS_OF_STATE", "Settings", "identify", "layout_of"]

Array = np.ndarray[Any, Any]

NOISES = ("output-error", "innovations")
STARTS_OF_STATE = ("estimate", "zero")
OPTIMIZERS = ("auto", "lm", "lbfgs", "adam")
# Values beyond it, or below its inverse, have covariances that float64 cannot hold.
_LARGEST = 1e150
# Spectral radius that stability=True keeps.
STABLE_RADIUS = 0.9999
# A Jacobian of more bytes than this is not "small": L-BFGS instead of Levenberg-Marquardt.
MOST_JACOBIAN_BYTES = 256 << 20
# Iterations that rank an order: most of the way from a subspace start.
ORDER_ITERATIONS = 15
# An innovations fit of so little work, steps · outputs · order, looks at every lower order's fit too.
LITTLE_WORK = 1 << 14
# Below so many numbers in a Jacobian, waking a second thread takes longer than what it does.
ONE_THREAD = 1 << 20


class Settings(Protocol):
    """What of :class:`retrograd.estimators.StateSpace`'s parameters is read here."""

    order: int | str
    max_order: int
    noise: str
    x0: str
    burn_in: int
    feedthrough: bool
    stability: bool
    optimizer: str
    max_iter: int
    tol: float
    ridge: float
    starts: int
    validation: float
    sample_time: float
    random_state: int | None


def identify(data: Experiments, settings: Settings) -> Identified:
    """Identify a system.

    Raises:
        InputError: the data cannot be used, or do not allow the order.
    """
    _check_settings(settings)
    _check(data, settings)
    # The matrices are small, and waking threads for each product takes several times as long as the product.
    with threadpool_limits(1, user_api="blas"), _threads(data, settings):
        return _identify(data, settings)


@contextmanager
def _threads(data: Experiments, settings: Settings) -> Iterator[None]:
    """Run scans of little work on one thread."""
    order = settings.max_order if settings.order == "auto" else int(settings.order)
    before = torch.get_num_threads()
    width = order * (order + data.inputs.shape[1] + data.outputs.shape[1] + 1)
    if before == 1 or data.outputs.size * width > ONE_THREAD:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _identify(data: Experiments, settings: Settings) -> Identified:
    u_scale, y_scale = _spread(data.inputs, np.ones_like(data.inputs, dtype=bool)), _spread(data.outputs, data.observed)
    # In units of the outputs' own spread, around their means: tolerances mean the same for every data set.
    mean = np.array([data.outputs[seen, k].mean() for k, seen in enumerate(data.observed.T)])
    centred = replace(data, outputs=np.where(data.observed, data.outputs - mean, 0.0))
    scaled = centred.scaled(u_scale, y_scale)
    criteria: dict[int, tuple[float, float]] = {}
    if settings.order == "auto":
        order, criteria = _best_order(scaled, settings)
    else:
        order = int(settings.order)
    fit = _best_fit(scaled, settings, order)

    system = fit.system
    if settings.validation and settings.x0 == "estimate":
        # So far x0 is that of the training parts; the whole is judged from here on.
        system = initial_states(system, scaled)
    system = with_unit_states(system, scaled).rescaled(u_scale, y_scale)
    system = replace(system, offset=system.offset + mean)
    states, predicted = predict(system, data)
    criterion = Criterion(data, 0.0, settings.burn_in)
    # Each output pays for its share of the parameters with degrees of freedom.
    counted = criterion.counted.sum(axis=0).mean()
    free = max(counted - layout_of(settings, order, data).count() / data.outputs.shape[1], 1.0)
    if system.root is None:
        covariance = criterion.covariance(criterion.residuals(predicted))
    else:
        covariance = system.root @ system.root.T
    covariance = np.asarray(covariance * counted / free)
    system = replace(system, root=root_of(covariance))
    return Identified(
        system=system,
        input_names=data.input_names,
        output_names=data.output_names,
        innovation_covariance=covariance,
        final_state=final_state(system, data, states)[-1],
        final_covariance=None if data.complete else filter_of(tensors(system), data).final.numpy()[-1],
        singular_values=subspace_of(scaled, order).singular_values,
        order_criteria=criteria,
        history=fit.history,
        converged=fit.converged,
        stop_reason=fit.reason,
        sample_time=settings.sample_time,
        axis=data.time_axis,
    )


def layout_of(settings: Settings, order: int, data: Experiments) -> Layout:
    """Return which parameters are free."""
    return Layout(
        order,
        data.inputs.shape[1],
        data.outputs.shape[1],
        len(data.lengths),
        feedthrough=settings.feedthrough and data.inputs.shape[1] > 0,
        innovations=settings.noise == "innovations",
        free_x0=settings.x0 == "estimate",
    )


def _check_settings(settings: Settings) -> None:
    require_choice("noise", settings.noise, NOISES)
    require_choice("x0", settings.x0, STARTS_OF_STATE)
    require_choice("optimizer", settings.optimizer, OPTIMIZERS)
    if settings.order != "auto":
        if isinstance(settings.order, str):
            raise InputError(f"order is {settings.order!r}, expected a whole number of at least 1, or 'auto'")
        require_whole("order", settings.order)
    for name, least in (("max_order", 1), ("max_iter", 1), ("starts", 1), ("burn_in", 0)):
        require_whole(name, getattr(settings, name), least)
    for name in ("tol", "ridge"):
        require_number(name, getattr(settings, name), least=0)
    require_number("validation", settings.validation, least=0, below=1)
    require_number("sample_time", settings.sample_time, above=0)


def _check(data: Experiments, settings: Settings) -> None:
    for k, name in enumerate(data.output_names):
        seen = data.outputs[data.observed[:, k], k]
        if len(seen) == 0:
            raise InputError(f"output {name} is missing at every step: leave it out")
        _require_size(f"output {name}", seen)
        if (seen == seen[0]).all():
            raise InputError(f"output {name} is constant ({seen[0]:g}): there is nothing to identify; leave it out")
    for k, name in enumerate(data.input_names):
        column = data.inputs[:, k]
        _require_size(f"input {name}", column)
        if (column == column[0]).all():
            raise InputError(
                f"input {name} is constant ({column[0]:g}): its effect cannot be told from the offset; leave it out"
            )
    if data.inputs.shape[1] > 1:
        centred = (data.inputs - data.inputs.mean(axis=0)) / data.inputs.std(axis=0)
        values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
        if values[0] < 1e-10:
            which = [data.input_names[k] for k in np.flatnonzero(np.abs(vectors[:, 0]) > 1e-3)]
            raise InputError(
                f"inputs {', '.join(which)} are collinear (one is a combination of the others, smallest eigenvalue "
                f"of their correlation {max(values[0], 0):.1e}): their effects cannot be told apart; leave one out"
            )
    if min(data.lengths) <= settings.burn_in:
        raise InputError(f"burn_in is {settings.burn_in}, the shortest experiment has {min(data.lengths)} steps")
    if settings.order != "auto":
        layout = layout_of(settings, int(settings.order), data)
        free, seen_count = layout.count(), int(data.observed.sum())
        if seen_count <= free:
            raise InputError(
                f"order {settings.order} has {free} parameters, the data {seen_count} observed outputs: give more than "
                f"{free}, or take a lower order"
            )


def _require_size(name: str, values: Array) -> None:
    """Raise where squares of the values leave the range of float64."""
    size = float(np.abs(values).max())
    if size > _LARGEST or 0 < size < 1 / _LARGEST:
        raise InputError(f"{name} has values up to {size:.1e}, whose squares float64 cannot hold: give it another unit")


def _spread(values: Array, there: Array) -> Array:
    """Return each column's standard deviation, ``(columns,)``."""
    return np.array([column[seen].std() for column, seen in zip(values.T, there.T, strict=True)])


def _refinement(settings: Settings, layout: Layout, data: Experiments) -> Refinement:
    return Refinement(
        Criterion(data, settings.ridge, settings.burn_in),
        replace(layout, free_root=layout.innovations and not data.complete),
        radius=STABLE_RADIUS if settings.stability else None,
        iterations=settings.max_iter,
        tolerance=settings.tol,
    )


def _best_order(data: Experiments, settings: Settings) -> tuple[int, dict[int, tuple[float, float]]]:
    """Return the order with the lowest BIC, and ``{order: (AIC, BIC)}`` of all that the data allow.

    Each is a subspace start and a short refinement: enough to rank orders.
    """
    found: dict[int, tuple[float, float]] = {}
    refused: InputError | None = None
    below: Fit | None = None
    for order in range(1, settings.max_order + 1):
        layout = layout_of(settings, order, data)
        if data.observed.sum() <= layout.count():
            break
        try:
            start = start_systems(data, layout, 1, stable=settings.stability)[0]
        except InputError as error:
            refused = error
            break
        refinement = _refinement(settings, layout, data)
        refinement.iterations = min(settings.max_iter, ORDER_ITERATIONS)
        fit = refinement.run(start, "lm")
        if below is not None and not fit.value <= below.value:
            fit = refinement.run(extended(below.system, layout, data), "lm")
        below, value = fit, fit.value
        p, steps = layout.outputs, int(data.observed.any(axis=1).sum())
        free = layout.count() + p * (p + 1) // 2
        found[order] = (2 * value * steps + 2 * free, 2 * value * steps + float(np.log(steps)) * free)
    if not found:
        raise refused or InputError(f"{int(data.observed.sum())} observed outputs are too few for a model of order 1")
    return min(found, key=lambda order: found[order][1]), found


def _best_fit(data: Experiments, settings: Settings, order: int) -> Fit:
    train, held_out = _split(data, settings.validation)
    layout = layout_of(settings, order, train)
    refinement = _refinement(settings, layout, train)
    if held_out is not None:
        refinement.validation = Criterion(held_out, 0.0, settings.burn_in)
    count = sum(int(np.prod(shape)) for shape in layout.shapes().values())
    small = 8 * train.outputs.size * count <= MOST_JACOBIAN_BYTES
    optimizer = ("lm" if small else "lbfgs") if settings.optimizer == "auto" else settings.optimizer
    starts = start_systems(train, layout, settings.starts, stable=settings.stability, seed=settings.random_state)
    fits = [refinement.run(start, optimizer) for start in starts]
    best = min(fits, key=lambda fit: fit.judged)
    little = data.complete and train.outputs.size * order <= LITTLE_WORK
    if layout.innovations and order > 1 and held_out is None and little:
        below = _best_fit(data, settings, order - 1)
        # Written so that a fit that is not a number loses.
        if not best.value <= below.value:
            best = refinement.run(extended(below.system, layout, train), optimizer)
    if not np.isfinite(best.value):
        raise InputError(
            f"order {order} could not be fitted: every start runs off (unstable predictions); try stability=True, a "
            "lower order, or noise='output-error'"
        )
    return best


def _split(data: Experiments, validation: float) -> tuple[Experiments, Experiments | None]:
    if not validation:
        return data, None
    pieces = [
        (start, start + round(length * (1 - validation)), start + length)
        for start, length in zip(data.starts.tolist(), data.lengths, strict=True)
    ]
    for start, cut, end in pieces:
        if cut - start < 2 or end - cut < 1:
            raise InputError(
                f"validation={validation} cuts an experiment of {end - start} steps into {cut - start} and "
                f"{end - cut}: give longer experiments, or another fraction"
            )
    return (
        data.part([(start, cut) for start, cut, _ in pieces]),
        data.part([(cut, end) for _, cut, end in pieces]),
    )
