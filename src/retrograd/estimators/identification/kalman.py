"""The Kalman filter of a system in innovations form whose outputs are missing here and there.

    x_{t+1} = A x_t + B u_t + K e_t          y_t = C x_t + D u_t + offset + e_t          e_t ~ N(0, S)

From a known first state and complete outputs the state is known exactly (P = 0) and K is the gain. With M_t the outputs
that are there, P_t the covariance of x_t given those before t, and S_t that of the outputs' prediction error,

    S_t = M_t (C P_t Cᵀ + S) M_tᵀ        G_t = (A P_t Cᵀ + K S) M_tᵀ S_t^{-1}
    P_{t+1} = (A − G_t C) P_t (A − G_t C)ᵀ + (K − G_t) S (K − G_t)ᵀ

After a gap P_t is at most F^k P (F^k)ᵀ, F = A − K C, k steps on: the recursion runs over gaps and the steps in which
they are forgotten, all of them at once (:mod:`retrograd.estimators.identification.riccati`), and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.matrices import System
from retrograd.estimators.identification.riccati import Steps, covariances_before

__all__ = ["Filter", "deviance", "filter_of", "smoothed"]

Array = np.ndarray[Any, Any]

# What is left of P, of what it was, where it counts as forgotten.
FORGOTTEN = 1e-18


@dataclass(frozen=True)
class Filter:
    """Gains and covariances of every step; they depend on what is missing, not on the values that are there.

    Attributes:
        gain: G_t ``(N, n, p)``, zero in the columns of missing outputs.
        covariance: S_t ``(N, p, p)``; a missing output has variance 1 there and no covariance.
        state: P_t ``(N, n, n)``.
        final: P after the last step of each experiment, ``(E, n, n)``.
    """

    gain: Tensor
    covariance: Tensor
    state: Tensor
    final: Tensor


def noise_covariance(parts: dict[str, Tensor]) -> Tensor:
    """Return S, the identity where the system has none: with one output gains do not depend on it."""
    root = parts.get("root")
    eye = torch.eye(len(parts["C"]), dtype=torch.float64)
    return eye if root is None else root @ root.mT + 1e-24 * eye


def filter_of(parts: dict[str, Tensor], data: Experiments) -> Filter:
    """Return gains and covariances over the experiments, differentiable in A, C, K and the root of S."""
    A, C, K, S = parts["A"], parts["C"], parts["K"], noise_covariance(parts)
    if any(matrix.requires_grad for matrix in (A, C, K, S)):
        return _filtered(A, C, K, S, data)
    # States, predictions and derivatives of one system ask for the same filter one after the other.
    key = b"".join(matrix.numpy().tobytes() for matrix in (A, C, K, S))
    kept = data.__dict__.get("_filter")
    if kept is None or kept[0] != key:
        kept = data.__dict__["_filter"] = (key, _filtered(A, C, K, S, data))
    found: Filter = kept[1]
    return found


def _filtered(A: Tensor, C: Tensor, K: Tensor, S: Tensor, data: Experiments) -> Filter:
    n, steps = len(A), len(data.outputs)
    seen = torch.from_numpy(data.observed).double()
    there = seen[:, :, None] * seen[:, None, :]
    gain = (K * seen[:, None]).contiguous()
    covariance = there * S + torch.diag_embed(1 - seen)
    state, final = A.new_zeros(steps, n, n), A.new_zeros(len(data.lengths), n, n)
    # An output-error model has K = 0: nothing is lost with an output.
    runs = _runs(data, (A - K @ C).detach().numpy()) if bool(K.any()) or K.requires_grad else []
    if not runs:
        return Filter(gain, covariance, state, final)
    # One run after the other; the step that closes each is none of the data, and the state is known after it.
    where = np.concatenate([np.append(np.arange(*run), -1) for run in runs])
    closing = where < 0
    P = covariances_before(_steps(A, C, K, S, data.observed[where], closing), A.new_zeros(n, n))
    at, P_t = torch.from_numpy(where[~closing]), P[torch.from_numpy(~closing)]
    PC, M = P_t @ C.mT, seen[at]
    S_t = covariance[at] + there[at] * (C @ PC)
    G = torch.linalg.solve(S_t, ((A @ PC + K @ S) * M[:, None]).mT).mT
    gain, covariance, state = (
        whole.index_copy(0, at, piece) for whole, piece in ((gain, G), (covariance, S_t), (state, P_t))
    )
    ends = {end: number for number, end in enumerate(np.cumsum(data.lengths).tolist())}
    closed = torch.from_numpy(np.flatnonzero(closing))
    last = [row for row, (_, end) in enumerate(runs) if end in ends]
    experiment = torch.tensor([ends[runs[row][1]] for row in last], dtype=torch.int64)
    return Filter(gain, covariance, state, final.index_copy(0, experiment, P[closed[last]]))


def _steps(A: Tensor, C: Tensor, K: Tensor, S: Tensor, observed: Array, known: Array) -> Steps:
    """Return the steps of the filter by what is observed at each, ``(N, p)``; after ``known`` ones the state is known.

    What is seen of e_t, M e_t, is M y_t less what the state sends: K e_t given that is K S Mᵀ (M S Mᵀ)^{-1} M e_t, and
    the rest of it is noise.
    """
    patterns, which = np.unique(observed, axis=0, return_inverse=True)
    M = torch.from_numpy(patterns).double()
    pair = M[:, :, None] * M[:, None, :]
    # (M S Mᵀ)^{-1}, with zeros where an output is missing.
    told = pair * torch.linalg.inv(pair * S + torch.diag_embed(1 - M))
    KS = K @ S
    F, J = A - KS @ told @ C, C.mT @ told @ C
    Q = KS @ K.mT - KS @ told @ KS.mT
    # All outputs seen leave no noise: what is left here is rounding.
    Q = torch.where(M.all(dim=1)[:, None, None], 0.0, Q)
    index, kept = torch.from_numpy(which.ravel()), torch.from_numpy(~known).double()[:, None, None]
    return Steps(*(kept * matrix[index] for matrix in (F, Q, J)))


def _runs(data: Experiments, F: Array) -> list[tuple[int, int]]:
    """Return the stretches from a missing output to where it is forgotten, within twice as many steps as that takes."""
    longest, power, forget = max(data.lengths), F, 1
    with np.errstate(over="ignore", invalid="ignore"):
        while forget < longest and not np.linalg.norm(power) ** 2 < FORGOTTEN:
            power, forget = power @ power, 2 * forget
    runs = []
    for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
        gaps = start + np.flatnonzero(~data.observed[start : start + length].all(axis=1))
        if not len(gaps):
            continue
        # A gap begins a run where the one before it is forgotten.
        begins = np.concatenate([[True], np.diff(gaps) > forget + 1])
        lasts = np.concatenate([gaps[:-1][begins[1:]], gaps[-1:]])
        runs += [
            (int(begin), min(int(end) + 1 + forget, start + length))
            for begin, end in zip(gaps[begins], lasts, strict=True)
        ]
    return runs


def deviance(e: Tensor, covariance: Tensor, counted: Array) -> Tensor:
    """Return Σ_t log det S_t + e_tᵀ S_t^{-1} e_t over the outputs that count.

    Args:
        e: prediction errors ``(N, p)``.
        covariance: S_t ``(N, p, p)``.
        counted: bool ``(N, p)``: the observed outputs, without the steps that are burnt in.
    """
    rows = torch.from_numpy(np.flatnonzero(counted.any(axis=1)))
    e = torch.where(torch.from_numpy(counted), e, 0.0)[rows]
    root, _ = torch.linalg.cholesky_ex(covariance[rows])
    white = torch.linalg.solve_triangular(root, e[..., None], upper=False)
    return torch.as_tensor(2 * root.diagonal(dim1=-2, dim2=-1).log().sum() + (white**2).sum())


def smoothed(system: System, data: Experiments, filtered: Filter, x: Array, e: Array) -> tuple[Array, Array, Array]:
    """Return the state ``(N, n)``, the outputs ``(N, p)`` and their covariance ``(N, p, p)``, given all outputs.

    With z_t = (x_t, e_t), of covariance Π_t = diag(P_t, S) before y_t is seen, y_t − its mean = H z_t, H = (C, 1), and
    x_{t+1} = T_t z_t, T_t = (A, K) − G_t H, the derivative of the log-likelihood in z_t and its negative curvature are

        ρ_t = (M_t H)ᵀ S_t^{-1} e_t + T_tᵀ r_{t+1}          Λ_t = (M_t H)ᵀ S_t^{-1} M_t H + T_tᵀ N_{t+1} T_t

    with r_t and N_t the parts of ρ_t and Λ_t for x_t, zero after the end; z_t given all is z_t + Π_t ρ_t, of covariance
    Π_t − Π_t Λ_t Π_t (Durbin and Koopman 2012, section 4.5).

    Args:
        system: the system.
        data: the experiments.
        filtered: gains and covariances over them.
        x: states from outputs before each step, ``(N, n)``.
        e: prediction errors ``(N, p)``, zero where missing.
    """
    n, p = system.order, len(system.C)
    S = np.eye(p) if system.root is None else system.root @ system.root.T
    H = np.concatenate([system.C, np.eye(p)], axis=1)
    AK = np.concatenate([system.A, system.K], axis=1)
    G, S_t, P = (tensor.numpy() for tensor in (filtered.gain, filtered.covariance, filtered.state))
    states, outputs, covariance = x.copy(), np.zeros_like(e), np.zeros((len(e), p, p))
    Pi = np.zeros((n + p, n + p))
    Pi[n:, n:] = S
    for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
        r, N = np.zeros(n), np.zeros((n, n))
        for t in range(start + length - 1, start - 1, -1):
            MH = H * data.observed[t][:, None]
            T = AK - G[t] @ H
            rho = MH.T @ np.linalg.solve(S_t[t], e[t]) + T.T @ r
            Lambda = MH.T @ np.linalg.solve(S_t[t], MH) + T.T @ N @ T
            Pi[:n, :n] = P[t]
            moved = Pi @ rho
            states[t] += moved[:n]
            outputs[t] = H @ moved
            covariance[t] = H @ (Pi - Pi @ Lambda @ Pi) @ H.T
            r, N = rho[:n], Lambda[:n, :n]
    return states, outputs + x @ system.C.T + data.inputs @ system.D.T + system.offset, covariance
