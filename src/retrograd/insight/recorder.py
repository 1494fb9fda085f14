"""How does the gradient flow through the recurrent layers of any torch model, while it trains?"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from retrograd.errors import InputError, near_names
from retrograd.insight.replay import LAYERS, replay, why_not
from retrograd.norms import norm

__all__ = ["Record", "Recorder"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Record:
    """One backward pass through one layer in one direction. A norm is over the batch and the states of a step.

    Attributes:
        backward: which backward pass through the module this was, from 0.
        module: the module's name in the model.
        layer: its layer, from 0.
        direction: ``"forward"`` or ``"backward"``.
        edges: ``(bins + 1,)``: a bin holds the steps from ``edges[i]`` (from 0) up to, not with, ``edges[i + 1]``: one
            step each, unless the sequence is longer than the recorder's ``steps``.
        delta_norm: the largest ‖δ_t‖ of each bin, ``(bins,)``, δ_t = dL/dh_t being the whole gradient of a state; None
            where ``note`` says why.
        direct_norm: the largest ‖g_t‖ of each bin, what arrives at the layer's output from the loss and the layers
            above; None below the last layer, and where the output itself got no gradient (only the final state did).
        cell_norm: the largest ‖dL/dc_t‖ of an LSTM's cells; None for others.
        total: √Σ ‖δ_t‖² over all steps (of g_t, where δ_t is not known).
        first: ‖δ_t‖ of the first step.
        last: that of the last step.
        zeros: steps at which ‖δ_t‖ is exactly 0.
        not_finite: steps at which it is NaN or infinite.
        note: why something is missing.
    """

    backward: int
    module: str
    layer: int
    direction: str
    edges: Array
    delta_norm: Array | None
    direct_norm: Array | None
    cell_norm: Array | None
    total: float
    first: float
    last: float
    zeros: int
    not_finite: int
    note: str = ""

    @property
    def decades(self) -> float:
        """log10 of ‖δ‖ at the first step over that at the last: negative where it vanishes on its way back."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.log10(self.first) - np.log10(self.last))


