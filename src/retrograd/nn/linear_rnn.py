"""torch.nn.RNN without the nonlinearity: one matrix product and one scan for each layer and direction."""

from __future__ import annotations

import warnings
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by
from torch.nn.utils.rnn import PackedSequence

from retrograd.core.backend import BACKENDS
from retrograd.core.linear import linear
from retrograd.core.transition import Dense
from retrograd.errors import require_choice, require_shape
from retrograd.nn.cell import initialise, require_bool, require_dtype, require_size
from retrograd.nn.recurrence import padding_of
from retrograd.nn.sharded import AlongTime, refuse_lengths, scan_along, shard_time
from retrograd.nn.stable import TRANSITIONS, restart, stabilise

__all__ = ["LinearRNN"]


class LinearRNN(AlongTime):
    """h_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, in layers: :class:`torch.nn.RNN` without the nonlinearity.

    Parameters have nn.RNN's names, shapes, initialisation and order of random draws, so that one seed makes both
    alike and either loads the other's ``state_dict``. Gradients are exact for everything, ``hx`` included, to any
    order.

    Args:
        input_size: I, the features of x_t.
        hidden_size: H, the width of a state.
        num_layers: layers; each reads the states of the one below.
        bias: whether there are b_ih and b_hh.
        batch_first: sequences are ``(batch, time, features)``, not ``(time, batch, features)``.
        dropout: in training, the probability to zero a state on its way to the next layer.
        bidirectional: each layer also runs from the last step to the first; its states stand behind the others.
        device: where the parameters lie.
        dtype: their floating dtype.
        transition: how every W_hh is made: ``"free"``, trained itself, as nn.RNN's; or stable whatever is trained:
            ``"orthogonal"``, ``"spectral_norm"`` (‖W_hh‖₂ ≤ 1) or ``"eigenvalues"`` (|λ| < 1), see
            :mod:`retrograd.nn.stable`.
        backend: what runs the scans, as in :func:`retrograd.scan`.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.

    Attributes:
        weight_ih_l{k}: W_ih of layer k, ``(H, I)``; above the first layer ``(H, directions * H)``.
        weight_hh_l{k}: W_hh, ``(H, H)``.
        bias_ih_l{k}: b_ih, ``(H,)``.
        bias_hh_l{k}: b_hh, ``(H,)``. All four end in ``_reverse`` for the other direction.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a size is below 1, ``dropout`` outside [0, 1], or ``transition`` or ``backend`` unknown.

    Examples:
        >>> rnn = LinearRNN(3, 2, num_layers=2, batch_first=True)
        >>> output, h_n = rnn(torch.randn(4, 100, 3))
        >>> output.shape, h_n.shape
        (torch.Size([4, 100, 2]), torch.Size([2, 4, 2]))
    """

    weight_ih_l0: Tensor
    weight_hh_l0: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        transition: str = "free",
        backend: str = "auto",
        time_mesh: Any = None,
    ) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            require_size(name, size)
        for name, flag in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            require_bool(name, flag)
        if isinstance(dropout, bool) or not isinstance(dropout, int | float):
            raise TypeError(f"dropout is {dropout!r}, expected a number in [0, 1]")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}, expected a probability in [0, 1]")
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout is {dropout} and acts between layers, but num_layers is 1: it does nothing", stacklevel=2
            )
        require_choice("transition", transition, ["free", *TRANSITIONS])
        require_choice("backend", backend, ["auto", *BACKENDS])
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.transition = transition
        self.backend = backend
        shard_time(self, time_mesh)
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * self._directions
            shapes = ((hidden_size, width), (hidden_size, hidden_size), (hidden_size,), (hidden_size,))
            for reverse in (False, True)[: self._directions]:
                for name, shape in zip(self._names(layer, reverse), shapes, strict=False):
                    self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()
        if transition != "free":
            for weights in self._every_name():
                stabilise(self, weights[1], transition)

    @property
    def output_size(self) -> int:
        """Features of the output: ``hidden_size`` for each direction."""
        return self._directions * self.hidden_size

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _names(self, layer: int, reverse: bool) -> list[str]:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if self.bias else 2]
        return [f"{kind}_l{layer}{'_reverse' if reverse else ''}" for kind in kinds]

    @property
    def all_weights(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer and direction, in nn.RNN's order."""
        return [[getattr(self, name) for name in names] for names in self._every_name()]

    def _every_name(self) -> list[list[str]]:
        places = [(layer, reverse) for layer in range(self.num_layers) for reverse in (False, True)[: self._directions]]
        return [self._names(*place) for place in places]

    def reset_parameters(self) -> None:
        """Draw every parameter anew, uniform in ±1/√H; of a stable W_hh, as its parametrisation starts."""
        initialise(self.parameters(), self.hidden_size)
        restart(self)

    def flatten_parameters(self) -> None:
        """Do nothing; code written for nn.RNN may call it."""

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]: ...
    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...
    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - nn.RNN's name
        hx: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor | PackedSequence, Tensor]:
        """Return every state of the last layer, and the last state of every layer.

        Args:
            input: ``(time, batch, I)``, with ``batch_first`` ``(batch, time, I)``, without a batch ``(time, I)``, or
                a ``PackedSequence`` of sequences of different lengths.
            hx: h_0 of each layer and direction, ``(num_layers * directions, batch, H)`` (no batch: without that
                axis), a packed batch in the order in which it was packed; zero by default. For the backward
                direction it is the state after the last input.
            lengths: integers ``(batch,)``: the rest of a sequence is padding, where nothing is read and states are
                zero.
            reset: bool, ``(batch, time)`` whatever ``batch_first`` is, ``(time,)`` without a batch: at a true step a
                new sequence begins, in either direction.
            cu_seqlens: borders of N sequences packed into one row, as :func:`retrograd.scan` takes them; ``hx`` and
                ``h_n`` then have N in the batch's place.

        Returns:
            ``(output, h_n)``: the states, laid out as ``input`` with ``directions * H`` features, and the state with
            which each layer and direction ends, of ``hx``'s shape.

        Raises:
            ValueError: shapes or dtypes do not fit, or a PackedSequence was given lengths, reset or
                cu_seqlens.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None or reset is not None or cu_seqlens is not None:
                raise ValueError(
                    "lengths, reset or cu_seqlens was given with a PackedSequence, which has its own: pad it first"
                )
            if self.time_mesh is not None:
                raise ValueError(
                    "input is a PackedSequence, and time lies on ranks: give each rank's steps as a tensor"
                )
            _, batch_sizes, order, restore = input
            self._check_input(input.data, "input.data", ("total_time",))
            hx = self._state(hx, input.data, int(batch_sizes[0]))
            at, cu_seqlens = _by_sequence(batch_sizes)
            at = at.to(input.data.device)
            hx = hx if order is None else hx.index_select(1, order)
            states, h_n = self._layers(input.data.index_select(0, at), hx, cu_seqlens)
            packed = PackedSequence(states.index_select(0, torch.argsort(at)), batch_sizes, order, restore)
            return packed, h_n if restore is None else h_n.index_select(1, restore)
        if not isinstance(input, Tensor) or input.ndim not in (2, 3):
            got = f"has shape {tuple(input.shape)}" if isinstance(input, Tensor) else f"is {type(input).__name__}"
            axes = "batch, time" if self.batch_first else "time, batch"
            raise ValueError(f"input {got}, expected ({axes}, input_size), (time, input_size) or a PackedSequence")
        count = None if cu_seqlens is None else len(cu_seqlens) - 1
        if input.ndim == 2:
            self._check_input(input, "input", ("time",))
            reset = reset if reset is None else reset.unsqueeze(0)
            h0 = self._state(hx, input, count)
            states, h_n = self._layers(input.unsqueeze(0), h0, cu_seqlens, lengths, reset)
            return states.squeeze(0), h_n.squeeze(1) if count is None else h_n
        self._check_input(input, "input", ("batch", "time") if self.batch_first else ("time", "batch"))
        x = input if self.batch_first else input.transpose(0, 1)
        h0 = self._state(hx, input, x.shape[0] if count is None else count)
        states, h_n = self._layers(x, h0, cu_seqlens, lengths, reset)
        return states if self.batch_first else states.transpose(0, 1), h_n

    def step(self, x_t: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the last layer's state after one step, and every layer's.

        Args:
            x_t: ``(batch, I)`` or ``(I,)``.
            hx: what an earlier call returned; zero by default.

        Raises:
            ValueError: the layer is bidirectional, or shapes do not fit.
        """
        if self.time_mesh is not None:
            raise ValueError("step takes one step of one process, and time lies on ranks: call it on whole sequences")
        if self.bidirectional:
            raise ValueError("step goes forward in time, and this layer is bidirectional: call it on whole sequences")
        time = 1 if self.batch_first and x_t.ndim == 2 else 0
        output, hx = self(x_t.unsqueeze(time), hx)
        return output.squeeze(time), hx

    def _check_input(self, x: Tensor, name: str, axes: tuple[str, ...]) -> None:
        require_shape(name, x, (*axes, "input_size"), (*x.shape[: len(axes)], self.input_size))
        require_dtype(name, x, self.weight_ih_l0)

    def _state(self, hx: Tensor | None, x: Tensor, batch: int | None) -> Tensor:
        """Return hx, checked, or zeros: (num_layers * directions, batch, H)."""
        rows = self.num_layers * self._directions
        if hx is None:
            return x.new_zeros(rows, 1 if batch is None else batch, self.hidden_size)
        if not isinstance(hx, Tensor):
            raise TypeError(f"hx is {type(hx).__name__}, expected a torch.Tensor")
        if batch is None:
            require_shape("hx", hx, ("num_layers * directions", "hidden_size"), (rows, self.hidden_size))
        else:
            axes = ("num_layers * directions", "batch", "hidden_size")
            require_shape("hx", hx, axes, (rows, batch, self.hidden_size))
        require_dtype("hx", hx, self.weight_hh_l0)
        return hx.unsqueeze(1) if batch is None else hx

    def _layers(
        self,
        x: Tensor,
        hx: Tensor,
        cu_seqlens: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run all layers over x (batch, time, I), or (total time, I) of sequences with these borders."""
        refuse_lengths(self.time_mesh, lengths)
        if self.time_mesh is not None and self.bidirectional and reset is not None:
            raise ValueError("reset was given to a bidirectional layer whose time lies on ranks: use one direction")
        if lengths is not None:  # NaN in padding must not reach the weights' gradients
            x = x.masked_fill(padding_of(x, lengths), 0)
        # A new sequence at t: forward, h_{t-1} does not enter step t; backward, h_t does not enter step t - 1.
        begins = (reset, reset if reset is None else F.pad(reset[:, 1:], (0, 1)))
        finals: list[Tensor] = []
        for layer in range(self.num_layers):
            states: list[Tensor] = []
            for reverse in (False, True)[: self._directions]:
                w_ih, w_hh, *bias = (getattr(self, name) for name in self._names(layer, reverse))
                u = linear(x, w_ih, bias[0] + bias[1] if bias else None, self.backend)
                h0 = hx[len(finals)]
                # Under autocast u alone is reduced; the scan runs in u's dtype, as nn.RNN does.
                A, h0 = Dense(w_hh.to(u.dtype)), h0.to(u.dtype)
                h, final = scan_along(self.time_mesh)(
                    A,
                    u,
                    h0,
                    reverse=reverse,
                    lengths=lengths,
                    cu_seqlens=cu_seqlens,
                    reset=begins[reverse],
                    backend=self.backend,
                )
                states.append(h)
                finals.append(final)
            x = torch.cat(states, dim=-1) if self.bidirectional else states[0]
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        return x, torch.stack(finals)

    def extra_repr(self) -> str:
        """Return the arguments that make this module, as nn.RNN prints them."""
        rest = {
            "num_layers": (self.num_layers, 1),
            "bias": (self.bias, True),
            "batch_first": (self.batch_first, False),
            "dropout": (self.dropout, 0.0),
            "bidirectional": (self.bidirectional, False),
            "transition": (self.transition, "free"),
            "backend": (self.backend, "auto"),
        }
        shown = [f"{name}={value!r}" for name, (value, default) in rest.items() if value != default]
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *shown])


def _by_sequence(batch_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return where a PackedSequence holds the steps of one sequence after the other, and the sequences' borders."""
    step = torch.arange(len(batch_sizes)).repeat_interleave(batch_sizes)
    sequence = torch.arange(len(step)) - (batch_sizes.cumsum(0) - batch_sizes)[step]
    lengths = torch.bincount(sequence)
    return torch.argsort(sequence, stable=True), F.pad(lengths.cumsum(0), (1, 0))
