"""Deep models: blocks of norm, recurrence, mixing and residual, between an encoder and a decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everyone knows it by
from torch.utils.checkpoint import checkpoint

from retrograd.errors import require_choice, require_whole
from retrograd.nn.bidirectional import Bidirectional
from retrograd.nn.hgrn import HGRN, LowerBounds
from retrograd.nn.linear_rnn import LinearRNN
from retrograd.nn.lru import LRU
from retrograd.nn.min_gru import MinGRU
from retrograd.nn.min_lstm import MinLSTM
from retrograd.nn.qrnn import QRNN
from retrograd.nn.recurrence import Projection, Recurrence, padding_of
from retrograd.nn.rg_lru import RGLRU
from retrograd.nn.s4d import S4D
from retrograd.nn.s5 import S5
from retrograd.nn.sharded import AlongTime, shard_time
from retrograd.nn.sru import SRU

__all__ = ["LAYERS", "SequenceBlock", "SequenceModel"]

# A layer of so many features in and out, by name.
LAYERS: dict[str, Callable[..., Recurrence | LinearRNN]] = {
    "LRU": lambda width, **options: LRU(width, options.pop("state_size", width), **options),
    "S4D": S4D,
    "S5": lambda width, **options: S5(width, options.pop("state_size", width), **options),
    "MinGRU": lambda width, **options: MinGRU(width, width, **options),
    "MinLSTM": lambda width, **options: MinLSTM(width, width, **options),
    "RGLRU": RGLRU,
    "HGRN": HGRN,
    "QRNN": lambda width, **options: QRNN(width, width, **options),
    "SRU": lambda width, **options: SRU(width, width, **options),
    "LinearRNN": lambda width, **options: LinearRNN(width, width, batch_first=True, **options),
}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": nn.RMSNorm,
    "none": lambda _: nn.Identity(),
}
MIXINGS = ("glu", "mlp", "none")
POOLINGS = ("none", "last", "mean", "max")
Layer = Any  # a module with Recurrence's forward and step


class SequenceBlock(nn.Module):
    """x + dropout(mix(layer(norm(x)))): a recurrence over time, then a map of every step's features.

    The norm looks at one step's features, never at other steps or rows: padding and resets stay without effect.

    Args:
        layer: with the interface of :class:`retrograd.nn.MinGRU`.
        norm: before the layer: ``"layer"``, ``"rms"`` or ``"none"``.
        mixing: after the layer. ``"glu"``: (W y + b) σ(V y + c) of y = GELU(output); ``"mlp"``: W GELU(output) + b;
            ``"none"``: the output itself, which must then be as wide as the input.
        dropout: in training, the probability to zero a feature of the sum's second part.
        time_mesh: the ranks on which the layer's time lies, as :func:`retrograd.nn.shard_time` takes them.

    Raises:
        InputError: ``norm`` or ``mixing`` is unknown.
        ValueError: ``mixing`` is ``"none"`` and the layer's output is not as wide as its input.

    Examples:
        >>> from retrograd.nn import MinGRU
        >>> block = SequenceBlock(MinGRU(4, 6))
        >>> block(torch.randn(2, 10, 4))[0].shape
        torch.Size([2, 10, 4])
    """

    def __init__(
        self,
        layer: Layer,
        *,
        norm: str = "layer",
        mixing: str = "glu",
        dropout: float = 0.0,
        time_mesh: Any = None,
    ) -> None:
        require_choice("norm", norm, list(NORMS))
        require_choice("mixing", mixing, MIXINGS)
        super().__init__()
        width, out = layer.input_size, layer.output_size
        if mixing == "none" and width != out:
            raise ValueError(f"mixing is 'none' and the layer makes {out} features of {width}: use 'glu' or 'mlp'")
        self.norm, self.layer, self.mixing = NORMS[norm](width), layer, mixing
        self.mix = nn.Identity() if mixing == "none" else Projection(out, 2 * width if mixing == "glu" else width)
        self.dropout = nn.Dropout(dropout)
        shard_time(self, time_mesh)

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the block's outputs and the layer's last state; arguments as the layer's."""
        if lengths is not None:
            x = x.masked_fill(padding_of(x, lengths), 0)
        more = {} if cu_seqlens is None else {"cu_seqlens": cu_seqlens}
        y, state = self.layer(self.norm(x), state, lengths=lengths, reset=reset, **more)
        return self._mixed(x, y), state

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the block's output of one step and the layer's state after it."""
        y_t, state = self.layer.step(self.norm(x_t), state)
        return self._mixed(x_t, y_t), state

    def _mixed(self, x: Tensor, y: Tensor) -> Tensor:
        if self.mixing != "none":
            y = self.mix(F.gelu(y))
            y = F.glu(y) if self.mixing == "glu" else y
        mixed: Tensor = x + self.dropout(y)
        return mixed


class SequenceModel(AlongTime):
    """An encoder, blocks, and a decoder: of every step, or of a pooled sequence.

    Args:
        inputs: features of x; with ``tokens``, how many tokens there are.
        outputs: features of y.
        layer: name in ``LAYERS``: LRU, S4D, S5, MinGRU, MinLSTM, RGLRU, HGRN, QRNN, SRU or LinearRNN.
        width: features between encoder and decoder.
        depth: blocks.
        tokens: x are integers below ``inputs``, and the encoder an embedding.
        pooling: ``"none"``: y of every step; ``"last"``, ``"mean"`` or ``"max"`` over each sequence's steps: one y.
        norm: of every block, and before the decoder.
        mixing: of every block.
        dropout: of every block.
        bidirectional: every block has a layer in each direction; then there is no step.
        recompute: keep only the blocks' inputs for the backward pass, one activation a block whatever its layer, and
            run each block again when its turn comes: a third more work.
        time_mesh: the ranks on which its time lies, as :func:`retrograd.nn.shard_time` takes them; not with pooling.
        **options: of the layer, as ``state_size=``.

    Raises:
        InputError: a name is unknown, or a number outside its range.
        ValueError: ``time_mesh`` is given, and the model pools.

    Examples:
        >>> model = SequenceModel(3, 10, layer="LRU", width=16, depth=2, pooling="mean")
        >>> model(torch.randn(4, 100, 3))[0].shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        layer: str = "MinGRU",
        width: int = 64,
        depth: int = 2,
        tokens: bool = False,
        pooling: str = "none",
        norm: str = "layer",
        mixing: str = "glu",
        dropout: float = 0.0,
        bidirectional: bool = False,
        recompute: bool = False,
        time_mesh: Any = None,
        **options: Any,
    ) -> None:
        require_choice("layer", layer, list(LAYERS))
        require_choice("pooling", pooling, POOLINGS)
        require_whole("depth", depth)
        super().__init__()
        self.pooling, self.recompute = pooling, recompute
        self.encoder: nn.Module = nn.Embedding(inputs, width) if tokens else Projection(inputs, width)
        if layer == "HGRN":
            options = {"bounds": LowerBounds(depth, width), **options}
        blocks = []
        for k in range(depth):
            given = {**options, "layer": k} if layer == "HGRN" else options

            def make(reverse: bool = False, given: dict[str, Any] = given) -> Any:
                return LAYERS[layer](width, **given, **({"reverse": True} if reverse else {}))

            made: Layer
            if layer == "LinearRNN":
                made = LAYERS[layer](width, **given, bidirectional=bidirectional)
            else:
                made = Bidirectional(make) if bidirectional else make()
            blocks.append(SequenceBlock(made, norm=norm, mixing=mixing, dropout=dropout))
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm = NORMS[norm](width)
        self.decoder = Projection(width, outputs)
        shard_time(self, time_mesh)

    def require_shardable(self) -> None:
        """Raise ``ValueError`` where the model pools over time."""
        if self.pooling != "none":
            raise ValueError(f"model pools over time ({self.pooling!r}), of which each rank has a part: use 'none'")

    def forward(
        self,
        x: Tensor,
        states: tuple[Tensor, ...] | None = None,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the outputs, and every block's last state.

        Args:
            x: ``(batch, time, inputs)`` or, of tokens, integers ``(batch, time)``; without a batch axis too.
            states: what an earlier call returned; zero by default.
            lengths: as of a layer.
            reset: as of a layer. Pooling takes a row as one sequence.
            cu_seqlens: as of a layer; not with pooling.

        Returns:
            ``(y, states)``: y ``(batch, time, outputs)``, pooled ``(batch, outputs)``.

        Raises:
            ValueError: ``cu_seqlens`` with pooling, or shapes that do not fit.
        """
        if self.pooling != "none" and cu_seqlens is not None:
            raise ValueError("cu_seqlens was given and pooling is not 'none': pool padded sequences, by lengths")
        if lengths is not None and x.is_floating_point():
            x = x.masked_fill(padding_of(x, lengths), 0)
        h, last = self.encoder(x), []
        for k, block in enumerate(self.blocks):
            given = h, None if states is None else states[k], lengths, reset, cu_seqlens
            if self.recompute and torch.is_grad_enabled():
                h, state = checkpoint(block, *given, use_reentrant=False)
            else:
                h, state = block(*given)
            last.append(state)
        h = self.norm(h if self.pooling == "none" else self._pooled(h, lengths))
        return self.decoder(h), tuple(last)

    def step(self, x_t: Tensor, states: tuple[Tensor, ...] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the output of one step, ``(batch, outputs)``, and every block's state after it; not with pooling.

        Raises:
            ValueError: the model pools, or is bidirectional.
        """
        if self.pooling != "none":
            raise ValueError(f"pooling is {self.pooling!r}: a step has no output of its own; use pooling='none'")
        h, after = self.encoder(x_t), []
        for k, block in enumerate(self.blocks):
            h, state = block.step(h, None if states is None else states[k])
            after.append(state)
        return self.decoder(self.norm(h)), tuple(after)

    def _pooled(self, h: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the last, mean or largest features of each sequence; of an empty one zeros."""
        if lengths is None:
            if self.pooling == "last":
                return h[..., -1, :]
            return h.mean(-2) if self.pooling == "mean" else h.amax(-2)
        lengths = lengths.to(h.device)
        if self.pooling == "last":
            rows = torch.arange(len(h), device=h.device)
            found = h[rows, (lengths - 1).clamp(min=0)]
        else:
            padding = padding_of(h, lengths)
            if self.pooling == "mean":
                found = h.masked_fill(padding, 0).sum(1) / lengths.clamp(min=1).unsqueeze(1)
            else:
                found = h.masked_fill(padding, -torch.inf).amax(1)
        return found.masked_fill((lengths == 0).unsqueeze(1), 0)
