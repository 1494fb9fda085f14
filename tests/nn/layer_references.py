"""Each layer as its paper writes it: one step after the other, in float64, with parameters by name.

A reference takes one sequence, ``x`` a list of steps ``(input,)`` and the state before it, and returns the outputs and
the state after it. Its sums and gates are written out here on their own, so that a slip in a layer shows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kinds import Kind
from retrograd.nn import HGRN, LRU, QRNN, RGLRU, S4D, S5, SRU, MinGRU, MinLSTM
from retrograd.nn.recurrence import Recurrence

Weights = dict[str, Tensor]
Result = tuple[list[Tensor], Tensor]
Reference = Callable[..., Result]


def sigmoid(v: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-v))


def of(w: Weights, name: str, x: Tensor) -> Tensor:
    v = w[f"{name}.weight"] @ x
    return v + w[f"{name}.bias"] if f"{name}.bias" in w else v


def number(pair: Tensor) -> Tensor:
    return pair[..., 0] + 1j * pair[..., 1]


def lru(layer: LRU, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    ys = []
    size = torch.exp(-torch.exp(w["nu_log"]))
    phase = torch.exp(w["theta_log"])
    a = size * torch.cos(phase) + 1j * size * torch.sin(phase)
    gamma = torch.exp(w["gamma_log"]) if layer.normalise else 1
    for x_t in x:
        h = a * h + gamma * (number(w["B"]) @ (x_t + 0j))
        ys.append((number(w["C"]) @ h).real + w["D"] * x_t)
    return ys, h


def zoh_or_bilinear(method: str, rate: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    if method == "zoh":
        a = torch.exp(rate * delta)
        return a, (a - 1) / rate
    return (1 + delta / 2 * rate) / (1 - delta / 2 * rate), delta / (1 - delta / 2 * rate)


def s5(layer: S5, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    rate = -torch.exp(w["decay_log"]) + 1j * w["frequency"]
    a, b = zoh_or_bilinear(layer.method, rate, torch.exp(w["delta_log"]))
    ys = []
    for x_t in x:
        h = a * h + b * (number(w["B"]) @ (x_t + 0j))
        ys.append(2 * (number(w["C"]) @ h).real + w["D"] * x_t)
    return ys, h


def s4d(layer: S4D, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    rate = -torch.exp(w["decay_log"]) + 1j * w["frequency"]
    a, b = zoh_or_bilinear(layer.method, rate, torch.exp(w["delta_log"])[:, None])
    ys, h = [], h.view(a.shape)
    for x_t in x:
        h = a * h + b * number(w["B"]) * x_t[:, None]
        ys.append(2 * (number(w["C"]) * h).sum(1).real + w["D"] * x_t)
    return ys, h.flatten()


def g(v: Tensor) -> Tensor:
    return torch.stack([e + 0.5 if e >= 0 else sigmoid(e) for e in v])


def min_gru(layer: MinGRU, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    ys = []
    for x_t in x:
        z, candidate = sigmoid(of(w, "gate", x_t)), of(w, "candidate", x_t)
        candidate = g(candidate) if layer.positive_candidate else candidate
        h = (1 - z) * h + z * candidate
        ys.append(h)
    return ys, h


def min_lstm(layer: MinLSTM, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    ys = []
    for x_t in x:
        f, i, candidate = sigmoid(of(w, "forget", x_t)), sigmoid(of(w, "input", x_t)), of(w, "candidate", x_t)
        candidate = g(candidate) if layer.positive_candidate else candidate
        h = f / (f + i) * h + i / (f + i) * candidate
        ys.append(h)
    return ys, h


def rg_lru(layer: RGLRU, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    ys = []
    for x_t in x:
        r, i = sigmoid(of(w, "recurrence_gate", x_t)), sigmoid(of(w, "input_gate", x_t))
        a = sigmoid(w["logit"]) ** (layer.c * r)
        h = a * h + torch.sqrt(1 - a**2) * (i * x_t)
        ys.append(h)
    return ys, h


def hgrn(layer: HGRN, w: Weights, x: list[Tensor], h: Tensor) -> Result:
    ys, bound = [], torch.zeros(layer.input_size)
    if "bounds.logits" in w:
        e = torch.exp(w["bounds.logits"])
        bound = (e / e.sum(0))[: layer.layer].sum(0)
    for x_t in x:
        re, im = of(w, "real", x_t), of(w, "imaginary", x_t)
        c = re * sigmoid(re) + 1j * im * sigmoid(im)
        keep = bound + (1 - bound) * sigmoid(of(w, "forget", x_t))
        h = keep * torch.exp(1j * w["theta"]) * h + (1 - keep) * c
        ys.append(of(w, "output", sigmoid(of(w, "gate", x_t)) * torch.cat((h.real, h.imag))))
    return ys, h


def qrnn(layer: QRNN, w: Weights, x: list[Tensor], state: Tensor) -> Result:
    c = state[: layer.hidden_size]
    past = [*state[layer.hidden_size :].split(layer.input_size)] if layer.window > 1 else []
    hs = []
    for x_t in x:
        window = [x_t, *past]

        def convolved(name: str, window: list[Tensor] = window) -> Tensor:
            return torch.stack([of(w, f"{name}.{k}", one) for k, one in enumerate(window)]).sum(0)

        z, f = torch.tanh(convolved("z")), sigmoid(convolved("f"))
        c = f * c + (sigmoid(convolved("i")) if layer.pooling == "ifo" else 1 - f) * z
        hs.append(c if layer.pooling == "f" else sigmoid(convolved("o")) * c)
        past = window[:-1]
    return hs, torch.cat([c, *past])


def sru(layer: SRU, w: Weights, x: list[Tensor], c: Tensor) -> Result:
    ys = []
    for x_t in x:
        f, r = sigmoid(of(w, "forget", x_t)), sigmoid(of(w, "highway", x_t))
        c = f * c + (1 - f) * of(w, "candidate", x_t)
        ys.append(r * c + (1 - r) * layer.alpha * (of(w, "widen", x_t) if layer.widen is not None else x_t))
    return ys, c


MAKE: dict[str, tuple[Callable[..., Recurrence], Reference]] = {
    "LRU": (lambda **o: LRU(3, 4, **o), lru),
    "LRU, not normalised": (lambda **o: LRU(3, 2, r_min=0.5, r_max=0.9, normalise=False, **o), lru),
    "S5": (lambda **o: S5(3, 4, blocks=2, **o), s5),
    "S5, bilinear": (lambda **o: S5(3, 2, method="bilinear", delta_min=0.5, delta_max=1.0, **o), s5),
    "S4D": (lambda **o: S4D(3, 4, delta_min=0.1, **o), s4d),
    "S4D, bilinear": (lambda **o: S4D(3, 4, method="bilinear", initial="inv", **o), s4d),
    "MinGRU": (lambda **o: MinGRU(3, 4, **o), min_gru),
    "MinGRU, positive": (lambda **o: MinGRU(3, 4, positive_candidate=True, bias=False, **o), min_gru),
    "MinLSTM": (lambda **o: MinLSTM(3, 4, **o), min_lstm),
    "MinLSTM, positive": (lambda **o: MinLSTM(3, 4, positive_candidate=True, **o), min_lstm),
    "RGLRU": (lambda **o: RGLRU(3, **o), rg_lru),
    "HGRN": (lambda **o: HGRN(3, **o), hgrn),
    "HGRN, bounded": (lambda **o: HGRN(3, bounds=bounds(), layer=1, **o), hgrn),
    "QRNN": (lambda **o: QRNN(3, 4, **o), qrnn),
    "QRNN, f, window of 3": (lambda **o: QRNN(3, 2, pooling="f", window=3, **o), qrnn),
    "QRNN, ifo, window of 1": (lambda **o: QRNN(3, 2, pooling="ifo", window=1, **o), qrnn),
    "SRU": (lambda **o: SRU(3, 4, **o), sru),
    "SRU, as wide": (lambda **o: SRU(3, 3, highway_bias=-1.0, **o), sru),
}


def bounds() -> torch.nn.Module:
    from retrograd.nn import LowerBounds

    made = LowerBounds(3, 3)
    torch.nn.init.normal_(made.logits)
    return made


def made(name: str, **options: object) -> Recurrence:
    """A layer of the table in float64, the same numbers on every run."""
    torch.manual_seed(list(MAKE).index(name))
    return MAKE[name][0](**options).double()


def by_the_loop(name: str, layer: Recurrence, x: Tensor, h0: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """Every piece of every sequence on its own, as the paper writes it."""
    weights = dict(layer.named_parameters())
    y = [[x.new_zeros(layer.output_size)] * kind.time for _ in range(kind.batch)]
    last = [*h0.unbind()]
    for row, begin, end, start, final in kind.pieces(layer.reverse):
        before = torch.zeros_like(h0[0]) if start is None else h0[start]
        steps = [*range(begin, end)][:: -1 if layer.reverse else 1]
        outputs, after = MAKE[name][1](layer, weights, [x[row, t] for t in steps], before)
        for t, output in zip(steps, outputs, strict=True):
            y[row][t] = output
        if final is not None:
            last[final] = after
    return torch.stack([torch.stack(one) for one in y]), torch.stack(last)
