"""A chirp demodulated in Gaussian noise by a recurrence whose rates are learned.

A symbol s, one of four phases, is sent on a chirp, a wave whose frequency rises, and arrives in complex white noise:

    x_t = s exp(i φ_t) / √N + noise_t,    φ_t = 2π (f t + r t² / (2N)),    t = 0..N-1

A complex diagonal recurrence that changes with time turns its state against the chirp:

    h_t = a_t h_{t-1} + x_t,    a_t = exp(−ρ + i (α + β (t/N − 1))),    decision: the quadrant of w h_{N-1}

The network knows that the frequency rises in a straight line; it learns the height α and the slope β. With those of the
chirp (the angle of a_t is then φ_t − φ_{t-1}) and ρ = 0, h_{N-1} is the correlation with the chirp: the matched filter,
which no receiver beats. The network starts with α = β = 0 and a short memory (large ρ), in which the chirp looks like a
wave of one frequency; the gradient through the scan finds that one first, then the others as the memory grows. Such a
start finds a chirp if its frequency ends low enough; the script measures how low. It compares the symbol error rate
with the matched filter's, 2 Q(√γ) − Q(√γ)², γ = E_s / N_0.

    python examples/chirp.py
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.special import erfc
from scipy.stats import binomtest
from torch import Tensor

import pictures
import retrograd as rg
from retrograd.pictures import palette

SAMPLES, FREQUENCY, RISE = 64, 0.02, 0.2
BATCH, EPOCHS, RATE, TRAINED_AT = 128, 1000, 0.05, 6.0
DECIBELS = np.arange(-2, 13, 1.0)
SHOWN = {0: "before learning", 150: "after 150 epochs", EPOCHS: f"after {EPOCHS} epochs"}
# Found: within half a decibel of the matched filter. Tried with chirps that end at these frequencies, cycles a step.
FOUND_DB, ENDS, SEEDS = -0.5, (0.22, 0.27, 0.32, 0.37, 0.42), 4
Array = np.ndarray[Any, Any]


def frequency(rise: float = RISE) -> Array:
    """Return the chirp's from step to step, (φ_t − φ_{t-1}) / 2π, t = 1..N-1, in cycles a step."""
    return FREQUENCY + rise / SAMPLES * (np.arange(1, SAMPLES) - 0.5)


def chirp(rise: float = RISE) -> Tensor:
    """Return the chirp, of energy 1, ``(N,)``."""
    t = torch.arange(SAMPLES, dtype=torch.float64)
    phase = 2 * math.pi * (FREQUENCY * t + rise / SAMPLES * t**2 / 2)
    return torch.polar(torch.full_like(phase, SAMPLES**-0.5), phase)


def receive(count: int, decibels: float, source: torch.Generator, rise: float = RISE) -> tuple[Tensor, Tensor]:
    """Return symbols, and what arrives of each, ``(count, N)``."""
    quadrant = torch.randint(0, 4, (count,), generator=source)
    symbols = torch.polar(torch.ones(count, dtype=torch.float64), math.pi / 4 + math.pi / 2 * quadrant.double())
    noise = torch.randn(count, SAMPLES, dtype=torch.complex128, generator=source) * 10 ** (-decibels / 20)
    return symbols, symbols[:, None] * chirp(rise) + noise


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
        """Return w h_{N-1} of what arrived."""
        _, final = rg.scan(rg.Diagonal(self.transition()[None, :, None]), x[..., None])
        return self.readout * final[:, 0]

    def track(self) -> Array:
        """Return the angle of a_t, t = 1..N-1, in cycles a step."""
        return self.transition().detach().angle().numpy()[1:] / (2 * math.pi)

    def gathered(self, rise: float = RISE) -> complex:
        """Return what h_{N-1} makes of a chirp: amplitude, against noise of its own size, and phase."""
        a = self.transition().detach()
        # Of x_t: the product of the transitions after it.
        weights = torch.cumprod(torch.cat([a.new_ones(1), a[1:].flip(0)]), 0).flip(0)
        return complex((weights * chirp(rise)).sum() / weights.norm())

    def match(self, rise: float = RISE) -> float:
        """Return the signal-to-noise ratio against the matched filter's in dB, 0 at most."""
        return 20 * math.log10(abs(self.gathered(rise)))

    def turned(self) -> float:
        """Return by how many degrees the read-out turns a symbol too far."""
        return math.degrees(cmath.phase(complex(self.readout.detach()) * self.gathered()))


@dataclass(frozen=True)
class Result:
    """What was learned.

    Attributes:
        matches: signal-to-noise ratio against the matched filter's in dB, by epoch.
        tracks: the angle of a_t in cycles a step, by the epochs in ``SHOWN``,
        turned: by how many degrees the read-out is off, and
        errors: symbol errors at each of ``DECIBELS``, likewise.
        count: of symbols at each.
        found: from how many of ``SEEDS`` starts a chirp is found, by the frequency at its end.
    """

    matches: list[float]
    tracks: dict[int, Array]
    turned: dict[int, float]
    errors: dict[int, Array]
    count: int
    found: dict[float, int]


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


