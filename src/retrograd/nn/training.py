"""Truncated backpropagation through time for any model of this package: parts of a stream, one step, checkpoints.

Plain functions for a plain loop with ``torch.optim``:

    rows = in_rows(text, 32)                                      one long stream as 32 that go on side by side
    states = None
    for x, y, reset in parts(128, rows[:, :-1], rows[:, 1:], begins):
        value, states = train_step(model, optimizer, loss, x, y, states, reset=reset, clip=1.0)

A part's gradient ends at its first step; the states go on from part to part, and a reset begins a new sequence within
one. Where every gradient counts, :func:`retrograd.bptt_chunked` takes a sequence of any length whole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrograd.errors import require_number, require_whole
from retrograd.files import write_whole

__all__ = ["detached", "in_rows", "load_checkpoint", "parts", "save_checkpoint", "train_step"]

States = Any  # a tensor, a tuple of them, or None


def in_rows(stream: Tensor, rows: int) -> Tensor:
    """Cut one long stream into rows that lie side by side; what is left over at its end is left out.

    Args:
        stream: ``(time, ...)``.
        rows: how many.

    Returns:
        ``(rows, time // rows, ...)``; row k goes on where row k - 1 ends.

    Raises:
        InputError: ``rows`` is no whole number from 1 to the stream's length.

    Examples:
        >>> in_rows(torch.arange(7), 2)
        tensor([[0, 1, 2],
                [3, 4, 5]])
    """
    rows = require_whole("rows", rows, most=len(stream))
    steps = len(stream) // rows
    return stream[: rows * steps].reshape(rows, steps, *stream.shape[1:])


def parts(steps: int, *arrays: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Go through arrays ``(batch, time, ...)`` side by side, ``steps`` steps at a time; the last part may be shorter.

    Args:
        steps: of a part.
        *arrays: of one batch and time; None stays None.

    Raises:
        InputError: ``steps`` is no whole number of at least 1.
        ValueError: arrays differ in their batch or time.

    Examples:
        >>> [part.tolist() for part, _ in parts(2, torch.arange(5).view(1, 5), None)]
        [[[0, 1]], [[2, 3]], [[4]]]
    """
    steps = require_whole("steps", steps)
    shapes = {tuple(array.shape[:2]) for array in arrays if array is not None}
    if len(shapes) != 1:
        raise ValueError(f"arrays have (batch, time) of {sorted(shapes)}, expected one (batch, time) for all")
    time = shapes.pop()[1]
    for start in range(0, time, steps):
        yield tuple(array if array is None else array[:, start : start + steps] for array in arrays)


def detached(states: States) -> States:
    """Return states without their history: what a part hands on to the next one."""
    if isinstance(states, Tensor):
        return states.detach()
    return states if states is None else tuple(detached(state) for state in states)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    states: States = None,
    *,
    lengths: Tensor | None = None,
    reset: Tensor | None = None,
    clip: float | None = None,
) -> tuple[float, States]:
    """Take one optimizer step on one part, and return its loss and the states after it, detached.

    Args:
        model: called as ``model(x, states, lengths=, reset=)``, returns ``(outputs, states)``.
        optimizer: of the model's parameters.
        loss: of outputs and y, a single number.
        x: inputs of the part.
        y: what the outputs are to be.
        states: what the part before returned.
        lengths: as of a layer.
        reset: as of a layer.
        clip: largest norm of the gradient of all parameters together; longer ones are scaled down to it.

    Raises:
        InputError: ``clip`` is no number above 0.
        FloatingPointError: the loss is not finite; the parameters are as before.
    """
    optimizer.zero_grad()
    outputs, states = model(x, detached(states), lengths=lengths, reset=reset)
    value = loss(outputs, y)
    if not value.isfinite():
        raise FloatingPointError(f"the loss is {value.item()}: a smaller learning rate or clip= may help")
    value.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(model.parameters(), require_number("clip", clip, above=0))
    optimizer.step()
    return value.item(), detached(states)


def save_checkpoint(
    path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer, states: States = None, **progress: Any
) -> None:
    """Write all that a training needs to go on in the same bits: whole or not at all.

    Args:
        path: of the file, replaced if there is one.
        model: its parameters and buffers.
        optimizer: its state.
        states: of the model, between two parts.
        **progress: numbers, strings and lists of them, as ``epoch=3``; given back by :func:`load_checkpoint`.
    """
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "states": detached(states),
        "random": torch.get_rng_state(),
        "progress": progress,
    }
    written = io.BytesIO()
    torch.save(content, written)
    write_whole(Path(path), written.getvalue())


def load_checkpoint(
    path: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[States, dict[str, Any]]:
    """Put a model, an optimizer and torch's random numbers back to where :func:`save_checkpoint` found them.

    The file is read as data alone (``weights_only``): it cannot run code.

    Returns:
        ``(states, progress)``.

    Raises:
        FileNotFoundError: there is no such file.
        RuntimeError: the model has other parameters.
    """
    content = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    device = next(model.parameters()).device
    return _moved(content["states"], device), content["progress"]


def _moved(states: States, device: torch.device) -> States:
    if isinstance(states, Tensor):
        return states.to(device)
    return states if states is None else tuple(_moved(state, device) for state in states)
