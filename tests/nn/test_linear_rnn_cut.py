"""LinearRNN over padded and reset sequences, and step by step: what it does on each sequence alone."""

from __future__ import annotations

import pytest
import torch

import retrograd as rg


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_and_resets_give_each_sequence_alone(batch_first: bool, bidirectional: bool) -> None:
    torch.manual_seed(0)
    rnn = rg.nn.LinearRNN(3, 4, 2, batch_first=batch_first, bidirectional=bidirectional, dtype=torch.float64)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    hx = torch.randn(2 * (1 + bidirectional), 2, 4, dtype=torch.float64)
    lengths, reset = torch.tensor([6, 4]), torch.zeros(2, 6, dtype=torch.bool)
    reset[0, 2] = True
    x[1, 4:] = torch.nan
    given = x if batch_first else x.transpose(0, 1)
    y, h_n = rnn(given, hx, lengths, reset)
    y = y if batch_first else y.transpose(0, 1)
    alone = rg.nn.LinearRNN(3, 4, 2, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    alone.load_state_dict(rnn.state_dict())
    # Row 0 is two sequences: forward, hx enters the first one; backward, the second one.
    ahead = torch.arange(len(hx)) % (1 + bidirectional) == 0
    before, after = hx[:, 0].clone(), hx[:, 0].clone()
    before[~ahead], after[ahead] = 0, 0
    first, ends_first = alone(x[0, :2], before)
    second, ends_second = alone(x[0, 2:], after)
    third, ends_third = alone(x[1, :4], hx[:, 1])
    torch.testing.assert_close(y[0], torch.cat((first, second)))
    torch.testing.assert_close(y[1, :4], third)
    assert not y[1, 4:].any()
    torch.testing.assert_close(h_n[:, 0], torch.where(ahead[:, None], ends_second, ends_first))
    torch.testing.assert_close(h_n[:, 1], ends_third)
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in rnn.parameters())


@pytest.mark.parametrize("batch_first", [False, True])
def test_steps_give_what_the_whole_gives(batch_first: bool) -> None:
    rnn = rg.nn.LinearRNN(3, 4, 2, batch_first=batch_first, transition="orthogonal", dtype=torch.float64)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    y, h_n = rnn(x if batch_first else x.transpose(0, 1))
    y = y if batch_first else y.transpose(0, 1)
    hx = single = None
    for t in range(5):
        y_t, hx = rnn.step(x[:, t], hx)
        torch.testing.assert_close(y_t, y[:, t])
        y_t, single = rnn.step(x[1, t], single)
        torch.testing.assert_close(y_t, y[1, t])
    torch.testing.assert_close(hx, h_n)


def test_what_cannot_be_served_is_refused() -> None:
    packed = torch.nn.utils.rnn.pack_sequence([torch.zeros(3, 2), torch.zeros(1, 2)])
    with pytest.raises(ValueError, match="given with a PackedSequence"):
        rg.nn.LinearRNN(2, 3)(packed, lengths=torch.tensor([3, 1]))
    with pytest.raises(ValueError, match="bidirectional"):
        rg.nn.LinearRNN(2, 3, bidirectional=True).step(torch.zeros(2))
    with pytest.raises(ValueError, match="transition is 'ortho': did you mean 'orthogonal'"):
        rg.nn.LinearRNN(2, 3, transition="ortho")
