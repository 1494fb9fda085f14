"""A chirp demodulated in Gaussian noise by a recurrence whose rates are learned.

A symbol s, one of four phases, is sent on a chirp, a wave whose frequency rises, and arrives in complex white noise:

    x_t = s exp(i φ_t) / √N + noise_t,    φ_t = 2π (f t + r t² / 2),    t = 0..N-1

A complex diagonal recurrence that changes with time turns its state against the chirp:

    h_t = a_t h_{t-1} + x_t,    a_t = exp(−ρ + i (α + β (t/N − 1))),    decision: the quadrant of w h_N

With α and β those of the chirp and ρ = 0, h_N is the correlation with the chirp: the matched filter, which no receiver
beats. The network is told neither rate. It starts with α = β = 0 and a short memory (large ρ), in which the chirp
looks like a wave of one frequency; the gradient through the scan finds that one first, then the others as its memory
grows. Its symbol error rate is held against the matched filter's, 2 Q(√γ) − Q(√γ)², γ = E_s / N_0.

    python examples/chirp.py
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import erfc
from scipy.stats import binomtest
from torch import Tensor

import pictures
import retrograd as rg
from retrograd import palette

SAMPLES, FREQUENCY, RISE = 64, 0.02, 0.2
BATCH, EPOCHS, RATE, TRAINED_AT = 128, 1000, 0.05, 6.0
DECIBELS = np.arange(-2, 13, 1.0)
SHOWN = {0: "before learning", 150: "after 150 epochs", EPOCHS: f"after {EPOCHS} epochs"}
Array = np.ndarray[Any, Any]


def chirp() -> Tensor:
    """Return the chirp, of energy 1, ``(N,)``."""
    t = torch.arange(SAMPLES, dtype=torch.float64)
    phase = 2 * math.pi * (FREQUENCY * t + RISE / SAMPLES * t**2 / 2)
    return torch.polar(torch.full_like(phase, SAMPLES**-0.5), phase)


def receive(count: int, decibels: float, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return symbols, and what arrives of each, ``(count, N)``."""
    quadrant = torch.randint(0, 4, (count,), generator=source)
    symbols = torch.polar(torch.ones(count, dtype=torch.float64), math.pi / 4 + math.pi / 2 * quadrant.double())
    noise = torch.randn(count, SAMPLES, dtype=torch.complex128, generator=source) * 10 ** (-decibels / 20)
    return symbols, symbols[:, None] * chirp() + noise


@dataclass
class Receiver:
    """The recurrence and its four learned numbers: α and β in radians a step, log ρ, and the read-out w."""

    alpha: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    beta: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    log_decay: Tensor = field(default_factory=lambda: torch.tensor(math.log(0.3), dtype=torch.float64))
    readout: Tensor = field(default_factory=lambda: torch.full((), 0.3, dtype=torch.complex128))

    def parameters(self) -> list[Tensor]:
        """Return what is learned."""
        return [self.alpha, self.beta, self.log_decay, self.readout]

    def transition(self) -> Tensor:
        """Return a_t, ``(N,)``."""
        t = torch.arange(SAMPLES, dtype=torch.float64) / SAMPLES
        return torch.exp(torch.complex(-torch.exp(self.log_decay).expand(SAMPLES), self.alpha + self.beta * (t - 1)))

    def __call__(self, x: Tensor) -> Tensor:
        """Return w h_N of what arrived."""
        _, final = rg.scan(rg.Diagonal(self.transition()[None, :, None]), x[..., None])
        return self.readout * final[:, 0]

    def match(self) -> float:
        """Return how much of the matched filter's signal-to-noise ratio is reached, 1 at most."""
        a = self.transition().detach()
        # What h_N makes of x_t: the product of the transitions after it.
        weights = torch.cumprod(torch.cat([a.new_ones(1), a[1:].flip(0)]), 0).flip(0)
        return float((weights * chirp()).sum().abs() ** 2 / weights.norm() ** 2)


@dataclass(frozen=True)
class Result:
    """What was learned.

    Attributes:
        receiver: after the training.
        losses: mean squared error of w h_N against the symbol, by epoch.
        matches: share of the matched filter's signal-to-noise ratio, by epoch.
        errors: symbol errors at each of ``DECIBELS``, by the epochs in ``SHOWN``.
        count: of symbols at each.
    """

    receiver: Receiver
    losses: list[float]
    matches: list[float]
    errors: dict[int, Array]
    count: int


