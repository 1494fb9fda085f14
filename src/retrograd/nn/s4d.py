"""S4D: a diagonal state-space model of its own for every feature.

Gu, Gupta, Goel, Ré, On the Parameterization and Initialization of Diagonal State Space Models, 2022 (arXiv 2206.11893):
its S4D-Lin, S4D-Inv and S4D-LegS.

Every feature has N/2 complex states, so that the states of all steps are N times as large as the inputs. They are
needed at the borders of chunks of L steps alone. With P_l = Ā^l, inside a chunk whose state before is h,

    y_i = Σ_{j≤i} K_{i-j} x_j + 2 Re(C P_{i+1} h) + D x_i,    K_l = 2 Re(C P_l B̄)
    the next border's state = P_L h + Σ_j P_{L-1-j} B̄ x_j

which are three matrix products a feature, and one scan over T / L borders. Packed sequences and resets lie in chunks of
their own (:mod:`retrograd.nn.chunks`).
"""

from __future__ import annotations

import math
from copy import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by

from retrograd.core.dispatch import is_transformed
from retrograd.core.transition import Diagonal
from retrograd.errors import require_choice, require_number
from retrograd.nn.chunks import Chunks, cut, gathered
from retrograd.nn.complex_maps import DISCRETISATIONS, as_complex, as_real, discretised
from retrograd.nn.recompute import recomputed
from retrograd.nn.recurrence import Along, Recurrence, wide
from retrograd.nn.s5 import hippo_normal

__all__ = ["INITIAL", "S4D", "initial_rate"]

INITIAL = ("lin", "inv", "legs")
# Steps of a chunk: the products inside of it cost as many operations a step, its borders 1 / CHUNK of the states.
CHUNK = 64


