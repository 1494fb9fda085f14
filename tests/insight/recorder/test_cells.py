"""Cells called in a loop of one's own: what is recorded is what autograd says of every state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import retrograd as rg
from insight.recorder.loops import EPS
from retrograd.insight import Recorder

CELLS: dict[str, Callable[..., nn.Module]] = {
    "tanh": nn.RNNCell,
    "gru": nn.GRUCell,
    "lstm": nn.LSTMCell,
    "linear": rg.nn.LinearRNNCell,
}
States = list[tuple[Tensor, ...]]


def made(kind: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    return CELLS[kind](3, 4).double(), torch.randn(7, 2, 3).double()


def loop(cell: nn.Module, x: Tensor, state: Any = None, between: Callable[[Any], Any] = lambda state: state) -> States:
    """Return every state, each retaining its gradient."""
    states: States = []
    for x_t in x:
        state = cell(x_t, state)
        states.append(state if isinstance(state, tuple) else (state,))
        for part in states[-1]:
            part.retain_grad()
        state = between(state)
    return states


def norms(states: States, part: int = 0) -> list[float]:
    return [0.0 if state[part].grad is None else float(state[part].grad.norm()) for state in states]


def assert_loop(record: Any, states: States) -> None:
    assert record.delta_norm == pytest.approx(norms(states), rel=50 * EPS)
    assert record.direct_norm is None
    assert (record.cell_norm is None) == (len(states[0]) == 1)
    if record.cell_norm is not None:
        assert record.cell_norm == pytest.approx(norms(states, 1), rel=50 * EPS)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("seen", [-1, 3])
def test_a_loop_over_a_cell(kind: str, seen: int) -> None:
    cell, x = made(kind)
    with Recorder(cell) as recorder:
        for number in range(3):
            states = loop(cell, x)
            (states[seen][0].square().sum() + states[1][0].sum()).backward()
            assert len(recorder.records) == number + 1
            assert_loop(recorder.records[-1], states)
    assert [record.backward for record in recorder.records] == [0, 1, 2]
    assert recorder.records[-1].zeros == (0 if seen == -1 else 3)


@pytest.mark.parametrize("kind", CELLS)
def test_one_sequence_without_a_batch_and_a_state_of_ones_own(kind: str) -> None:
    cell, x = made(kind)
    h0 = torch.randn(4, requires_grad=True, dtype=torch.float64)
    with Recorder(cell) as recorder:
        loop(cell, x[:, 0], (h0, h0) if kind == "lstm" else h0)[-1][0].sum().backward()
    # In a batch of one: of c_t, squeezed, autograd would not see what comes through h_t.
    states = loop(cell, x[:, :1], (h0[None], h0[None]) if kind == "lstm" else h0[None])
    states[-1][0].sum().backward()
    assert_loop(recorder.records[0], states)


@pytest.mark.parametrize("kind", CELLS)
def test_two_loops_step_by_step_in_turn_and_one_after_the_other(kind: str) -> None:
    cell, x = made(kind)
    with Recorder(cell) as recorder:
        first: States = []
        second: States = []
        for x_t in x:
            for states in (first, second):
                state = states[-1] if states else None
                states += loop(cell, (1 + len(states)) * x_t[None], state and (state if len(state) > 1 else state[0]))
        third = loop(cell, x[:3])
        sum((2 + k) * states[-1][0].sum() for k, states in enumerate((first, second, third))).backward()
    assert sorted(record.call for record in recorder.records) == [0, 1, 2]
    for states, record in zip((first, second, third), sorted(recorder.records, key=lambda r: r.call), strict=True):
        assert_loop(record, states)


def test_a_loop_cut_off_and_one_with_something_between_its_steps() -> None:
    cell, x = made("gru")
    with Recorder(cell) as recorder:
        early = loop(cell, x[:4])
        late = loop(cell, x[4:], early[-1][0].detach())
        (early[-1][0].sum() + late[-1][0].sum()).backward()
        assert [len(record.delta_norm) for record in recorder.records] == [3, 4]  # as the gradient meets them
        between = loop(cell, x, between=lambda state: 0.9 * state)
        between[-1][0].sum().backward()
    assert_loop(recorder.records[0], late)
    assert_loop(recorder.records[1], early)
    assert_loop(recorder.records[2], between)


def test_steps_of_a_batch_that_shrinks() -> None:
    cell, x = made("tanh")
    states: States = []
    with Recorder(cell) as recorder:
        h = None
        for t, x_t in enumerate(x):
            alive = 2 if t < 4 else 1
            h = cell(x_t[:alive], None if h is None else h[:alive])
            h.retain_grad()
            states.append((h,))
        sum(1e200 * state[0].sum() for state in states).backward()  # squares overflow
    (record,) = recorder.records
    scaled = [float((state[0].grad / 1e200).norm()) for state in states]
    assert record.delta_norm / 1e200 == pytest.approx(scaled, rel=50 * EPS)


@pytest.mark.parametrize("batched", [False, True])
def test_a_state_changed_in_place(batched: bool) -> None:
    cell, x = made("gru")
    with Recorder(cell) as recorder:
        h = cell(x[0] if batched else x[0, 0])  # without a batch a view, whose hooks a change in place goes past
        h.mul_(2)
        (3 * h).sum().backward()
    assert recorder.records[0].delta_norm == pytest.approx([6 * h.numel() ** 0.5])


def test_cells_train_to_the_same_bits_and_every_counts_passes() -> None:
    def train(**options: Any) -> tuple[Tensor, list[int]]:
        cell, x = made("lstm")
        optimizer = torch.optim.SGD(cell.parameters(), 0.1)
        recorder = Recorder(cell, **options) if options else None
        for _ in range(4):
            optimizer.zero_grad()
            torch.stack([state[0] for state in loop(cell, x)]).square().mean().backward()
            optimizer.step()
        found = [] if recorder is None else [record.backward for record in recorder.records]
        return torch.cat([p.detach().flatten() for p in cell.parameters()]), found

    plain, _ = train()
    watched, numbers = train(every=3)
    assert torch.equal(plain, watched)
    assert numbers == [0, 3]


def test_without_gradients_nothing_is_counted_or_kept() -> None:
    cell, x = made("gru")
    with Recorder(cell) as recorder:
        with torch.no_grad():
            for _ in range(3):
                cell(x[0], torch.zeros(2, 4).double())
        states = loop(cell, x)
        states[-1][0].sum().backward()
    assert_loop(recorder.records[0], states)
    assert np.count_nonzero(recorder.records[0].delta_norm) == 7
