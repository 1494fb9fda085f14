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


@pytest.mark.parametrize("batch_first", [False, True])
def test_borders_of_one_row_are_a_packed_sequence(batch_first: bool) -> None:
    torch.manual_seed(5)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    x = [torch.randn(n, INPUT, dtype=torch.float64) for n in (2, 6, 4)]
    hx = torch.randn(len(rnn.all_weights), 3, HIDDEN, dtype=torch.float64)
    output, h_n = rnn(pack_sequence(x, enforce_sorted=False), hx)
    padded, lengths = pad_packed_sequence(output, batch_first=True)
    want = torch.cat([row[:n] for row, n in zip(padded, lengths, strict=True)])
    row, borders = torch.cat(x), torch.tensor([0, 2, 8, 12])
    for given in (row, row[None] if batch_first else row[:, None]):
        states, last = rnn(given, hx, cu_seqlens=borders)
        assert states.shape[:-1] == given.shape[:-1]
        torch.testing.assert_close(states.flatten(0, -2), want)
        torch.testing.assert_close(last, h_n)
    # A new sequence after the second step of the last one, whose rest is then a sequence of its own.
    reset = torch.arange(12) == 10
    cut = [*x[:2], x[2][:2], x[2][2:]]
    apart = pad_packed_sequence(rnn(pack_sequence(cut, enforce_sorted=False))[0], batch_first=True)[0]
    states, _ = rnn(row, cu_seqlens=borders, reset=reset)
    torch.testing.assert_close(states[10:], apart[3, :2])
    with pytest.raises(ValueError, match="cu_seqlens was given with a PackedSequence"):
        rnn(pack_sequence(x, enforce_sorted=False), cu_seqlens=borders)


def test_equal_lengths_packed_are_the_padded_batch() -> None:
    torch.manual_seed(4)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True)
    x = torch.randn(TIME, BATCH, INPUT)
    output, h_n = rnn(x)
    packed, packed_n = rnn(pack_padded_sequence(x, torch.full((BATCH,), TIME)))
    torch.testing.assert_close(pad_packed_sequence(packed)[0], output)
    torch.testing.assert_close(packed_n, h_n)
