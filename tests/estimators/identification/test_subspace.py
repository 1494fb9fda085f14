from __future__ import annotations

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.errors import InputError
from retrograd.estimators.identification.experiments import read_experiments
from retrograd.estimators.identification.subspace import WEIGHTINGS, Subspace, singular_values


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("split", [False, True])
def test_a_system_without_noise_is_found_exactly(weighting: str, split: bool) -> None:
    system = random_system(0, gain=0.0)
    u, y, _ = simulated(system, 400, 0.0, seed=1)
    y = y - system.offset
    U, Y = ([u[:150], u[150:]], [y[:150], y[150:]]) if split else (u, y)
    found = Subspace.of(read_experiments(U, Y), block_rows=6, weighting=weighting)
    assert found.singular_values[3] <= 1e-9 * found.singular_values[0]
    A, _ = found.transition(3)
    expected = np.sort_complex(np.linalg.eigvals(system.A))
    assert np.allclose(np.sort_complex(np.linalg.eigvals(A)), expected, atol=1e-7)


def test_singular_values_are_those_of_the_projection() -> None:
    """MOESP's: of Y_f with U_f's part taken out of it and of the past, projected on that past."""
    random = np.random.default_rng(3)
    u, y, s = random.standard_normal(120), random.standard_normal(120), 4
    rows = [np.stack([series[k : k + 120 - 2 * s + 1] for k in range(2 * s)]) for series in (u, y)]
    future_inputs, past = rows[0][s:], np.concatenate([rows[0][:s], rows[1][:s]])
    apart = np.eye(past.shape[1]) - np.linalg.pinv(future_inputs) @ future_inputs
    past, future = past @ apart, rows[1][s:] @ apart
    expected = np.linalg.svd(future @ np.linalg.pinv(past) @ past, compute_uv=False)
    assert np.allclose(singular_values(u, y, block_rows=s), expected, rtol=1e-9)


def test_an_autonomous_system_needs_no_inputs() -> None:
    t = np.arange(80)
    found = Subspace.of(read_experiments(None, 0.9**t * np.cos(0.5 * t)), block_rows=6)
    poles = np.linalg.eigvals(found.transition(2)[0])
    assert np.allclose(np.sort_complex(poles), np.sort_complex(0.9 * np.exp(np.array([-0.5j, 0.5j]))), atol=1e-8)


def test_too_little_data_says_how_much_is_needed() -> None:
    with pytest.raises(InputError, match="10 block rows with 1 inputs and 1 outputs need at least 59 steps"):
        Subspace.of(read_experiments(np.ones(58), np.ones(58)), block_rows=10)
    Subspace.of(read_experiments(np.arange(59.0), np.arange(59.0) ** 2), block_rows=10)


def test_an_order_beyond_the_block_rows_is_refused() -> None:
    found = Subspace.of(read_experiments(None, np.arange(50.0)), block_rows=5)
    with pytest.raises(InputError, match="order is 5, expected 1 to 4 with 5 block rows"):
        found.transition(5)
    with pytest.raises(InputError, match="weighting is 'pca'"):
        singular_values(None, np.arange(50.0), weighting="pca")
    with pytest.raises(InputError, match="Y has missing values"):
        singular_values(None, np.array([1.0, np.nan] * 25))
