"""Random lessons of every kind, and their numbers by autograd through a plain loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from retrograd.report.explain import Lesson

Array = np.ndarray[Any, Any]

# loss, closed steps, shapes (T, H, I, O); O = 0: no output.
KINDS = {
    "final, open": ("final-state", [], (4, 2, 1, 1)),
    "final, closed": ("final-state", [1, 2, 3], (4, 2, 1, 1)),
    "no output": (None, [], (5, 3, 2, 0)),
    "all, some closed": ("all-states", [0, 2], (4, 3, 3, 2)),
    "squared, open": ("squared-error", [], (3, 2, 2, 3)),
    "squared, closed": ("squared-error", [1, 2, 4], (5, 3, 2, 1)),
    "given": ("given", [2], (4, 2, 2, 1)),
    "one of each": ("final-state", [], (1, 1, 1, 1)),
    "the largest": ("squared-error", list(range(1, 12)), (12, 4, 4, 4)),
}
# In a browser one of them goes with every test run: it has a closed loop, several outputs and inputs, and y_0.
IN_BROWSER = [pytest.param(kind, marks=() if kind == "all, some closed" else pytest.mark.slow) for kind in KINDS]


def arrays_of(kind: str) -> dict[str, Array]:
    """Return a lesson's arrays as a file holds them."""
    loss, closed, (time, hidden, inputs, outputs) = KINDS[kind]
    source = np.random.default_rng(list(KINDS).index(kind))
    arrays = {
        "x": source.normal(size=(time, inputs)),
        "weight_hh": source.normal(size=(hidden, hidden)) / hidden,
        "weight_ih": source.normal(size=(hidden, inputs)),
        "bias": source.normal(size=hidden),
        "h0": source.normal(size=hidden),
    }
    if outputs:
        arrays |= {"weight_out": source.normal(size=(outputs, hidden)) / 2, "bias_out": source.normal(size=outputs)}
        arrays |= {"feedback": np.isin(np.arange(time), closed)}
        if loss == "squared-error":
            arrays["target"] = source.normal(size=(time, outputs))
    if loss == "given":
        arrays |= {"grad_states": source.normal(size=(time, hidden)), "grad_final": source.normal(size=hidden)}
    return arrays


def lesson_of(kind: str) -> Lesson:
    loss = KINDS[kind][0]
    return Lesson.of_arrays(arrays_of(kind), kind, loss=None if loss == "given" else loss, learning_rate=0.01)


def by_autograd(lesson: Lesson) -> dict[str, Array]:
    """Return L, the states, δ_t, ∂L/∂y_t and all gradients: one step after the other, and torch's autograd."""
    held = {name: torch.tensor(array, requires_grad=True) for name, array in lesson.arrays().items()}
    h, states, outputs = held["h0"], [], []

    def put_out() -> None:
        if "weight_out" in held:
            outputs.append(held["weight_out"] @ h + held["bias_out"])
            outputs[-1].retain_grad()

    put_out()  # y_0
    for k, given in enumerate(held["x"]):
        x = given
        if lesson.feedback[k]:
            x = torch.cat([outputs[k], given[len(outputs[k]) :]])
        h = held["weight_hh"] @ h + held["weight_ih"] @ x + held["bias"]
        h.retain_grad()
        states.append(h)
        put_out()
    if lesson.loss == "final-state":
        loss = h.sum()
    elif lesson.loss == "all-states":
        loss = torch.stack(states).sum()
    elif lesson.loss == "squared-error":
        loss = 0.5 * ((torch.stack(outputs[1:]) - torch.tensor(lesson.target)) ** 2).sum()
    else:
        loss = (torch.tensor(lesson.start) * torch.stack(states)).sum()
    loss.backward()
    found = {name: np.zeros(held[name].shape) if held[name].grad is None else held[name].grad.numpy() for name in held}

    def gradients(tensors: list[torch.Tensor]) -> Array:
        return np.stack([np.zeros(len(one)) if one.grad is None else one.grad.numpy() for one in tensors])

    return {
        **found,
        "loss": np.array(loss.item()),
        "states": torch.stack(states).detach().numpy(),
        "delta": gradients(states),
        **({"outputs": gradients(outputs)} if outputs else {}),
    }
