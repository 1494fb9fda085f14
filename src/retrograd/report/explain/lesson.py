"""One short sequence through a small network, and every number of its gradient: what `retrograd explain` tells.

The numbers are those of :func:`retrograd.bptt` and :mod:`retrograd.insight`; only the finite differences that check
them, and the products shown on the way, are made here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from retrograd.errors import InputError, require_choice, require_number
from retrograd.insight import Sweep, lag_parts
from retrograd.report.explain.difference import Difference
from retrograd.rnn.bptt import bptt
from retrograd.rnn.gradients import Gradients

__all__ = ["LOSSES", "Difference", "Lesson", "Walk"]

Array = np.ndarray[Any, Any]

LOSSES = ("final-state", "all-states", "squared-error")
# Gradients g_t = ∂L/∂h_t from a file stand for the loss Σ g_t^T h_t.
GIVEN = "given"
WEIGHTS = ("weight_hh", "weight_ih", "bias", "weight_out", "bias_out")
# Limits of what a reader can take in on a page or in a terminal.
MOST_STEPS, MOST_FEATURES = 12, 4
# Step of a finite difference relative to the number moved: a power of two, which is added without rounding.
STEP = 2.0**-17
# Multiple of its estimated error (curvature or rounding) by which a finite difference may be off.
SLACK = 8.0


@dataclass(frozen=True)
class Walk:
    """All numbers of a lesson: T steps, H states, I inputs, O outputs, float64.

    Attributes:
        loss: L.
        states: h_t, ``(T, H)``.
        previous: h_{t-1}, ``(T, H)``.
        outputs: y_t, ``(T, O)``, or None without an output.
        inputs: x_t as consumed, ``(T, I)``.
        output_gradient: e_t, what L sends straight into y_t, ``(T, O)``; zero where it looks at states. None without
            output.
        output_total: ∂L/∂y_t of y_0 … y_T, ``(T + 1, O)``: e_t, and what comes back from x_{t+1} where y_t became it.
        direct: g_t, what L sends straight into h_t, ``(T, H)``.
        delta: δ_t, ``(T, H)``.
        input_gradient: ∂L/∂x_t = W_ih^T δ_t, ``(T, I)``, of x_t as consumed: of an output fed back too.
        gradients: by name, those of the weights, ``h0`` and ``x`` as given (zero where an output took its place).
        parts: each step's part in the gradient of each weight, ``(T, ...)``.
        lags: the part in ∂L/∂W_hh of step t's loss through lag k, ``(T, T, H, H)``.
        updated: the weights after W ← W − lr ∂L/∂W.
        updated_loss: L with them.
    """

    loss: float
    states: Array
    previous: Array
    outputs: Array | None
    inputs: Array
    output_gradient: Array | None
    output_total: Array | None
    direct: Array
    delta: Array
    input_gradient: Array
    gradients: dict[str, Array]
    parts: dict[str, Array]
    lags: Array
    updated: dict[str, Array]
    updated_loss: float


@dataclass(frozen=True)
class Lesson:
    """A network, a sequence and a loss, small enough to be read.

    Attributes:
        x: ``(T, I)``.
        weight_hh: ``(H, H)``.
        weight_ih: ``(H, I)``.
        bias: ``(H,)``.
        h0: ``(H,)``.
        weight_out: ``(O, H)``, or None: no output.
        bias_out: ``(O,)``, or None.
        feedback: bool ``(T,)``: where the previous output comes in as input.
        loss: one of :data:`LOSSES`, or ``"given"``.
        target: of the squared error, ``(T, O)``.
        start: ∂L/∂h_t of a given loss, ``(T, H)``.
        learning_rate: of the update.

    Examples:
        >>> walk = Lesson.example().walk()
        >>> walk.delta[-1].tolist(), round(walk.loss, 4)
        ([1.0, 1.0], 1.4704)
    """

    x: Array
    weight_hh: Array
    weight_ih: Array
    bias: Array
    h0: Array
    weight_out: Array | None
    bias_out: Array | None
    feedback: Array
    loss: str
    target: Array | None
    start: Array | None
    learning_rate: float

    @classmethod
    def example(cls, *, loss: str | None = None, closed_loop: bool = False, learning_rate: float = 0.05) -> Lesson:
        """Return the built-in lesson: two states, five steps; the output is meant to be the next input.

        W_hh turns a vector and shrinks it by √0.52, so each step back shrinks the gradient by the same part. And no
        number of it, whichever the loss, lies where rounding to the digits shown could go either way.
        """
        arrays = {
            "x": np.array([[1.0], [2.0], [-1.0], [0.5], [1.0]]),
            "weight_hh": np.array([[0.6, -0.4], [0.4, 0.6]]),
            "weight_ih": np.array([[1.0], [0.4]]),
            "bias": np.array([0.0, 0.1]),
            "weight_out": np.array([[0.6, -0.6]]),
            "bias_out": np.array([0.3]),
            "target": np.array([[2.0], [-1.0], [0.5], [1.0], [0.0]]),
        }
        loss = LOSSES[0] if loss is None else loss
        return cls.of_arrays(arrays, "example", loss=loss, closed_loop=closed_loop, learning_rate=learning_rate)

    @classmethod
    def of_arrays(
        cls,
        arrays: Mapping[str, Array],
        source: str,
        *,
        loss: str | None = None,
        closed_loop: bool = False,
        learning_rate: float = 0.05,
    ) -> Lesson:
        """Return the lesson of arrays named as the arguments of :func:`retrograd.bptt`, and ``target``.

        Args:
            arrays: x, weight_hh, weight_ih, and those of the others that there are.
            source: where they come from, for messages.
            loss: one of :data:`LOSSES`; None: as the arrays say (gradients to start from, a target), else the final
                state.
            closed_loop: from the second step on, the previous output comes in as input.
            learning_rate: of the update.

        Raises:
            InputError: the arrays do not fit each other, or are too large to be read.
        """
        require_number("learning_rate", learning_rate, above=0)
        one = {name: _of_one_sequence(name, array, source) for name, array in arrays.items()}
        x, weight_hh = one["x"], one["weight_hh"]
        _require_small(x, weight_hh, one.get("weight_out"), source)
        time, width = len(x), len(weight_hh)
        weight_out = one.get("weight_out")
        if "bias_out" in one and weight_out is None:
            raise InputError(f"{source}: bias_out was given without weight_out: there is no output to add it to")
        target = one.get("target")
        if target is not None:
            _require_target(target, weight_out, time, source)
        kind, start = _loss(one, loss, source, time, width)
        feedback = np.broadcast_to(one.get("feedback", np.array(False)), (time,)).copy()
        if closed_loop:
            if weight_out is None:
                raise InputError(f"closed_loop=True feeds outputs back, and {source} has none: add weight_out")
            feedback = np.arange(time) > 0
        lesson = cls(
            x=x,
            weight_hh=weight_hh,
            weight_ih=one["weight_ih"],
            bias=one.get("bias", np.zeros(width)),
            h0=one.get("h0", np.zeros(width)),
            weight_out=weight_out,
            bias_out=None if weight_out is None else one.get("bias_out", np.zeros(len(weight_out))),
            feedback=feedback,
            loss=kind,
            target=target,
            start=start,
            learning_rate=learning_rate,
        )
        try:
            lesson.backpropagated()
        except (TypeError, ValueError) as error:
            raise InputError(f"{source}: {error}") from None
        return lesson

    def is_fed(self, step: int, feature: int) -> bool:
        """Whether an output takes the place of an input: the number given there is not used."""
        return self.weight_out is not None and bool(self.feedback[step]) and feature < len(self.weight_out)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that are there, by their names in :func:`retrograd.bptt`."""
        named = {name: getattr(self, name) for name in ("x", "h0", *WEIGHTS)}
        return {name: array for name, array in named.items() if array is not None}

    def problem(self) -> dict[str, Any]:
        """Return all arguments of :func:`retrograd.bptt`: the arrays, the feedback and the gradient's start."""
        given: dict[str, Any] = {**self.arrays(), "feedback": self.feedback}
        if self.loss == "squared-error":
            assert self.target is not None
            target = self.target

            def squared_error(outputs: Tensor) -> Tensor:
                return 0.5 * ((outputs - outputs.new_tensor(target)) ** 2).sum()

            given["loss"] = squared_error
        elif self.loss == "all-states":
            given["grad_states"] = np.ones((len(self.x), len(self.weight_hh)))
        elif self.loss == GIVEN:
            given["grad_states"] = self.start
        return given

    def backpropagated(self) -> Gradients[Array]:
        """Return the gradients of the lesson."""
        found: Gradients[Array] = bptt(**self.problem(), contributions=True)
        return found

    def loss_of(self, states: Array, outputs: Array | None) -> float:
        """Return L; where an update was too long it may be infinite, and the lesson shows that."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.loss == "squared-error":
                assert outputs is not None
                assert self.target is not None
                return float(0.5 * ((outputs - self.target) ** 2).sum())
            if self.loss == "final-state":
                return float(states[-1].sum())
            return float(states.sum() if self.start is None else (self.start * states).sum())

    def walk(self) -> Walk:
        """Return all numbers of the lesson."""
        g = self.backpropagated()
        assert g.states is not None
        assert g.inputs is not None
        assert g.delta is not None
        assert g.x is not None
        assert g.contributions is not None
        input_gradient = g.delta @ self.weight_ih
        output_gradient = output_total = None
        if g.outputs is not None:
            squared = self.loss == "squared-error"
            output_gradient = g.outputs - self.target if squared else np.zeros_like(g.outputs)
            output_total = np.concatenate([np.zeros_like(g.outputs[:1]), output_gradient])
            if self.feedback.any():
                output_total[:-1][self.feedback] += input_gradient[self.feedback, : g.outputs.shape[1]]
        sweep = Sweep.of_weights(**self.problem())
        updated = {name: array.copy() for name, array in self.arrays().items() if name in WEIGHTS}
        moved = replace(self, **updated)
        bptt(**moved.problem()).update(lr=self.learning_rate)
        after = moved.backpropagated()
        assert after.states is not None
        names = [name for name in ("h0", "x", *WEIGHTS) if getattr(g, name) is not None]
        return Walk(
            loss=self.loss_of(g.states, g.outputs),
            states=g.states,
            previous=np.concatenate([self.h0[None], g.states[:-1]]),
            outputs=g.outputs,
            inputs=g.inputs,
            output_gradient=output_gradient,
            output_total=output_total,
            direct=sweep.direct[0].numpy(),
            delta=g.delta,
            input_gradient=input_gradient,
            gradients={name: getattr(g, name) for name in names},
            parts={name: g.contributions[name] for name in updated},
            lags=lag_parts(sweep).numpy(),
            updated=updated,
            updated_loss=self.loss_of(after.states, after.outputs),
        )

    def differences(self, walk: Walk) -> Iterator[Difference]:
        """Yield every entry of every gradient beside its central finite difference; not of inputs that are not used."""
        for name, gradient in walk.gradients.items():
            start = self.arrays()[name]
            for index in np.ndindex(*gradient.shape):
                if name == "x" and self.is_fed(*index):
                    continue
                step = STEP * max(1.0, abs(float(start[index])))
                once, rounding = self._difference(name, start, index, step)
                twice, _ = self._difference(name, start, index, 2 * step)
                yield Difference(name, index, float(gradient[index]), once, SLACK * max(abs(twice - once), rounding))

    def _difference(self, name: str, start: Array, index: tuple[int, ...], step: float) -> tuple[float, float]:
        """Return a central difference, and what rounding may make of it: of sums of the numbers on either side."""
        losses, sizes = [], []
        for sign in (1, -1):
            moved = start.copy()
            moved[index] += sign * step
            g: Gradients[Array] = bptt(**{**self.problem(), name: moved})
            assert g.states is not None
            losses.append(self.loss_of(g.states, g.outputs))
            summed = [g.states, g.outputs, np.array(losses[-1]), None if self.start is None else self.start * g.states]
            sizes.append(sum(float(np.abs(array).sum()) for array in summed if array is not None))
        return (losses[0] - losses[1]) / (2 * step), np.finfo(np.float64).eps * max(sizes) / step


def _of_one_sequence(name: str, array: Array, source: str) -> Array:
    """Return an array as float64, without its axis of sequences."""
    if np.iscomplexobj(array):
        raise InputError(f"{source}: {name} is {array.dtype}: explain walks through real numbers")
    batched = {"x": 3, "h0": 2, "grad_states": 3, "grad_final": 2, "target": 3}
    if array.ndim == batched.get(name):
        if len(array) != 1:
            raise InputError(
                f"{source}: {name} has shape {array.shape}, {len(array)} sequences: explain walks through one; "
                f"keep one, such as {name}[:1]"
            )
        array = array[0]
    return array if name == "feedback" else array.astype(np.float64)


def _require_small(x: Array, weight_hh: Array, weight_out: Array | None, source: str) -> None:
    for name, array, ndim in (("x", x, 2), ("weight_hh", weight_hh, 2), ("weight_out", weight_out, 2)):
        if array is not None and (array.ndim != ndim or array.size == 0):
            column = f": one feature a step is {name}[:, None]" if name == "x" and array.ndim == 1 else ""
            raise InputError(f"{source}: {name} has shape {array.shape}, expected a matrix that is not empty{column}")
    sizes = [("steps in x", len(x), MOST_STEPS), ("inputs in x", x.shape[1], MOST_FEATURES)]
    sizes.append(("states in weight_hh", len(weight_hh), MOST_FEATURES))
    if weight_out is not None:
        sizes.append(("outputs in weight_out", len(weight_out), MOST_FEATURES))
    for what, size, most in sizes:
        if size > most:
            raise InputError(
                f"{source} has {size} {what}; explain shows every number, and at most {most} can be read: cut it down, "
                "or take `retrograd grad`, which has no limit"
            )


def _require_target(target: Array, weight_out: Array | None, time: int, source: str) -> None:
    if weight_out is None:
        raise InputError(f"{source}: target was given without weight_out: there is no output to compare with it")
    if target.shape != (time, len(weight_out)):
        raise InputError(
            f"{source}: target has shape {target.shape}, expected (time, outputs) = {(time, len(weight_out))}"
        )


def _loss(one: Mapping[str, Array], loss: str | None, source: str, time: int, width: int) -> tuple[str, Array | None]:
    """Return the kind of loss, and where its gradient starts if that was given."""
    starts = [name for name in ("grad_states", "grad_final") if name in one]
    if loss is not None:
        require_choice("loss", loss, LOSSES)
        if starts:
            raise InputError(f"loss is given, and {source} has {' and '.join(starts)}: the gradient has one start")
        if loss == "squared-error" and "target" not in one:
            raise InputError(f"loss='squared-error' needs what the outputs should be: add target to {source}")
        return loss, None
    if "target" in one:
        if starts:
            raise InputError(
                f"{source} has target and {' and '.join(starts)}: the gradient has one start; keep one of them"
            )
        return "squared-error", None
    if not starts:
        return LOSSES[0], None
    start = np.zeros((time, width))
    for name, part, shape in (("grad_states", start, (time, width)), ("grad_final", start[-1], (width,))):
        if name in one:
            if one[name].shape != shape:
                raise InputError(f"{source}: {name} has shape {one[name].shape}, expected {shape}")
            part += one[name]
    return GIVEN, start
