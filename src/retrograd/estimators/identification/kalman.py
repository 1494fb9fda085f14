"""The Kalman filter of a system in innovations form whose outputs are missing here and there.

    x_{t+1} = A x_t + B u_t + K e_t          y_t = C x_t + D u_t + offset + e_t          e_t ~ N(0, S)

From a known first state and complete outputs the state is known exactly (P = 0) and K is the gain. With M_t the outputs
that are there, P_t the covariance of x_t given those before t, and S_t that of the outputs' prediction error,

    S_t = M_t (C P_t Cᵀ + S) M_tᵀ        G_t = (A P_t Cᵀ + K S) M_tᵀ S_t^{-1}
    P_{t+1} = (A − G_t C) P_t (A − G_t C)ᵀ + (K − G_t) S (K − G_t)ᵀ

(Joseph's form: positive semidefinite whatever is rounded). After a gap P_t is at most F^k P (F^k)ᵀ, F = A − K C, k
steps on: the recursion runs over gaps and the steps in which they are forgotten, all of them at once, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.matrices import System

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
    n, p, steps = len(A), len(C), len(data.outputs)
    seen = torch.from_numpy(data.observed).double()
    there = seen[:, :, None] * seen[:, None, :]
    gain = (K * seen[:, None]).contiguous()
    covariance = there * S + torch.diag_embed(1 - seen)
    state, final = A.new_zeros(steps, n, n), A.new_zeros(len(data.lengths), n, n)
    # An output-error model has K = 0: nothing is lost with an output.
    runs = _runs(data, (A - K @ C).detach().numpy()) if bool(K.any()) or K.requires_grad else []
    if not runs:
        return Filter(gain, covariance, state, final)
    first = torch.tensor([start for start, _ in runs])
    length = np.array([end - start for start, end in runs])
    P = A.new_zeros(len(runs), n, n)
    places, found, ended, ends = [], [], [], []
    last = {int(end): number for number, end in enumerate(np.cumsum(data.lengths))}
    eye = torch.eye(p, dtype=torch.float64)
    for k in range(int(length[0])):
        active = int((length > k).sum())
        P, at = P[:active], first[:active] + k
        M = seen[at]
        pair = M[:, :, None] * M[:, None, :]
        PC = P @ C.mT
        S_t = pair * (C @ PC + S) + eye * (1 - M)[:, None]
        cross = (A @ PC + K @ S) * M[:, None]
        G = torch.linalg.solve(S_t, cross.mT).mT
        places.append(at)
        found.append((G, S_t, P))
        L, J = A - G @ C, K - G
        P = L @ P @ L.mT + J @ S @ J.mT
        for row in np.flatnonzero(length[:active] == k + 1):
            if int(first[row]) + k + 1 in last:
                ended.append(last[int(first[row]) + k + 1])
                ends.append(P[row])
    where = torch.cat(places)
    gain, covariance, state = (
        whole.index_copy(0, where, torch.cat(pieces))
        for whole, pieces in zip((gain, covariance, state), zip(*found, strict=True), strict=True)
    )
    if ends:
        final = final.index_copy(0, torch.tensor(ended), torch.stack(ends))
    return Filter(gain, covariance, state, final)


def _runs(data: Experiments, F: Array) -> list[tuple[int, int]]:
    """Return the stretches, longest first, from a missing output to where it is forgotten."""
    longest, power, forget = max(data.lengths), F, 1
    with np.errstate(over="ignore", invalid="ignore"):
        while forget < longest and not np.linalg.norm(power) ** 2 < FORGOTTEN:
            power, forget = power @ F, forget + 1
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
    return sorted(runs, key=lambda run: run[0] - run[1])


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
