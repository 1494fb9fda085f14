"""Subspace identification: a state-space system from block Hankel matrices, with no iteration and no starting point.

With past p and future f of s block rows each, every column one moment t,

    Y_f = Γ X_f + H U_f + noise          Γ = [C; C A; …; C A^{s-1}]

so the part of Y_f that the past explains and the future inputs do not, lies in the range of Γ. One LQ factorisation of
[U_f; U_p; Y_p; Y_f] holds it: with L_42 the block (Y_f; U_p, Y_p), the columns of U_1 in

    W_1 L_42 = U_1 S_1 V_1ᵀ + (the rest: noise)

give Γ = W_1^{-1} U_1, A from its shift, C from its first block row. The weighting W_1 is the method: 1 is PO-MOESP
(Verhaegen 1994, Automatica 30:61, the singular values of SLICOT's IB01AD with METH = 'M'), the inverse root of
(Y_f without U_f)'s covariance is CVA (Larimore 1990); N4SID (Van Overschee and De Moor 1994, Automatica 30:75) keeps
U_f's part: L_42 times what the past itself is. Van Overschee and De Moor 1996, *Subspace Identification for Linear
Systems*, compares them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from retrograd.errors import InputError, require_choice
from retrograd.estimators.identification.experiments import Experiments, read_experiments
from retrograd.estimators.identification.triangles import AT_ONCE, triangle_of

__all__ = ["WEIGHTINGS", "Subspace", "singular_values"]

Array = np.ndarray[Any, Any]

WEIGHTINGS = ("moesp", "n4sid", "cva")


@dataclass(frozen=True)
class Subspace:
    """What the Hankel matrices of some experiments say about a system, before its order is chosen.

    Attributes:
        singular_values: of the weighted future that the past explains, descending; the order is where they fall.
        observability: W_1^{-1} U, ``(s p, s p)``: its first n columns are Γ, in some basis.
        block_rows: s.
        outputs: p.
        rounding: what rounding alone can make of a singular value, where the future is not weighted (``"moesp"``).

    Examples:
        >>> from retrograd.estimators.identification.experiments import read_experiments
        >>> u = np.random.default_rng(0).standard_normal(200)
        >>> y = np.zeros(200)
        >>> for t in range(199):
        ...     y[t + 1] = 0.5 * y[t] + u[t]
        >>> found = Subspace.of(read_experiments(u, y), block_rows=5)
        >>> int((found.singular_values > 1e-8).sum()), found.transition(1)[0].round(6).tolist()
        (1, [[0.5]])
    """

    singular_values: Array
    observability: Array
    block_rows: int
    outputs: int
    rounding: float = 0.0

    @property
    def rank(self) -> int:
        """Singular values beyond rounding, at least 1: no system of a higher order shows in the data."""
        return max(int((self.singular_values > self.rounding).sum()), 1)

    @classmethod
    def of(cls, data: Experiments, *, block_rows: int, weighting: str = "moesp") -> Subspace:
        """Return the subspace of some experiments, as they are: neither centred nor scaled here.

        Args:
            data: experiments without missing outputs.
            block_rows: s, larger than the order that is sought.
            weighting: ``"moesp"``, ``"n4sid"`` or ``"cva"``.

        Raises:
            InputError: there is too little data for these block rows; the message says how much is needed.
        """
        require_choice("weighting", weighting, WEIGHTINGS)
        return cls._weighted(data, block_rows, weighting, _factor(data, block_rows))

    @classmethod
    def each(cls, data: Experiments, *, block_rows: int) -> list[Subspace]:
        """Return the subspaces of all weightings, from one factorisation. Arguments and errors as in :meth:`of`."""
        L = _factor(data, block_rows)
        return [cls._weighted(data, block_rows, weighting, L) for weighting in WEIGHTINGS]

    @classmethod
    def _weighted(cls, data: Experiments, s: int, weighting: str, L: Array) -> Subspace:
        m, p = data.inputs.shape[1], data.outputs.shape[1]
        f, i = s * m, s * (2 * m + p)  # where future inputs end, where the past ends
        L_past, L_future = L[f:i, f:i], L[i:, f:i]
        root = np.eye(s * p)
        weighted = L_future
        if weighting == "cva":
            own = L[i:, f:]
            values, vectors = scipy.linalg.eigh(own @ own.T)
            # A direction of the outputs without noise and without past would be divided by zero.
            values = np.maximum(values, values[-1] * 1e-12)
            root = (vectors * values**0.5) @ vectors.T
            weighted = (vectors * values**-0.5) @ vectors.T @ L_future
        elif weighting == "n4sid":
            # The oblique projection: what the past explains, carried by the whole past, future inputs' part included.
            weighted = L_future @ np.linalg.pinv(L_past) @ L[f:i, :i]
        U, S, _ = scipy.linalg.svd(weighted, full_matrices=False)
        rounding = float(np.finfo(np.float64).eps * len(L) * np.linalg.norm(L[i:]))
        return cls(S, root @ U, s, p, rounding)

    def transition(self, order: int) -> tuple[Array, Array]:
        """Return A ``(order, order)`` and C ``(outputs, order)``.

        Raises:
            InputError: the order does not fit the block rows.
        """
        p = self.outputs
        largest = min((self.block_rows - 1) * p, len(self.singular_values))
        if not 1 <= order <= largest:
            raise InputError(f"order is {order}, expected 1 to {largest} with {self.block_rows} block rows")
        gamma = self.observability[:, :order] * self.singular_values[:order] ** 0.5
        A = np.linalg.lstsq(gamma[:-p], gamma[p:], rcond=None)[0]
        return A, gamma[:p]


def singular_values(U: Any, Y: Any, *, block_rows: int = 15, weighting: str = "moesp") -> Array:
    """Return the singular values that show a system's order: as many as stand out above the rest, ``(s p,)``.

    Args:
        U: inputs as :class:`retrograd.estimators.StateSpace` reads them; taken as they are, not centred.
        Y: outputs, none missing.
        block_rows: s.
        weighting: ``"moesp"`` (SLICOT's IB01AD, METH = 'M'), ``"n4sid"`` or ``"cva"``.

    Examples:
        >>> t = np.arange(100.0)
        >>> int((singular_values(None, np.cos(t), block_rows=5) > 1e-9).sum())  # a cosine is of order 2
        2
    """
    data = read_experiments(U, Y)
    if not data.complete:
        raise InputError("Y has missing values: a block Hankel matrix has no place for them; interpolate them first")
    return Subspace.of(data, block_rows=block_rows, weighting=weighting).singular_values


def _factor(data: Experiments, s: int) -> Array:
    """Return L of the LQ factorisation of [U_f; U_p; Y_p; Y_f], every column a moment: square, lower triangular."""
    m, p = data.inputs.shape[1], data.outputs.shape[1]
    past, future = (0, s), (s, 2 * s)
    moments = sum(max(length - 2 * s + 1, 0) for length in data.lengths)
    rows = 2 * s * (m + p)
    if moments < rows:
        raise InputError(
            f"there are {len(data.outputs)} steps in {len(data.lengths)} experiment(s): {s} block rows with {m} "
            f"inputs and {p} outputs need at least {rows + 2 * s - 1} steps in one experiment: use a lower order, or "
            "more data"
        )

    def pieces() -> Iterator[Array]:
        for u, y in zip(data.split(data.inputs), data.split(data.outputs), strict=True):
            for start in range(0, len(y) - 2 * s + 1, AT_ONCE):
                at = slice(start, start + AT_ONCE + 2 * s - 1)
                blocks = (u[at], future), (u[at], past), (y[at], past), (y[at], future)
                yield np.concatenate([_hankel(values, *which) for values, which in blocks], axis=1)

    return np.asarray(triangle_of(pieces()).T)


def _hankel(values: Array, start: int, stop: int) -> Array:
    """Return block rows ``start`` to ``stop`` of the Hankel matrix of values ``(N, k)``, transposed: a row a moment."""
    length = stop - start
    # Past and future have the same number of block rows: as many moments have both.
    moments = len(values) - 2 * length + 1
    windows = np.lib.stride_tricks.sliding_window_view(values, length, axis=0)[start : start + moments]
    return np.asarray(windows.transpose(0, 2, 1).reshape(moments, -1))