class Recorder:
    """Records, for every backward pass, the size of the gradient at each step of each recurrent layer.

    It finds ``nn.RNN``, ``nn.LSTM``, ``nn.GRU`` and :class:`retrograd.nn.LinearRNN` in the model, and keeps what a hook
    sees at their outputs, g_t. The whole gradient δ_t, with what comes back through later steps, stays inside a fused
    layer: the layer is run again from the input it had (:mod:`retrograd.insight.replay`), which costs about as much as
    its own pass forward and backward in a loop over the steps; ``every`` spaces that out. The training is not touched:
    gradients are the same bits with and without a recorder. Until a pass goes back, the layer's input is kept alive.

    Hooks see no layer inside ``torch.compile(fullgraph=True)``; elsewhere a compiled model breaks its graph at them.
    A record of a gradient-accumulating or replayed graph is one for each backward pass.

    Args:
        model: a module, or one of the layers itself.
        every: records each ``every``-th backward pass of a module.
        history: how many records are kept; older ones go.
        steps: how many bins a record's norms are kept in.
        outputs: further modules by name, with the axis of time in their output: of these g_t is recorded.
        optimizer: also records the norm of all its parameters' gradients before each step (:meth:`clip_threshold`).
        writer: a ``torch.utils.tensorboard.SummaryWriter``, anything with its ``add_scalar`` and ``add_histogram``, or
            a folder to log into.

    Attributes:
        records: the newest ``history`` records, oldest first.
        gradient_norms: of the newest ``history`` optimizer steps.

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
        writer: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is {type(model).__name__}, expected a torch.nn.Module")
        for name, value in (("every", every), ("history", history), ("steps", steps)):
            if not isinstance(value, int) or value < 1:
                raise InputError(f"{name} is {value!r}, expected a whole number from 1")
        self.records: deque[Record] = deque(maxlen=history)
        self.gradient_norms: deque[float] = deque(maxlen=history)
        self._every, self._steps = every, steps
        self._passes: dict[str, int] = {}
        self._writer, self._owned = _writer(writer)
        self._updates = 0
        modules = dict(model.named_modules())
        layers = {name or type(model).__name__: m for name, m in modules.items() if isinstance(m, LAYERS)}
        for name in outputs or {}:
            if name not in modules:
                raise InputError(f"outputs names {name!r}: {near_names(name, modules)}")
        if not layers and not outputs:
            raise InputError("the model has no nn.RNN, nn.LSTM, nn.GRU or LinearRNN: name others in outputs=")
        self._handles: list[Any] = [
            module.register_forward_hook(self._watch(name), with_kwargs=True) for name, module in layers.items()
        ]
        self._handles += [
            modules[name].register_forward_hook(self._watch_output(name, axis))
            for name, axis in (outputs or {}).items()
        ]
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
            self._writer.close()
            self._writer, self._owned = None, False

    def clip_threshold(self, quantile: float = 0.9) -> float:
        """Return the length of gradient that this part of the recorded optimizer steps stay below.

        Raises:
            InputError: fewer than 10 steps of an ``optimizer`` were recorded, or the quantile is outside (0, 1).
        """
        if not 0 < quantile < 1:
            raise InputError(f"quantile is {quantile}, expected a number between 0 and 1")
        finite = [norm for norm in self.gradient_norms if np.isfinite(norm)]
        if len(finite) < 10:
            raise InputError(
                f"{len(finite)} finite gradients were recorded, expected at least 10: give the recorder the optimizer, "
                "and train on"
            )
        return float(np.quantile(finite, quantile))

    def to_frame(self) -> Any:
        """Return the records as a ``pandas.DataFrame``, one row each, without the norms of single steps."""
        import pandas as pd

        names = ["backward", "module", "layer", "direction", "total", "first", "last", "decades", "zeros", "not_finite"]
        return pd.DataFrame([[getattr(record, name) for name in names] for record in self.records], columns=names)

    def __str__(self) -> str:
        """Return what the newest record of each layer says."""
        newest = {(record.module, record.layer, record.direction): record for record in self.records}
        lines = [
            f"{module}, layer {layer}, {direction}: ‖dL/dh_t‖ {record.first:.3g} at the first step, {record.last:.3g} "
            f"at the last ({record.zeros} zero, {record.not_finite} not finite)"
            for (module, layer, direction), record in newest.items()
        ]
        return "\n".join(lines) or "nothing recorded yet"

    # --- the hooks ---

    def _watch(self, name: str) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
            output, final = result
            x = args[0] if args else kwargs["input"]
            hx = args[1] if len(args) > 1 else kwargs.get("hx")
            values = output.data if isinstance(output, PackedSequence) else output
            watched = [values, *(final if isinstance(final, tuple) else (final,))]
            if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in watched):
                return
            hx = tuple(part.detach() for part in hx) if isinstance(hx, tuple) else None if hx is None else hx.detach()
            run = _Pass(self, name, module, _detached(x), hx, why_not(module))
            for number, tensor in enumerate(watched):
                if tensor.requires_grad:
                    tensor.register_hook(partial(run.arrived, number))

        return hook

    def _watch_output(self, name: str, axis: int) -> Any:
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def hook(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            output = result[0] if isinstance(result, tuple) else result
            if not isinstance(output, Tensor):
                raise TypeError(f"the output of {name!r} is {type(output).__name__}, expected a tensor")
            if torch.is_grad_enabled() and output.requires_grad:
                output.register_hook(lambda g: self._add_direct(name, g, axis))  # type: ignore[no-untyped-call]

        return hook

    def _due(self, name: str) -> bool:
        number = self._passes[name] = self._passes.get(name, -1) + 1
        return number % self._every == 0

    @torch.no_grad()
    def add(self, run: _Pass, g_output: Tensor | None, g_final: list[Tensor | None]) -> None:
        """Record what one backward pass through a layer brought; for the hooks."""
        if not self._handles or not self._due(run.name):
            return
        name, x, hx, note = run.name, run.x, run.hx, run.note
        module: Any = run.module
        directions = 2 if module.bidirectional else 1
        last, direct = module.num_layers - 1, _direct_norms(module, x, g_output, directions)
        if note:
            for number, norm in enumerate(direct):
                self._keep(name, last, number, None, norm, None, note)
            return
        for found in replay(module, x, hx, g_output, g_final):
            number = int(found.direction == "backward")
            own = direct[number] if found.layer == last and direct else None
            cell = _norms(found.cell) if found.cell else None
            self._keep(name, found.layer, number, _norms(found.delta), own, cell, "")

    @torch.no_grad()
    def _add_direct(self, name: str, g: Tensor, axis: int) -> None:
        if self._handles and self._due(name):
            self._keep(name, 0, 0, None, _norms(list(g.unbind(axis))), None, "an output alone: g_t")

    def _keep(
        self,
        name: str,
        layer: int,
        direction: int,
        delta: Array | None,
        direct: Array | None,
        cell: Array | None,
        note: str,
    ) -> None:
        shown = delta if delta is not None else direct
        if shown is None:
            return
        edges = np.unique(np.linspace(0, len(shown), min(self._steps, len(shown)) + 1).round().astype(int))
        total = norm(torch.from_numpy(shown)).item()
        record = Record(
            backward=self._passes[name],
            module=name,
            layer=layer,
            direction=("forward", "backward")[direction],
            edges=edges,
            delta_norm=_binned(delta, edges),
            direct_norm=_binned(direct, edges),
            cell_norm=_binned(cell, edges),
            total=total,
            first=float(shown[0]),
            last=float(shown[-1]),
            zeros=int((shown == 0).sum()),
            not_finite=int((~np.isfinite(shown)).sum()),
            note=note,
        )
        self.records.append(record)
        if self._writer is not None:
            _log(self._writer, record, shown)

    @torch.no_grad()
    def _note_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        norms = [
            norm(p.grad.flatten()) for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        if norms:
            self.gradient_norms.append(norm(torch.stack(norms)).item())
            if self._writer is not None:
                self._writer.add_scalar("gradient/all parameters", self.gradient_norms[-1], self._updates)
            self._updates += 1


@dataclass
class _Pass:
    """One run forward of a layer, waiting for its gradients. It holds no part of the graph, whose hooks hold it."""

    recorder: Recorder
    name: str
    module: nn.Module
    x: Any
    hx: Any
    note: str
    gradients: dict[int, Tensor] = field(default_factory=dict)

    def arrived(self, number: int, gradient: Tensor) -> None:
        """Keep a gradient until the backward pass is over: only then is it known which ones there are."""
        if not self.gradients:
            torch.autograd.Variable._execution_engine.queue_callback(self.finish)
        self.gradients[number] = gradient.detach()

    def finish(self) -> None:
        """Record: the output's gradient, and those of the final states."""
        found, self.gradients = self.gradients, {}
        self.recorder.add(self, found.get(0), [found.get(1), found.get(2)])


