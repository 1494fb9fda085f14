"""LinearRNN over packed sequences."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import retrograd as rg
from nn.layer_loop import BATCH, FACTOR, HIDDEN, INPUT, TIME


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_sequence_stops_at_its_end(bidirectional: bool) -> None:
    """Run on to the longest length, the short sequence would overflow, and 0 · ∞ would reach the weights."""
    rnn = rg.nn.LinearRNN(1, 1, 2, bidirectional=bidirectional, dtype=torch.float64)
    with torch.no_grad():
        for name, w in rnn.named_parameters():
            w.fill_(1e20 if "weight_hh" in name else 0.0 if "bias" in name else 1.0)
    x = [torch.zeros(40, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)]
    results = []
    for sequences in (x, x[1:]):
        rnn.zero_grad()
        output, h_n = rnn(pack_sequence(sequences))
        mine = pad_packed_sequence(output)[0][:3, -1]
        (mine.sum() + h_n[:, -1].sum()).backward()
        results.append((mine, h_n[:, -1], [w.grad for w in rnn.parameters()]))
    together, alone = results
    # Every term is positive: a relative bound suffices.
    torch.testing.assert_close(together, alone, rtol=FACTOR * torch.finfo(torch.float64).eps, atol=0)
    assert all(d is not None and d.isfinite().all() for d in together[2])


@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences_do_not_see_each_other(bidirectional: bool) -> None:
    torch.manual_seed(3)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=bidirectional, dtype=torch.float64)
    x = [torch.randn(n, INPUT, dtype=torch.float64) for n in (2, 6, 4)]
    hx = torch.randn(len(rnn.all_weights), 3, HIDDEN, dtype=torch.float64)
    clean, clean_n = rnn(pack_sequence(x, enforce_sorted=False), hx)
    x[0] = torch.full_like(x[0], torch.nan)
    dirty, dirty_n = rnn(pack_sequence(x, enforce_sorted=False), hx)
    a, b = pad_packed_sequence(clean)[0], pad_packed_sequence(dirty)[0]
    assert torch.equal(a[:, 1:], b[:, 1:])
    assert torch.equal(clean_n[:, 1:], dirty_n[:, 1:])
    assert b[:2, 0].isnan().all()


def test_equal_lengths_packed_are_the_padded_batch() -> None:
    torch.manual_seed(4)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True)
    x = torch.randn(TIME, BATCH, INPUT)
    output, h_n = rnn(x)
    packed, packed_n = rnn(pack_padded_sequence(x, torch.full((BATCH,), TIME)))
    torch.testing.assert_close(pad_packed_sequence(packed)[0], output)
    torch.testing.assert_close(packed_n, h_n)