class S4D(Recurrence):
    """h' = a h + b x, y = 2 Re(C h) + D x for every feature, discretised at its own step: h_t = ā h_{t-1} + b̄ x_t.

    Re a < 0 always. The conjugate states are implied, hence the 2.

    Args:
        features: of x_t and y_t.
        order: N, states of a feature; N/2 complex numbers are kept of them.
        initial: a at the start: ``"lin"``, -½ + iπn; ``"inv"``, -½ + i (N/π) (N / (2n + 1) - 1); ``"legs"``, the
            eigenvalues of the normal part of the HiPPO-LegS matrix.
        method: ``"zoh"`` or ``"bilinear"``.
        delta_min: least step Δ of a feature at the start; log Δ is uniform.
        delta_max: largest one.
        reverse: run from the last step to the first.
        backend: what runs the scan.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them.
        device: where the parameters lie.
        dtype: their floating dtype, real.

    Raises:
        InputError: ``initial`` or ``method`` is unknown, or a number outside its range.
        ValueError: ``order`` is odd.

    Examples:
        >>> y, state = S4D(3, 8)(torch.randn(2, 100, 3))
        >>> y.shape, state.shape
        (torch.Size([2, 100, 3]), torch.Size([2, 12]))
    """

    complex_state = True

    def __init__(
        self,
        features: int,
        order: int = 64,
        *,
        initial: str = "lin",
        method: str = "zoh",
        delta_min: float = 0.001,
        delta_max: float = 0.1,
        reverse: bool = False,
        backend: str = "auto",
        time_mesh: Any = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if order % 2:
            raise ValueError(f"order is {order}, expected an even number: states come in conjugate pairs")
        super().__init__(features, features, features * order // 2, reverse, backend, time_mesh)
        require_choice("initial", initial, INITIAL)
        require_choice("method", method, DISCRETISATIONS)
        self.order, self.initial, self.method = order, initial, method
        self.delta_min = require_number("delta_min", delta_min, above=0)
        self.delta_max = require_number("delta_max", delta_max, least=self.delta_min)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.decay_log = parameter(features, order // 2)  # log(-Re a)
        self.frequency = parameter(features, order // 2)  # Im a
        self.delta_log = parameter(features)
        self.B = parameter(features, order // 2, 2)
        self.C = parameter(features, order // 2, 2)
        self.D = parameter(features)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Take a from ``initial``, B = 1, draw C and D from standard normals and log Δ uniformly."""
        rate = initial_rate(self.initial, self.order)
        with torch.no_grad():
            self.decay_log.copy_(torch.log(-rate.real).expand_as(self.decay_log))
            self.frequency.copy_(rate.imag.expand_as(self.frequency))
            self.delta_log.uniform_(math.log(self.delta_min), math.log(self.delta_max))
            self.B.copy_(torch.tensor([1.0, 0.0]).expand_as(self.B))
            nn.init.normal_(self.C, std=0.5**0.5)
            nn.init.normal_(self.D)

    def discrete(self) -> tuple[Tensor, Tensor]:
        """Return ā and b̄, ``(features, order / 2)`` complex."""
        rate = torch.complex(-torch.exp(wide(self.decay_log)), wide(self.frequency))
        a, factor = discretised(self.method, rate, torch.exp(wide(self.delta_log)).unsqueeze(1))
        return a, factor * as_complex(self.B)

    def eigenvalues(self) -> Tensor:
        """Return ā, ``(features, order / 2)`` complex."""
        return self.discrete()[0]

    def run(self, x: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return y_t and the last state, feature after feature."""
        a, b = self.discrete()
        wider = wide(x)
        whole = along.reset is None and along.cu_seqlens is None and along.lengths is None
        if x.shape[0] == 0 or x.shape[-2] <= 1 or along.time_mesh is not None:
            y, last = self._by_steps(wider, a, b, state, along)
        elif x.ndim == 3 and not self.reverse and along.reset is None and along.cu_seqlens is None:
            y, last = self._by_chunks(wider, a, b, state, along.lengths)
        elif x.ndim == 3 and whole:
            y, last = self._by_chunks(wider.flip(1), a, b, state, None)
            y = y.flip(1)
        elif is_transformed(x):
            y, last = self._by_steps(wider, a, b, state, along)  # how many chunks there are is in the data
        else:
            y, last = self._by_cut_chunks(wider, a, b, state, along)
        return torch.addcmul(y, wide(self.D), wider), last

    def _by_steps(self, x: Tensor, a: Tensor, b: Tensor, state: Tensor | None, along: Along) -> tuple[Tensor, Tensor]:
        """Return 2 Re(C h_t) and the last state, by a scan over every step."""
        h, last = along.scan(Diagonal(a.flatten()), (x.unsqueeze(-1) * b).flatten(-2), state)
        return 2 * (h.reshape(*x.shape, self.order // 2) * as_complex(self.C)).sum(-1).real, last

    def _by_chunks(
        self, x: Tensor, a: Tensor, b: Tensor, state: Tensor | None, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the same by chunks: see the head of the file."""
        batch, time, features = x.shape
        L = min(CHUNK, time)
        count = (time + L - 1) // L
        inputs = _by_feature(x if time % L == 0 else F.pad(x, (0, 0, 0, count * L - time)), L)
        whole = Along(None, None, None, False, self.backend)
        from_inputs, from_state = recomputed(partial(self._weights, L), whole, (), (a, b, 2 * as_complex(self.C)))
        within, onward = from_inputs.split((L, self.order), -1)
        outward, over = from_state.split((L, 1), -1)
        # One row for every feature and sequence: the products' states as they lie in memory.
        driven = as_complex((inputs @ onward).view(features * batch, count, -1, 2))  # Σ_j P_{L-1-j} b̄ x_j
        first = self.initial_state(x, batch) if state is None else state
        entering = first.to(driven.dtype).view(batch, features, -1).transpose(0, 1).flatten(0, 1)
        step = as_complex(over.view(features, 1, -1, 2)).expand(-1, batch, -1).reshape(features * batch, 1, -1)
        borders, ended = whole.scan(Diagonal(step), driven, entering)
        # What a border's state adds to the chunk after it, of the first state and of those that follow.
        of_first, of_borders = (as_real(h).view(features, -1, self.order) @ outward for h in (entering, borders))
        following = of_borders.view(features, batch, count, L)[:, :, :-1]
        added = torch.cat((of_first.view(features, batch, 1, L), following), 2)
        y = torch.baddbmm(added.flatten(1, 2), inputs, within)
        y = _turned(y.flatten(1)).view(batch, count * L, features)
        if lengths is None and time % L == 0:
            return y, ended.view(features, batch, -1).transpose(0, 1).flatten(1)
        # A sequence that ends r steps into a chunk: P_r h + the inputs of those r steps, moved to the chunk's end
        ends = torch.full((batch,), time, device=x.device) if lengths is None else lengths.to(x.device).long()
        chunk = (ends // L).clamp(max=count - 1)
        rest, rows = ends - chunk * L, torch.arange(batch, device=x.device)
        at = ends.unsqueeze(1) + torch.arange(-L, 0, device=x.device)
        moved = x[rows.unsqueeze(1), at.clamp(min=0)].masked_fill((at < (chunk * L).unsqueeze(1)).unsqueeze(2), 0)
        before = torch.cat((entering.unsqueeze(1), borders[:, :-1]), 1).view(features, batch, count, -1)
        opening = before[:, rows, chunk].transpose(0, 1).flatten(1)
        grown = torch.exp(torch.log(a).flatten() * rest.unsqueeze(1)) * opening
        return y[:, :time], grown + self._states(_by_feature(moved, L) @ onward, batch)[:, 0]

    def _by_cut_chunks(
        self, x: Tensor, a: Tensor, b: Tensor, state: Tensor | None, along: Along
    ) -> tuple[Tensor, Tensor]:
        """Return the same of sequences that are cut by borders or resets, or padded and backward in time."""
        if x.ndim == 2:
            packed, row = along.cu_seqlens is not None, copy(along)
            row.reset = along.reset if along.reset is None else along.reset.unsqueeze(0)
            first = state if state is None or packed else state.unsqueeze(0)
            y, last = self._by_cut_chunks(x.unsqueeze(0), a, b, first, row)
            return y.squeeze(0), last if packed else last.squeeze(0)
        chunks = cut(along, x.shape[0], x.shape[1], CHUNK, x.device)
        if chunks.count == 0:  # nothing but padding
            return self._by_steps(x, a, b, state, along)
        first = self.entering(x, state, along)
        whole = Along(None, None, None, False, self.backend)
        weights = recomputed(partial(self._weights, chunks.size), whole, (), (a, b, 2 * as_complex(self.C)))
        turned = (x.flip(1) if self.reverse else x).flatten(0, 1)
        y, last = recomputed(partial(self._cut, chunks), whole, (turned, first), (a, *weights))
        y = y.view(x.shape)
        return y.flip(1) if self.reverse else y, last

    def _cut(
        self, chunks: Chunks, along: Along, x: Tensor, first: Tensor, a: Tensor, from_inputs: Tensor, from_state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the outputs of steps ``(steps, features)`` and the last states."""
        L = chunks.size
        within, onward = from_inputs.split((L, self.order), -1)
        outward, over = from_state.split((L, 1), -1)
        inputs = _turned(gathered(x, chunks.step, chunks.place)).view(self.input_size, -1, L)
        driven, entering = self._states(inputs @ onward, 1), first[chunks.order].to(a.dtype)
        states, _ = chunks.borders.scan(Diagonal(as_complex(over.view(-1, 2))), driven, entering)
        before, _ = chunks.borders.before(states, entering)
        y = torch.baddbmm(self._parts(before) @ outward, inputs, within)
        y = gathered(_turned(y.flatten(1)), chunks.place, chunks.step)
        # A sequence that ends r steps into a chunk: P_r h + the inputs of those r steps, moved to the chunk's end
        place = chunks.place[chunks.last]
        rest, j = place % L + 1, torch.arange(1 - L, 1, device=x.device)
        moved = x[(chunks.last.unsqueeze(1) + j).clamp(min=0)].masked_fill((rest.unsqueeze(1) + j <= 0).unsqueeze(2), 0)
        grown = torch.exp(torch.log(a).flatten() * rest.unsqueeze(1)) * before[0, place // L]
        ended = grown + self._states(_by_feature(moved, L) @ onward, len(rest))[:, 0]
        return y, first.to(a.dtype).index_copy(0, chunks.order, ended)

    def _weights(self, L: int, along: Along, a: Tensor, b: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        """Return every feature's matrices, from a chunk's inputs and from the state before it.

        The first, ``(features, L, L + order)``, lead to its outputs and, beside them, to the state at its end; the
        second, ``(features, order, L + 1)``, to its outputs, and beside them stand P_L's parts in turn.
        """
        powers, next_power = a.new_ones(*a.shape, 1), a.unsqueeze(-1)  # P_0 ... P_{L-1}, by doubling
        while powers.shape[-1] < L:
            powers = torch.cat((powers, powers * next_power), -1)
            next_power = next_power * next_power
        powers = powers[..., :L]
        kernel = torch.einsum("fn,fnl->fl", C * b, powers).real  # K_l
        within = F.pad(kernel, (L - 1, 0)).unfold(-1, L, 1).flip(1)  # K_{i-j}
        onward = as_real(b.unsqueeze(-1) * powers.flip(-1)).permute(0, 2, 1, 3).flatten(2)
        outward = (C * a).unsqueeze(-1) * powers  # 2 Re(C P_{i+1} h) = [Re, -Im] [Re h; Im h]
        over = as_real(a * powers[..., -1]).unsqueeze(-1)  # P_L
        from_state = torch.cat((torch.stack((outward.real, -outward.imag), 2), over), -1)
        return torch.cat((within, onward), -1), from_state.flatten(1, 2)

    def _states(self, x: Tensor, batch: int) -> Tensor:
        """Return ``(features, batch * chunks, order)``, parts in turn, as ``(batch, chunks, state_size)`` complex."""
        states = as_complex(x.reshape(*x.shape[:2], self.order // 2, 2)).transpose(0, 1)
        return states.reshape(batch, x.shape[1] // batch, self.state_size)

    def _parts(self, h: Tensor) -> Tensor:
        """Return states ``(batch, chunks, state_size)`` as :meth:`_states` is given them."""
        return as_real(h.reshape(-1, self.input_size, self.order // 2)).flatten(2).transpose(0, 1)


def _by_feature(x: Tensor, steps: int) -> Tensor:
    """Return x ``(batch, time, features)`` as ``(features, batch * chunks, steps)``."""
    return _turned(x.flatten(0, 1)).view(x.shape[2], -1, steps)


class _Turned(torch.autograd.Function):
    """The transpose, in order in memory both ways: products of many matrices are slow at other strides."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.mT.contiguous()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _turned(g)


def _turned(x: Tensor) -> Tensor:
    if is_transformed(x):
        return x.mT.contiguous()
    turned: Tensor = _Turned.apply(x)
    return turned


def initial_rate(initial: str, order: int) -> Tensor:
    """Return a at the start, ``(order / 2,)`` complex128.

    Examples:
        >>> initial_rate("lin", 4).imag / math.pi
        tensor([0., 1.], dtype=torch.float64)
    """
    if initial == "legs":
        return hippo_normal(order)[0]
    n = torch.arange(order // 2, dtype=torch.float64)
    frequency = math.pi * n if initial == "lin" else order / math.pi * (order / (2 * n + 1) - 1)
    return torch.complex(torch.full_like(n, -0.5), frequency)
