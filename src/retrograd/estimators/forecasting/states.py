"""What a forecaster remembers of a series: a linear recurrence whose state summarises the past.

    h_t = A h_{t-1} + w v_t                  v: the series, or its seasonal differences

    lags      A shifts by one place (nilpotent): h_t is the last L values. A window is the same thing, so none is run.
    diagonal  complex diagonal A: exponential memories with logarithmically spaced time constants, and oscillators
    dense     any matrix A, started from the same memories in random coordinates

Under ``difference="last"`` a read-out sees z_t, the state relative to the one that a past constant at the last value
y_t would have left: z_t = h_t − g y_t, g = (I − A)^{-1} w. For lags that is the window minus its last value. With
e_t = y_t − y_{t-1}, z is again a linear recurrence, z_t = A z_{t-1} − A g e_t, which closes the loop of a recursive
forecast (:func:`retrograd.estimators.forecasting.readout.closed_loop`).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from retrograd.core.scan import scan
from retrograd.core.transition import Dense, Diagonal

__all__ = ["Difference", "Lags", "Linear", "States", "Trajectory", "strongest_periods"]

Array = np.ndarray[Any, Any]
Difference = Literal["last"] | int | None

# The shortest memory, in steps: exp(-4) = 0.02 of a value is left one step later, so its state is the newest value.
_SHORTEST = 0.25


class Trajectory(Protocol):
    """The states along one instance's series."""

    def features(self, column: int, start: int, stop: int) -> Array:
        """Return what a read-out sees at origins ``start`` to ``stop`` of one series, ``(stop - start, width)``."""
        ...

    def before(self, row: int) -> Array | None:
        """Return the state before a row of the series, ``(series, n)``; None if there is none to carry on."""
        ...


class States(Protocol):
    """A recurrence without its read-out."""

    difference: Difference

    @property
    def width(self) -> int:
        """How many features a read-out sees."""
        ...

    @property
    def burn(self) -> int:
        """How many rows lie before the first origin."""
        ...

    def run(self, values: Array, before: Array | None = None) -> Trajectory:
        """Return the states along ``values (T, series)``, started from ``before`` (see :meth:`Trajectory.before`)."""
        ...

    def recurrence(self) -> tuple[Array, Array]:
        """Return A ``(width, width)`` and w ``(width,)`` of what a read-out sees, driven by v_t or e_t."""
        ...


def _seasonal(difference: Difference) -> int:
    return difference if isinstance(difference, int) else 0


class Lags:
    """The last ``length`` values, newest first; under ``"last"`` relative to the newest, which itself is left out.

    >>> Lags(3, "last").run(np.array([[1.0], [2.0], [4.0]])).features(0, 2, 3)
    array([[-2., -3.]])
    """

    def __init__(self, length: int, difference: Difference) -> None:
        self.length, self.difference = length, difference

    @property
    def width(self) -> int:
        """L, or L − 1 where the newest value is subtracted."""
        return self.length - (self.difference == "last")

    @property
    def burn(self) -> int:
        """The rest of the first window."""
        return self.length - 1 + _seasonal(self.difference)

    def run(self, values: Array, before: Array | None = None) -> Trajectory:
        """Return windows over ``values (T, series)``; they are views."""
        return _Windows(values, self.length, self.difference)

    def recurrence(self) -> tuple[Array, Array]:
        """Return the shift and where a new value comes in."""
        A = np.eye(self.width, k=-1)
        w = np.zeros(self.width)
        w[:1] = 1.0
        # Relative to the newest value, e_t is subtracted from every older one.
        return A, -np.ones(self.width) if self.difference == "last" else w