def train(seed: int = 0, rise: float = RISE) -> Iterator[Receiver]:
    """Train on known symbols; yield the receiver before the training, and after every epoch."""
    source = torch.Generator().manual_seed(seed)
    receiver = Receiver()
    parameters = [parameter.requires_grad_() for parameter in receiver.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    yield receiver
    for _ in range(EPOCHS):
        symbols, x = receive(BATCH, TRAINED_AT, source, rise)
        loss = (receiver(x) - symbols).abs().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        yield receiver


def finds(end: float, seed: int) -> bool:
    """Whether a chirp that ends at some frequency is found."""
    *_, receiver = train(seed, end - FREQUENCY)
    return receiver.match(end - FREQUENCY) > FOUND_DB


def compute(seed: int = 0, count: int = 200_000, ends: tuple[float, ...] = ENDS, seeds: int = SEEDS) -> Result:
    """Train, count errors on unknown symbols, and try other chirps."""
    matches, tracks, turned, wrong = [], {}, {}, {}
    for epoch, receiver in enumerate(train(seed)):
        matches.append(receiver.match())
        if epoch in SHOWN:
            tracks[epoch], turned[epoch], wrong[epoch] = receiver.track(), receiver.turned(), errors(receiver, count)
    found = {end: sum(finds(end, seed + k) for k in range(seeds)) for end in ends}
    return Result(matches, tracks, turned, wrong, count, found)


def figures(result: Result) -> dict[str, float]:
    """Return the numbers that docs/gallery.md gives."""
    return {
        "short of the matched filter, dB": -result.matches[-1],
        "largest error of the track": float(np.abs(result.tracks[EPOCHS] - frequency()).max()),
        "short after 150 epochs, dB": -result.matches[150],
        "turned after 150 epochs": abs(result.turned[150]),
        "turned": abs(result.turned[EPOCHS]),
        "starts": SEEDS,
        **{f"found, end {end:g}": float(found) for end, found in result.found.items()},
    }


def bound(decibels: Array) -> Array:
    """Return the matched filter's symbol error rate for four phases."""
    q = 0.5 * erfc(np.sqrt(10 ** (decibels / 10) / 2))
    return 2 * q - q**2


LOOKS = ((palette.VERMILLION, "^", ":"), (palette.ORANGE, "s", "-."), (palette.BLUE, "o", "--"))


def draw(result: Result) -> Any:
    """Draw the rates learned, and the error rates against the bound."""
    drawn, ((track, rates), (short, ratio)) = pictures.figure(
        2, 2, size=(9.4, 6.0), width_ratios=(1, 1.3), height_ratios=(1.6, 1)
    )
    t = np.arange(1, SAMPLES)
    track.plot(t, frequency(), color=palette.BLACK, lw=2.4, alpha=0.6, label="the chirp")
    fine = np.linspace(DECIBELS[0], DECIBELS[-1], 200)
    rates.semilogy(fine, bound(fine), color=palette.BLACK, lw=1, label="matched filter, exact")
    for (epoch, label), (color, mark, line) in zip(SHOWN.items(), LOOKS, strict=True):
        track.plot(t, result.tracks[epoch], line, color=color, label=label)
        counts = result.errors[epoch]
        seen, measured = counts > 0, counts / result.count
        intervals = [binomtest(int(k), result.count).proportion_ci(method="wilson") for k in counts]
        low, high = (np.array([getattr(one, side) for one in intervals]) for side in ("low", "high"))
        bars = np.stack([measured - low, high - measured]).clip(0)[:, seen]
        style = {"color": color, "ms": 4, "capsize": 3, "lw": 1}
        rates.errorbar(DECIBELS[seen], measured[seen], bars, fmt=mark, label=label, **style)
        # No error was seen: the rate is below this.
        rates.plot(DECIBELS[~seen], high[~seen], "v", color=color, mfc="white")
    exact = bound(DECIBELS[seen])
    ratio.errorbar(DECIBELS[seen], measured[seen] / exact, bars / exact, fmt=mark, **style)
    ratio.axhline(1, color=palette.BLACK, lw=1)
    short.semilogy(np.arange(EPOCHS + 1), -np.array(result.matches), color=palette.BLUE)
    track.set(xlabel="step t", ylabel="angle of a_t, cycles a step", title="The frequency, learned")
    short.set(xlabel="epoch", ylabel="short of the\nmatched filter, dB")
    rates.set(ylabel="symbol error rate", title=f"{result.count:,} symbols a point, 95 % intervals", ylim=(1e-5, 1.5))
    ratio.set(xlabel="E_s / N_0, dB", ylabel=f"rate after {EPOCHS}\nepochs / exact", ylim=(0.5, 2))
    ratio.sharex(rates)
    track.legend(loc="upper left", fontsize=8)
    rates.legend(loc="lower left", fontsize=8)
    return drawn


def main() -> None:
    """Train, say what was learned, draw."""
    wanted = pictures.arguments(__doc__, "chirp.png")
    result = compute(wanted.seed)
    pictures.note(figures(result), wanted)
    pictures.save(draw(result), wanted.out)


if __name__ == "__main__":
    main()