def _detached(x: Any) -> Any:
    if isinstance(x, PackedSequence):
        return PackedSequence(x.data.detach(), x.batch_sizes, x.sorted_indices, x.unsorted_indices)
    return x.detach()


def _direct_norms(module: Any, x: Any, g: Tensor | None, directions: int) -> list[Array]:
    """Return ‖g_t‖ at the output, of each direction; none where the output got no gradient."""
    if g is None:
        return []
    if isinstance(x, PackedSequence):
        steps = list(torch.split(g, x.batch_sizes.tolist()))
    else:
        steps = list(g.unbind(1 if module.batch_first and g.ndim == 3 else 0))
    halves = [step.chunk(directions, -1) for step in steps]
    return [_norms([half[number] for half in halves]) for number in range(directions)]


def _norms(steps: list[Tensor]) -> Array:
    """Return the norm of each step's gradient."""
    return torch.stack([norm(step.detach().flatten()) for step in steps]).cpu().numpy()


def _binned(values: Array | None, edges: Array) -> Array | None:
    # NaN stays NaN: what is not finite must be seen.
    return None if values is None else np.maximum.reduceat(values, edges[:-1])


def _writer(writer: Any) -> tuple[Any, bool]:
    """Return a writer, and whether it was made here."""
    if not isinstance(writer, (str, Path)):
        return writer, False
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"writer is the folder {writer}, which needs tensorboard: pip install tensorboard"
        ) from None
    return SummaryWriter(str(writer)), True


def _log(writer: Any, record: Record, norms: Array) -> None:
    label = f"gradient/{record.module}/layer {record.layer} {record.direction}"
    writer.add_scalar(f"{label}/norm", record.total, record.backward)
    if np.isfinite(record.decades):
        writer.add_scalar(f"{label}/decades from last to first step", record.decades, record.backward)
    positive = norms[np.isfinite(norms) & (norms > 0)]
    if len(positive):
        writer.add_histogram(f"{label}/log10 of each step", np.log10(positive), record.backward)
