"""How does the gradient flow through the recurrent layers of any torch model, while it trains?"""

from __future__ import annotations

import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retrograd.errors import InputError, near_names, require_whole
from retrograd.insight.recorder.record import Record, binned, log, tensorboard
from retrograd.insight.recorder.replay import LAYERS
from retrograd.insight.recorder.watch import (
    CELLS,
    Call,
    Found,
    Gradients,
    Hook,
    LayerCall,
    Loops,
    OutputCall,
    parametrized,
    places,
    tensors,
)
from retrograd.norms import norm

__all__ = ["Record", "Recorder"]


class Recorder:
    """Records, for every backward pass, the size of the gradient at each step of each recurrent layer.

    It finds ``nn.RNN``, ``nn.LSTM``, ``nn.GRU``, :class:`retrograd.nn.LinearRNN` and :class:`retrograd.nn.StateSpace`
    in the model, and their cells, which you call in a loop of your own. A hook on the state of a cell sees the whole
    gradient δ_t = dL/dh_t. A hook on the output of a layer sees g_t, the gradient that arrives there. For the gradient
    through later steps, which stays inside, the recorder propagates once more through the input, the weights and the
    states that the layer had (`replay.py`), at the cost of about one more backward pass; ``every`` spaces that out. If
    it cannot get the same numbers, the record has g_t alone and its ``note`` the reason.

    The training stays as it is: gradients are the same bits with and without a recorder. If the recorder itself fails,
    it warns, once for each kind of failure, and the training goes on (``notes``). The input and output of a layer are
    kept alive until the backward pass, also inside a checkpoint. A copy of the model, or a pickle, is not recorded.

    Hooks see no layer inside ``torch.compile(fullgraph=True)`` or ``torch.func``; otherwise a compiled model breaks its
    graph at them. Every backward pass makes a record, also for accumulated gradients and through the same graph again;
    a reentrant checkpoint is a backward pass of its own.

    Args:
        model: a module, or one of the layers itself.
        every: records each ``every``-th backward pass through the model, with all calls in it.
        history: how many records are kept; older ones are dropped.
        steps: the largest number of bins for the norms of a record.
        outputs: more modules by name, each with the axis of time in its output, of which g_t is recorded.
        optimizer: the optimizer whose steps are recorded, with the norm of all gradients (:meth:`clip_threshold`).
        scaler: the ``torch.amp.GradScaler`` that scales the loss; its scale is divided out of every record. Without it
            δ_t, g_t and ``unclipped_norms`` are those of the scaled loss.
        writer: a ``torch.utils.tensorboard.SummaryWriter``, anything with its ``add_scalar`` and ``add_histogram``, or
            a folder to log into.

    Attributes:
        records: the newest ``history`` records, oldest first.
        gradient_norms: norm of all gradients at the newest ``history`` optimizer steps, after clipping and unscaling.
        unclipped_norms: the same as the backward pass before each step left them.
        notes: failures of the recorder and hints, by kind.

    Raises:
        TypeError: the model is no module.
        InputError: it has no recurrent layer, a name in ``outputs`` is unknown, or a number is below 1.
        ModuleNotFoundError: a folder to log into, and no tensorboard.

    Examples:
        >>> model = nn.LSTM(3, 8, batch_first=True)
        >>> with Recorder(model) as recorder:
        ...     model(torch.randn(4, 20, 3))[0][:, -1].sum().backward()
        >>> record, = recorder.records
        >>> record.delta_norm.shape, record.direct_norm.nonzero()[0].tolist()
        ((20,), [19])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        every: int = 1,
        history: int = 1000,
        steps: int = 512,
        outputs: Mapping[str, int] | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: Any = None,
        writer: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is {type(model).__name__}, expected a torch.nn.Module")
        for name, value in (("every", every), ("history", history), ("steps", steps)):
            require_whole(name, value)
        self.records: deque[Record] = deque(maxlen=history)
        self.gradient_norms: deque[float] = deque(maxlen=history)
        self.unclipped_norms: deque[float] = deque(maxlen=history)
        self.notes: dict[str, str] = {}
        self._every, self._steps = every, steps
        self._passes = 0
        # By the engine's number of the pass. The engine holds the values, and drops them also if the pass fails.
        self._open: weakref.WeakValueDictionary[int, _Backward] = weakref.WeakValueDictionary()
        self._scaler = scaler
        self._updates = 0
        self._unclipped: float | None = None
        modules = dict(model.named_modules())
        for name in outputs or {}:
            if name not in modules:
                raise InputError(f"outputs names {name!r}: {near_names(name, modules)}")
        found = {name: module for name, module in modules.items() if isinstance(module, (*LAYERS, *CELLS))}
        if not found and not outputs:
            raise InputError(
                "the model has no nn.RNN, nn.LSTM, nn.GRU, LinearRNN, StateSpace, and no cell of theirs: name others "
                "in outputs="
            )
        self._writer, self._owned = tensorboard(writer)
        self._handles: list[Any] = []
        for name, module in found.items():
            self._watch(name or type(model).__name__, module)
        for name, axis in (outputs or {}).items():
            self._hook(modules[name], partial(self._see_output, name, axis))
        # The optimizer holds the recorder by its hook: a reference back would be a cycle.
        self._optimizer = None if optimizer is None else weakref.ref(optimizer)
        if optimizer is not None:
            self._handles.append(optimizer.register_step_pre_hook(self._note_step))

    def __enter__(self) -> Recorder:
        """Return the recorder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the hooks off."""
        self.close()

    def close(self) -> None:
        """Take all hooks off, and close a writer made here; the records stay."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._owned:
            with self._guard("closing the writer"):
                self._writer.close()
            self._writer, self._owned = None, False

    def clip_threshold(self, quantile: float = 0.9) -> float:
        """Return the quantile of the gradient's length, before any clipping, over the recorded steps.

        Raises:
            InputError: fewer than 10 steps of an ``optimizer`` were recorded, or the quantile is outside (0, 1).
        """
        if not 0 < quantile < 1:
            raise InputError(f"quantile is {quantile}, expected a number between 0 and 1")
        finite = [norm for norm in self.unclipped_norms if np.isfinite(norm)]
        if len(finite) < 10:
            raise InputError(
                f"{len(finite)} finite gradients were recorded, expected at least 10: give the recorder the optimizer, "
                "and train on"
            )
        return float(np.quantile(finite, quantile))

    def to_frame(self) -> Any:
        """Return the records as a ``pandas.DataFrame``, a row for each, without the norms of single steps."""
        import pandas as pd

        names = ["backward", "module", "layer", "direction", "call", "measured", "total", "first", "last", "decades"]
        names += ["zeros", "not_finite", "note"]
        return pd.DataFrame([[getattr(record, name) for name in names] for record in self.records], columns=names)

    def __str__(self) -> str:
        """Return the newest record of each layer as text, and the notes."""
        newest = {(record.module, record.layer, record.direction, record.call): record for record in self.records}
        lines = [*map(str, newest.values()), *(f"{kind}: {text}" for kind, text in self.notes.items())]
        return "\n".join(lines) or "nothing recorded yet"

    # --- forward: what is watched ---

    def _hook(self, module: nn.Module, see: Any) -> None:
        guarded = partial(self._guarded, f"watching {type(module).__name__}", see)
        hook = Hook(torch.compiler.disable(guarded))  # type: ignore[no-untyped-call]
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _watch(self, name: str, module: nn.Module) -> None:
        if isinstance(module, CELLS):
            self._hook(module, partial(self._see_step, Loops(name)))
            return
        computed: dict[str, Tensor] = {}
        for key, maker in parametrized(module):
            self._hook(maker, partial(_see_weight, computed, key))
        self._hook(module, partial(self._see_layer, name, computed))

    def _see_layer(self, name: str, computed: Any, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        watched = LayerCall.watched(result)
        if _differentiable(result):
            self._await(LayerCall(name, module, args, kwargs, result, computed), dict(enumerate(watched)))

    def _see_step(self, loops: Loops, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        if _differentiable(result):
            loop, step = loops.step(args, kwargs, result)
            self._await(loop, {(step, part): state for part, state in enumerate(tensors(result))})

    def _see_output(self, name: str, axis: int, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        watched = OutputCall.watched(name, result)
        if _differentiable(result):
            self._await(OutputCall(name, axis), dict(enumerate(watched)))

    def _await(self, call: Call, watched: dict[Any, Tensor]) -> None:
        wanted = {key: tensor for key, tensor in watched.items() if tensor.requires_grad}
        for key, (place, make) in zip(wanted, places(list(wanted.values())), strict=True):
            arrived = partial(self._guarded, "taking a gradient", self._arrived, call, key, make)
            place.register_hook(arrived)  # type: ignore[no-untyped-call]

    # --- backward: what arrives ---

    def _arrived(self, call: Call, key: Any, make: Any, gradient: Tensor | None) -> None:
        if not self._handles or gradient is None:
            return
        task = torch._C._current_graph_task_id()
        backward = self._open.get(task)
        if backward is None:
            backward = self._open[task] = _Backward(self, self._passes)
            self._passes += 1
            # All gradients have arrived only when the pass is over.
            torch.autograd.Variable._execution_engine.queue_callback(backward.finish)
        if torch.is_grad_enabled() and call.doubled is None:
            call.doubled = backward.number
        if backward.number % self._every == 0:
            if call not in backward.gradients:
                call.reached()
            backward.gradients.setdefault(call, {}).setdefault(key, []).append(make(gradient))

    @torch.no_grad()
    def _record(self, backward: _Backward) -> None:
        scale = self._loss_scale() if backward.gradients else 1.0
        calls: dict[str, list[int]] = {}
        for call in backward.gradients:
            calls.setdefault(call.name, []).append(call.serial)
        for call, gradients in backward.gradients.items():
            with self._guard("recording"):
                for found in call.found(backward.number, gradients):
                    self._keep(call.name, sorted(calls[call.name]).index(call.serial), backward.number, found, scale)
        if self._optimizer is not None:
            # Queued again, to run after the callbacks that reduce gradients between processes.
            measure = partial(self._guarded, "measuring the gradient", self._measure)
            torch.autograd.Variable._execution_engine.queue_callback(measure)

    def _keep(self, name: str, call: int, number: int, found: Found, scale: float) -> None:
        shown = found.delta if found.delta is not None else found.direct
        if shown is None or not len(shown):
            return
        delta, direct, cell = (None if x is None else x / scale for x in (found.delta, found.direct, found.cell))
        shown = shown / scale
        edges = np.unique(np.linspace(0, len(shown), min(self._steps, len(shown)) + 1).round().astype(int))
        record = Record(
            backward=number,
            module=name,
            layer=found.layer,
            direction=("forward", "backward")[found.direction],
            edges=edges,
            delta_norm=binned(delta, edges),
            direct_norm=binned(direct, edges),
            cell_norm=binned(cell, edges),
            total=norm(torch.from_numpy(shown)).item(),
            first=float(shown[0]),
            last=float(shown[-1]),
            zeros=int((shown == 0).sum()),
            not_finite=int((~np.isfinite(shown)).sum()),
            call=call,
            note=found.note,
        )
        self.records.append(record)
        if self._writer is not None:
            with self._guard("telling the writer"):
                log(self._writer, record, shown)

    # --- the optimizer ---

    def _loss_scale(self) -> float:
        return 1.0 if self._scaler is None else float(self._scaler.get_scale())

    def _measure(self) -> None:
        optimizer = None if self._optimizer is None else self._optimizer()
        length = None if optimizer is None else _length(optimizer)
        self._unclipped = None if length is None else length / self._loss_scale()

    def _note_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._guarded("measuring the gradient", self._measure_step, optimizer)

    def _measure_step(self, optimizer: torch.optim.Optimizer) -> None:
        length, unclipped, self._unclipped = _length(optimizer), self._unclipped, None
        if length is None:
            return
        scale = getattr(optimizer, "grad_scale", None)
        if scale is not None:  # a fused optimizer divides the scale out of the gradients itself, after this hook
            length /= float(scale)
            if self._scaler is None:
                unclipped = None if unclipped is None else unclipped / float(scale)
                self._say("loss scale", "a GradScaler scales the loss, and so the records: give it as scaler=")
        self.gradient_norms.append(length)
        self.unclipped_norms.append(length if unclipped is None else unclipped)
        if self._writer is not None:
            with self._guard("telling the writer"):
                self._writer.add_scalar("gradient/all parameters", length, self._updates)
                self._writer.add_scalar("gradient/all parameters, unclipped", self.unclipped_norms[-1], self._updates)
        self._updates += 1

    # --- what fails ---

    def _guarded(self, what: str, do: Any, *args: Any) -> None:
        with self._guard(what):
            do(*args)

    @contextmanager
    def _guard(self, what: str) -> Iterator[None]:
        """Turn an error of the recorder into a warning, so that the training goes on."""
        try:
            yield
        except Exception as error:
            self._say(f"{what}: {type(error).__name__}", str(error))

    def _say(self, kind: str, text: str) -> None:
        if kind not in self.notes:
            self.notes[kind] = text
            warnings.warn(f"Recorder, {kind}: {text} (said once; the training goes on)", stacklevel=2)


class _Backward:
    """One backward pass through the model."""

    def __init__(self, recorder: Recorder, number: int) -> None:
        self.recorder, self.number = recorder, number
        self.gradients: dict[Call, Gradients] = {}

    def finish(self) -> None:
        """Record it."""
        self.recorder._guarded("recording", self.recorder._record, self)


def _see_weight(computed: dict[str, Tensor], key: str, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
    computed[key] = result.detach()


def _differentiable(result: Any) -> bool:
    """Return whether gradients can arrive at the result of a module."""
    found = tensors(result)
    if any(torch._C._functorch.is_functorch_wrapped_tensor(tensor) for tensor in found):
        raise NotImplementedError("nothing can be recorded inside torch.func")
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in found)


@torch.no_grad()
def _length(optimizer: torch.optim.Optimizer) -> float | None:
    """Return the norm of the gradients of all its parameters; None if there are none."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    rows = [(g.coalesce().values() if g.is_sparse else g).flatten() for g in gradients]
    return norm(torch.stack([norm(row).cpu() for row in rows])).item() if rows else None
