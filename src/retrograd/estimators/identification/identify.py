"""The way from experiments to an identified system: check, scale, choose the order, start, refine, scale back."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from retrograd.errors import InputError, require_choice, require_number, require_whole
from retrograd.estimators.identification.bounds import modes_at
from retrograd.estimators.identification.cautions import cautions_of
from retrograd.estimators.identification.criterion import Criterion
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.identified import Identified
from retrograd.estimators.identification.kalman import filter_of
from retrograd.estimators.identification.search import STABLE_RADIUS, Settings, layout_of
from retrograd.estimators.identification.selection import Selection, select
from retrograd.estimators.identification.sensitivity import initial_states
from retrograd.estimators.identification.system import (
    final_state,
    predict,
    root_of,
    tensors,
    with_unit_states,
)
from retrograd.estimators.threads import threads_for

__all__ = ["NOISES", "OPTIMIZERS", "STARTS_OF_STATE", "identify"]

Array = np.ndarray[Any, Any]

NOISES = ("auto", "output-error", "innovations")
STARTS_OF_STATE = ("estimate", "zero")
OPTIMIZERS = ("auto", "lm", "lbfgs", "adam")
# Fall of Schwarz's criterion that leaves no doubt (Kass and Raftery 1995: very strong evidence).
SURELY = 10.0
# Values beyond it, or below its inverse, have covariances that float64 cannot hold.
_LARGEST = 1e150


def identify(data: Experiments, settings: Settings) -> Identified:
    """Identify a system.

    Raises:
        InputError: the data cannot be used, or do not allow the order.
    """
    _check_settings(settings)
    _check(data, settings)
    # The matrices are small, and so are pieces of a Jacobian: waking threads for each product takes several times as
    # long as the product.
    with threadpool_limits(1, user_api="blas"), threads_for(0):
        return _identify(data, settings)


def _identify(data: Experiments, settings: Settings) -> Identified:
    u_scale, y_scale = _spread(data.inputs, np.ones_like(data.inputs, dtype=bool)), _spread(data.outputs, data.observed)
    # In units of the outputs' own spread, around their means: tolerances mean the same for every data set.
    mean = np.array([data.outputs[seen, k].mean() for k, seen in enumerate(data.observed.T)])
    centred = replace(data, outputs=np.where(data.observed, data.outputs - mean, 0.0))
    scaled = centred.scaled(u_scale, y_scale)
    train, held_out = _split(scaled, settings.validation)
    chosen, settings = _grown(train, settings, held_out)
    fit, order = chosen.fit, chosen.order
    system = fit.system
    if settings.validation and settings.x0 == "estimate":
        # So far x0 is that of the training parts; the whole is judged from here on.
        system = initial_states(system, scaled)
    system = with_unit_states(system, scaled).rescaled(u_scale, y_scale)
    system = replace(system, offset=system.offset + mean)
    states, predicted = predict(system, data)
    criterion = Criterion(data, settings.burn_in)
    # Each output pays for its share of the parameters with degrees of freedom.
    counted = criterion.counted.sum(axis=0).mean()
    noise = "innovations" if system.K.any() else chosen.search.noise
    free = max(counted - layout_of(settings, order, data, chosen.search.noise).count() / data.outputs.shape[1], 1.0)
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
        singular_values=chosen.search.singular_values(order),
        order_criteria=chosen.criteria,
        history=fit.history,
        converged=fit.converged,
        stop_reason=fit.reason,
        sample_time=settings.sample_time,
        axis=data.time_axis,
        noise=noise,
        reasons=chosen.reasons,
        cautions=cautions_of(chosen, train, settings),
    )


def _grown(data: Experiments, settings: Settings, held_out: Experiments | None) -> tuple[Selection, Settings]:
    """Return what is chosen, and the settings with ``stability`` decided.

    A series that grows drives the modes of a stable model to their bound. Then modes may go beyond the circle, and do
    where one of them grows by more than chance over the data, and Schwarz's criterion says so beyond doubt.
    """
    stable, free = copy(settings), copy(settings)
    stable.stability, free.stability = settings.stability is not False, False
    chosen = select(data, stable if settings.stability else free, held_out)
    if settings.stability != "auto":
        return chosen, stable if settings.stability else free
    at_bound = len(modes_at(chosen.fit.system.A, STABLE_RADIUS)) > 0
    if not at_bound or settings.order != "auto" or data.inputs.shape[1]:
        return chosen, stable
    try:
        other = select(data, free, held_out)
    except InputError:
        return chosen, stable
    size = other.fit.system.radius()
    gain = chosen.criteria[chosen.order][1] - other.criteria[other.order][1]
    if not (size > np.exp(1 / max(data.lengths)) and gain > SURELY):
        return chosen, stable
    tenfold = np.log(10) / np.log(size)
    grows = (
        f"The data grow: a mode of size {size:.4g}, beyond the unit circle, makes the BIC lower by {gain:.0f} than "
        f"with all modes within it (stability=True); forecasts go on growing, tenfold in {tenfold:.0f} steps."
    )
    return replace(other, reasons=(*other.reasons, grows)), free


def _check_settings(settings: Settings) -> None:
    require_choice("noise", settings.noise, NOISES)
    require_choice("x0", settings.x0, STARTS_OF_STATE)
    require_choice("optimizer", settings.optimizer, OPTIMIZERS)
    if not isinstance(settings.stability, bool):
        require_choice("stability", settings.stability, ("auto",))
    if settings.order != "auto":
        if isinstance(settings.order, str):
            raise InputError(f"order is {settings.order!r}, expected a whole number of at least 1, or 'auto'")
        require_whole("order", settings.order)
    for name, least in (("max_order", 1), ("max_iter", 1), ("starts", 1), ("burn_in", 0)):
        if name != "max_order" or settings.max_order is not None:
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
        # With "auto" the one with fewer parameters has to do.
        noise = (
            settings.noise if settings.noise != "auto" else ("output-error" if data.inputs.shape[1] else "innovations")
        )
        layout = layout_of(settings, int(settings.order), data, noise)
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