class _Windows:
    def __init__(self, values: Array, length: int, difference: Difference) -> None:
        season = _seasonal(difference)
        v = values[season:] - values[: len(values) - season] if season else values
        self._windows = [sliding_window_view(column, length) for column in np.ascontiguousarray(v.T)]
        self._first, self._last = length - 1 + season, difference == "last"

    def features(self, column: int, start: int, stop: int) -> Array:
        windows = self._windows[column][start - self._first : stop - self._first]
        return windows[:, -2::-1] - windows[:, -1:] if self._last else windows[:, ::-1]

    def before(self, row: int) -> Array | None:
        return None


class Linear:
    """Diagonal or dense states.

    Args:
        kind: ``"diagonal"`` or ``"dense"``.
        parameters: float64 tensors: ``rate (n,)`` and ``angle (n,)`` of a = exp(-exp(rate) + i angle); or
            ``weight_hh (n, n)`` and ``weight_ih (n,)``.
        difference: what is subtracted from series and window.
    """

    def __init__(self, kind: str, parameters: dict[str, Tensor], difference: Difference) -> None:
        self.kind, self.parameters, self.difference = kind, parameters, difference

    @classmethod
    def untrained(
        cls, kind: str, hidden: int, longest: int, periods: list[float], difference: Difference, seed: int
    ) -> Linear:
        """Return the recurrence before any training.

        Args:
            kind: ``"diagonal"`` or ``"dense"``.
            hidden: width of the state: complex numbers if diagonal, real ones if dense.
            longest: time constant of the longest memory, in steps.
            periods: of the oscillators, which get half of the state at most (a dense one is two places wide).
            difference: what is subtracted.
            seed: of the coordinates of a dense state.
        """
        places = 1 if kind == "diagonal" else 2
        oscillators = min(len(periods), hidden // (2 * places))
        decays = hidden - places * oscillators
        times = np.geomspace(_SHORTEST, max(longest, 1), decays)
        rate = np.log(np.concatenate([1 / times, np.full(oscillators, 1 / max(longest, 1))]))
        angle = np.concatenate([np.zeros(decays), 2 * np.pi / np.array(periods[:oscillators], dtype=float)])
        polar = {"rate": torch.from_numpy(rate), "angle": torch.from_numpy(angle)}
        if kind == "diagonal":
            return cls(kind, polar, difference)
        A, w = cls("diagonal", polar, difference)._real()
        source = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(len(w), len(w), generator=source, dtype=torch.float64)).Q
        return cls(kind, {"weight_hh": turn @ A @ turn.mT, "weight_ih": turn @ w}, difference)

    @property
    def width(self) -> int:
        """Real places of the state: an oscillator has two."""
        if self.kind == "dense":
            return len(self.parameters["weight_ih"])
        return len(self.parameters["rate"]) + int(self._turning.sum())

    @property
    def burn(self) -> int:
        """None but the first season."""
        return _seasonal(self.difference)

    def run(self, values: Array, before: Array | None = None) -> Trajectory:
        """Return the states along ``values (T, series)``."""
        with torch.no_grad():
            h = self.states(values, None if before is None else torch.from_numpy(before))
            return _Run(h.numpy(), self._gain().numpy(), values, self.difference)

    def states(self, values: Array, before: Tensor | None = None) -> Tensor:
        """Return h_t, ``(series, T, width)``, differentiable in the parameters. ``T`` is a season less if seasonal."""
        h = scan(*self.driven(values, before))[0]
        return h if self.kind == "dense" else torch.cat([h.real, h.imag[..., self._turning]], dim=-1)

    def driven(self, values: Array, before: Tensor | None = None) -> tuple[Dense | Diagonal, Tensor, Tensor]:
        """Return A, u and h_0 of the scan that :meth:`states` are; diagonal ones complex."""
        season = _seasonal(self.difference)
        v = values[season:] - values[: len(values) - season] if season else values
        v_of = torch.from_numpy(np.ascontiguousarray(v.T))
        if before is None:
            # The past before the series: constant at its first value if only changes count, else nothing.
            before = v_of[:, :1] * (self._gain() if self.difference == "last" else torch.zeros(self.width))
        if self.kind == "dense":
            u = v_of.unsqueeze(-1) * self.parameters["weight_ih"]
            return Dense(self.parameters["weight_hh"]), u, before.to(u.dtype)
        a = self._diagonal()
        return Diagonal(a), v_of.unsqueeze(-1) * (1 - a.abs()).to(a.dtype), self.as_states(before)

    def as_states(self, places: Tensor) -> Tensor:
        """Return states, or gradients of them, from the real places that a read-out sees: complex if diagonal."""
        if self.kind == "dense":
            return places
        n, turning = len(self.parameters["rate"]), self._turning
        imaginary = places.new_zeros(*places.shape[:-1], n, dtype=torch.float64)
        imaginary = imaginary.masked_scatter(turning, places[..., n:].double())
        return torch.complex(places[..., :n].double(), imaginary)

    @property
    def _turning(self) -> Tensor:
        return self.parameters["angle"] != 0

    def recurrence(self) -> tuple[Array, Array]:
        """Return A and w, or −A g where only changes of the series come in."""
        A, w = self._real()
        return A.numpy(), (-(A @ self._gain()) if self.difference == "last" else w).detach().numpy()

    def radius(self) -> float:
        """Return the spectral radius of A: from 1 on, states remember all that ever was, or grow."""
        return float(torch.linalg.eigvals(self._real()[0].detach()).abs().max())

    def _diagonal(self) -> Tensor:
        log_a = torch.complex(-torch.exp(self.parameters["rate"]), self.parameters["angle"])
        return Diagonal.from_log(log_a).a

    def _real(self) -> tuple[Tensor, Tensor]:
        """Return A and w in the real coordinates that a read-out sees: Re h, then Im h of the oscillators."""
        if self.kind == "dense":
            return self.parameters["weight_hh"], self.parameters["weight_ih"]
        a, turning = self._diagonal(), self._turning
        n = len(a)
        place = torch.eye(n, dtype=torch.float64)[:, turning]
        A = torch.cat(
            [
                torch.cat([torch.diag(a.real), -(a.imag[:, None] * place)], dim=1),
                torch.cat([(a.imag[:, None] * place).mT, torch.diag(a.real[turning])], dim=1),
            ]
        )
        return A, torch.cat([1 - a.abs(), torch.zeros(int(turning.sum()), dtype=torch.float64)])

    def _gain(self) -> Tensor:
        """Return g = (I − A)^{-1} w, the state that a past constant at 1 leaves."""
        A, w = self._real()
        gain: Tensor = torch.linalg.solve(torch.eye(len(w), dtype=w.dtype) - A, w)
        return gain


