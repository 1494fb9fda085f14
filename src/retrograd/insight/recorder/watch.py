"""What is kept of a module's call until its gradients arrive: its own tensors, detached, without copies or graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.weak import WeakTensorKeyDictionary

from retrograd.insight.recorder.record import Array, step_norms
from retrograd.insight.recorder.replay import CannotReplay, Kept, Replayed, direct, replay, why_not
from retrograd.nn import LinearRNN, LinearRNNCell, StateSpace

__all__ = [
    "CELLS",
    "Call",
    "Found",
    "Gradients",
    "Hook",
    "LayerCall",
    "Loops",
    "OutputCall",
    "parametrized",
    "places",
    "tensors",
]

CELLS = (nn.RNNCell, nn.LSTMCell, nn.GRUCell, LinearRNNCell)

# The gradients of one backward pass through one call, by the number of the tensor that they arrived at.
Gradients = dict[Any, list[Tensor]]
_serials = count()


@dataclass(frozen=True)
class Found:
    """The norms of one layer and direction by step."""

    layer: int
    direction: int
    delta: Array | None
    direct: Array | None
    cell: Array | None
    note: str = ""


class Hook:
    """A forward hook that works on the model it was registered on alone: in a copy or a pickle it does nothing."""

    def __init__(self, see: Callable[[nn.Module, Any, Any, Any], None] | None = None) -> None:
        self._see = see

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        """Pass on a call of the module that has returned."""
        if self._see is not None:
            self._see(module, args, kwargs, result)

    def __reduce__(self) -> tuple[type[Hook], tuple[()]]:
        return Hook, ()


def parametrized(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names of parameters that are computed at every access, and the modules that compute them."""
    yield from dict(getattr(module, "parametrizations", {})).items()