def errors(receiver: Receiver, count: int, seed: int = 1) -> Array:
    """Count symbol errors at every signal-to-noise ratio."""
    source, found = torch.Generator().manual_seed(seed), []
    for decibels in DECIBELS:
        wrong = 0
        for _ in range(count // 20_000):
            symbols, x = receive(20_000, decibels, source)
            with torch.no_grad():
                turned = receiver(x) / symbols
            # Right is what lies within 45 degrees of the symbol.
            wrong += int((turned.angle().abs() >= math.pi / 4).sum())
        found.append(wrong)
    return np.array(found)


def compute(count: int = 200_000, seed: int = 0) -> Result:
    """Train on known symbols, and count errors on unknown ones."""
    source = torch.Generator().manual_seed(seed)
    receiver = Receiver()
    parameters = [parameter.requires_grad_() for parameter in receiver.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    losses, matches, found = [], [], {0: errors(receiver, count)}
    for epoch in range(1, EPOCHS + 1):
        symbols, x = receive(BATCH, TRAINED_AT, source)
        loss = (receiver(x) - symbols).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        matches.append(receiver.match())
        if epoch in SHOWN:
            found[epoch] = errors(receiver, count)
    return Result(receiver, losses, matches, found, count)


def bound(decibels: Array) -> Array:
    """Return the matched filter's symbol error rate for four phases."""
    q = 0.5 * erfc(np.sqrt(10 ** (decibels / 10) / 2))
    return 2 * q - q**2


def draw(result: Result) -> Any:
    """Draw what was learned, and the error rates against the bound."""
    drawn, (left, right) = pictures.figure(1, 2, size=(9.0, 4.0), width_ratios=(1, 1.3))
    left.plot(np.arange(1, EPOCHS + 1), 10 * np.log10(result.matches), color=palette.BLUE)
    left.axhline(0, color=palette.BLACK, ls=":")
    left.set(
        xlabel="epoch", ylabel="signal-to-noise ratio against\nthe matched filter's, dB", title="Learning the rates"
    )
    fine = np.linspace(DECIBELS[0], DECIBELS[-1], 200)
    right.semilogy(fine, bound(fine), color=palette.BLACK, label="matched filter, exact")
    looks = ((palette.VERMILLION, "^"), (palette.ORANGE, "s"), (palette.BLUE, "o"))
    for (epoch, label), (color, mark) in zip(SHOWN.items(), looks, strict=True):
        counts = result.errors[epoch]
        rates = counts / result.count
        intervals = [binomtest(int(k), result.count).proportion_ci(method="wilson") for k in counts]
        seen = counts > 0
        low = np.array([one.low for one in intervals])
        high = np.array([one.high for one in intervals])
        bars = np.stack([rates - low, high - rates]).clip(0)[:, seen]
        right.errorbar(DECIBELS[seen], rates[seen], bars, fmt=mark, color=color, ms=5, capsize=2, lw=1, label=label)
        # No error was seen: the rate is below this.
        right.plot(DECIBELS[~seen], high[~seen], "v", color=color, mfc="white")
    right.set(
        xlabel="E_s / N_0, dB",
        ylabel="symbol error rate",
        title=f"{result.count:,} symbols a point, 95 % intervals",
        ylim=(1e-5, 1.3),
    )
    right.legend(loc="lower left")
    return drawn


def main() -> None:
    """Train, say what was learned, draw."""
    wanted = pictures.arguments(__doc__, "chirp.png")
    result = compute()
    beta = 2 * math.pi * RISE
    print(f"β = {float(result.receiver.beta.detach()):.4f} radians a step; the chirp's: {beta:.4f}.")
    print(f"Signal-to-noise ratio against the matched filter: {10 * math.log10(result.matches[-1]):.3f} dB.")
    for epoch, label in SHOWN.items():
        rates = ", ".join(f"{count / result.count:.2g}" for count in result.errors[epoch][2::5])
        print(f"Symbol error rate {label} at {', '.join(f'{d:g}' for d in DECIBELS[2::5])} dB: {rates}")
    print(f"Matched filter: {', '.join(f'{rate:.2g}' for rate in bound(DECIBELS)[2::5])}")
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