class _Run:
    def __init__(self, states: Array, gain: Array, values: Array, difference: Difference) -> None:
        self._states, self._gain, self._values = states, gain, values
        self._season, self._last = _seasonal(difference), difference == "last"

    def features(self, column: int, start: int, stop: int) -> Array:
        h = self._states[column, start - self._season : stop - self._season]
        return h - self._values[start:stop, column, None] * self._gain if self._last else h

    def before(self, row: int) -> Array | None:
        # A seasonal run over values[row:] starts a season later, and so do its states here: place row - 1 is before it.
        return self._states[:, row - 1].copy() if row else None


def strongest_periods(values: Array, count: int) -> list[float]:
    """Return the periods, in steps, of the ``count`` highest peaks of the mean periodogram of ``values (T, series)``.

    >>> strongest_periods(np.sin(2 * np.pi * np.arange(240.0) / 24)[:, None], 1)
    [24.0]
    """
    power = (np.abs(np.fft.rfft(np.diff(values, axis=0, append=values[:1]), axis=0)) ** 2).mean(axis=1)
    inner = np.arange(2, len(power) - 1)
    peaks = inner[(power[inner] >= power[inner - 1]) & (power[inner] > power[inner + 1])]
    highest = peaks[np.argsort(-power[peaks], kind="stable")[:count]]
    return [float(len(values) / k) for k in highest]