def _weights(module: Any, computed: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Return the weights that the last forward pass used; ``computed`` ones, because an access would compute them anew.

    Raises:
        CannotReplay: a weight is computed by something registered after the recorder.
    """
    if isinstance(module, nn.RNNBase):
        used = zip(module._flat_weights_names, module._flat_weights, strict=True)
        return {name: None if part is None else part.detach() for name, part in used}
    if isinstance(module, LinearRNN):
        ends = [f"l{layer}{end}" for layer in range(module.num_layers) for end in ("", "_reverse")]
        ends = [end for end in ends if module.bidirectional or not end.endswith("_reverse")]
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if module.bias else 2]
        names = [f"{kind}_{end}" for end in ends for kind in kinds]
    else:
        names = ["A", "B", "C", "D", "K", "offset", "x0"]
    found: dict[str, Tensor | None] = {}
    for name in names:
        if not isinstance(getattr(type(module), name, None), property):
            found[name] = getattr(module, name).detach()
        elif name in computed:
            found[name] = computed[name]
        else:
            raise CannotReplay(f"{name} is computed at every access, by what was put there after the recorder")
    return found


def _detached(value: Any) -> Any:
    if isinstance(value, PackedSequence):
        return PackedSequence(value.data.detach(), *value[1:])
    if isinstance(value, tuple):
        return tuple(_detached(part) for part in value)
    return value.detach() if isinstance(value, Tensor) else value


def tensors(value: Any) -> list[Tensor]:
    """Return the tensors in an argument or result of a module."""
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def places(watched: list[Tensor]) -> list[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Return the tensor at which the whole gradient of each one arrives, and a function that extracts that gradient.

    Once a view has been changed in place, autograd sends gradients straight to its base, past the hooks of the view: a
    view of the whole base is therefore watched at the base.
    """
    bases = [tensor._base if tensor._is_view() else None for tensor in watched]
    found: list[tuple[Tensor, Callable[[Tensor], Tensor]]] = []
    for tensor, base in zip(watched, bases, strict=True):
        shared = sum(other is base for other in bases) > 1
        if base is None or shared or not base.requires_grad or base.numel() != tensor.numel():
            found.append((tensor, Tensor.detach))
            continue
        view = tensor.size(), tensor.stride(), tensor.storage_offset() - base.storage_offset()
        found.append((base, partial(_viewed, base.size(), base.stride(), view)))
    return found


def _viewed(size: Any, stride: Any, view: Any, g: Tensor) -> Tensor:
    g = g.detach()
    laid = g if g.stride() == stride else torch.empty_strided(size, stride, dtype=g.dtype, device=g.device).copy_(g)
    return laid.as_strided(view[0], view[1], laid.storage_offset() + view[2])


def _unit(output: Tensor) -> float:
    """Return the unit roundoff of the arithmetic that made an output."""
    dtype, device = output.dtype, output.device.type
    if torch.is_autocast_enabled(device) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
    return 2.0**-11 if device == "cuda" and dtype == torch.float32 else torch.finfo(dtype).eps / 2  # cuDNN: TF32


class Call(ABC):
    """One call of a module, waiting for its gradients. The graph's hooks hold it; it holds no part of the graph."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.serial = next(_serials)
        #: The first backward pass with create_graph; later ones send gradients to the states past the output.
        self.doubled: int | None = None

    def reached(self) -> None:  # noqa: B027 - most calls have nothing to do
        """React to the first gradient of a recorded backward pass, before it reaches the module's parameters."""

    @abstractmethod
    def found(self, number: int, gradients: Gradients) -> Iterator[Found]:
        """Yield the norms of a backward pass, given its number."""


class LayerCall(Call):
    """The call of a layer: gradients arrive at its output, number 0, and at its final states."""

    def __init__(self, name: str, module: nn.Module, args: Any, kwargs: Any, result: Any, computed: Any) -> None:
        super().__init__(name)
        output, finals = _parts(result)
        names = ("u", "y", "x0") if isinstance(module, StateSpace) else ("input", "hx")
        every = dict(zip(names, args, strict=False)) | kwargs
        given = {key: _detached(every[key]) for key in names if key in every}
        self._note = why_not(module)
        weights: dict[str, Tensor | None] = {}
        try:
            weights = _weights(module, computed)
        except CannotReplay as reason:
            self._note = str(reason)
        unit = _unit(tensors(output)[0])
        self._kept = Kept(module, given, weights, _detached(output), tuple(map(_detached, finals)), unit)
        parts = [("input", part) for value in given.values() for part in tensors(value)]
        parts += [("weights", part) for part in weights.values() if part is not None]
        parts += [("output", part) for part in tensors(self._kept.output)]
        self._versions = [(what, part, part._version) for what, part in parts]

    @staticmethod
    def watched(result: Any) -> list[Tensor]:
        """Return where gradients arrive."""
        output, finals = _parts(result)
        return [*tensors(output), *finals]

    def reached(self) -> None:
        """Copy the weights if hooks of their own may change them before the pass is over."""
        if any(p._post_accumulate_grad_hooks for p in self._kept.module.parameters()) and not self._changed():
            weights = {name: None if part is None else part.clone() for name, part in self._kept.weights.items()}
            self._kept = replace(self._kept, weights=weights)
            self._versions = [entry for entry in self._versions if entry[0] != "weights"]

    def _changed(self) -> set[str]:
        # Sharded training frees a parameter's storage between uses.
        return {
            what
            for what, part, version in self._versions
            if part._version != version or (part.numel() and not part.untyped_storage().nbytes())
        }

    def _replayed(self, number: int, g: Tensor | None, finals: list[Tensor | None]) -> list[Replayed]:
        if self._note:
            raise CannotReplay(self._note)
        if self.doubled not in (None, number):
            raise CannotReplay("after create_graph its states have gradients that do not come through its output")
        changed = self._changed()
        kept = replace(self._kept, output=None) if "output" in changed else self._kept
        if what := " and ".join(sorted(changed - {"output"})):
            raise CannotReplay(f"its {what} changed in place before the backward pass was over")
        try:
            return replay(kept, g, finals)
        except CannotReplay:
            raise
        except Exception as error:  # out of memory, above all
            raise CannotReplay(f"running it again failed: {type(error).__name__}: {error}") from error

    def found(self, number: int, gradients: Gradients) -> Iterator[Found]:
        """Yield the norms of every layer and direction; if δ_t is not known, g_t of the last layer alone."""
        module = self._kept.module
        g, *finals = (gradients[key][0] if key in gradients else None for key in range(3))
        x = self._kept.given.get("u" if isinstance(module, StateSpace) else "input")
        arrived = [] if g is None else [step_norms(part) for part in direct(module, x, g)]
        last = getattr(module, "num_layers", 1) - 1
        try:
            replayed = self._replayed(number, g, finals)
        except CannotReplay as reason:
            yield from (Found(last, d, None, own, None, f"δ_t is not known: {reason}") for d, own in enumerate(arrived))
            return
        for one in replayed:
            d = int(one.direction == "backward")
            own = arrived[d] if one.layer == last and arrived else None
            yield Found(one.layer, d, step_norms(one.delta), own, None if one.cell is None else step_norms(one.cell))


def _parts(result: Any) -> tuple[Any, list[Tensor]]:
    """Return the output and final states in a layer's result; a forward of its own may return the output alone."""
    output, rest = result, ()
    if isinstance(result, tuple) and not isinstance(result, PackedSequence):
        output, rest = result[0], result[1:2]
    if not isinstance(output, (Tensor, PackedSequence)):
        raise TypeError(f"it returned {type(output).__name__}, expected a tensor or a PackedSequence first")
    return output, tensors(rest)


class OutputCall(Call):
    """The call of any module, whose output's gradient is recorded as it arrives."""

    def __init__(self, name: str, axis: int) -> None:
        super().__init__(name)
        self._axis = axis

    @staticmethod
    def watched(name: str, result: Any) -> list[Tensor]:
        """Return where gradients arrive."""
        output = result[0] if isinstance(result, tuple) else result
        if not isinstance(output, Tensor):
            raise TypeError(f"the output of {name!r} is {type(output).__name__}, expected a tensor")
        return [output]

    def found(self, number: int, gradients: Gradients) -> Iterator[Found]:
        """Yield the norms of what arrived."""
        g = gradients[0][0].movedim(self._axis, 0)
        yield Found(0, 0, None, step_norms(g), None, "the gradient of an output alone")


class Loop(Call):
    """A loop of calls of a cell, each from the state that the call before returned.

    h_t acts on the loss through the tensor that the cell returned alone, so a hook there sees δ_t.
    """

    steps = 0
    fused = False

    def found(self, number: int, gradients: Gradients) -> Iterator[Found]:
        """Yield ‖δ_t‖ from the first step that a gradient reached; 0 at later steps without one."""
        first = min(step for step, _ in gradients)
        norms = [
            _by_step([(step - first, g) for (step, kind), found in gradients.items() for g in found if kind == part])
            for part in (0, 1)
        ]
        norms = [np.concatenate([part, np.zeros(self.steps - first - len(part))]) for part in norms]
        cell = norms[1] if any(part for _, part in gradients) and not self.fused else None
        # torch's fused step adds the part through h_t = o tanh c_t inside its own backward.
        note = "dL/dc_t is not known: a fused LSTMCell adds what comes through h_t inside" if self.fused else ""
        yield Found(0, 0, norms[0], None, cell, note)


def _by_step(arrived: list[tuple[int, Tensor]]) -> Array:
    """Return the norm of all gradients that arrived at each step, of any batch sizes, up to the last step."""
    if not arrived:
        return np.zeros(0)
    rows = [g.reshape(-1, g.shape[-1]) for _, g in arrived]
    each = step_norms(torch.cat(rows))
    at = np.repeat([step for step, _ in arrived], [len(part) for part in rows])
    largest = np.zeros(at.max() + 1)
    np.maximum.at(largest, at, each)
    scale = np.where((largest > 0) & np.isfinite(largest), largest, 1.0)
    squares = np.zeros(len(scale))
    np.add.at(squares, at, (each / scale[at]) ** 2)
    return scale * np.sqrt(squares)


class Loops:
    """The loops that one cell is called in, told apart by the state that each call starts from.

    A call from a state that another call returned continues that loop; one from a state computed from it (a dropout
    between) the newest loop; one from a new or a detached state begins a loop.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._made = WeakTensorKeyDictionary()  # state: loop and step
        self._newest: Loop | None = None

    def step(self, args: Any, kwargs: Any, result: Any) -> tuple[Loop, int]:
        """Return the loop that a call belongs to, and its number in it."""
        start = [part for part in tensors(args[1] if len(args) > 1 else kwargs.get("hx")) if part.requires_grad]
        made = tensors(result)
        # Of an LSTMCell's two states the cell, because loops seldom change it in between.
        known = self._made.get(start[-1]) if start else None  # type: ignore[no-untyped-call]
        if known is not None:
            loop, step = known[0], known[1] + 1
        else:
            if self._newest is None or all(part.is_leaf for part in start):
                self._newest = Loop(self._name)
            loop, step = self._newest, self._newest.steps
        loop.steps = max(loop.steps, step + 1)
        if len(made) > 1:
            loop.fused |= "Fused" in type(made[0].grad_fn).__name__
        self._made[made[-1]] = loop, step
        return loop, step
