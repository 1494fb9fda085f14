"""LinearRNN as a module: dropout, shapes, dtypes, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import retrograd as rg
from nn.layer_loop import BATCH, HIDDEN, INPUT, TIME, loop


def test_dropout_acts_between_layers_and_only_in_training() -> None:
    torch.manual_seed(5)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, dropout=1.0)
    plain = rg.nn.LinearRNN(INPUT, HIDDEN, 2)
    plain.load_state_dict(rnn.state_dict())
    x = torch.randn(TIME, BATCH, INPUT)
    assert torch.equal(rnn.eval()(x)[0], plain(x)[0])
    # All zeroed: the second layer sees nothing of x, the last state of the first is untouched.
    rnn.train()
    output, h_n = rnn(x)
    assert torch.equal(output, rnn(torch.zeros_like(x))[0])
    assert not torch.equal(output, plain(x)[0])
    assert torch.equal(h_n[0], plain(x)[1][0])
    packed = rnn(pack_padded_sequence(x, torch.full((BATCH,), TIME)))[0]
    torch.testing.assert_close(pad_packed_sequence(packed)[0], output)


def test_dropout_keeps_the_expected_share_and_scale() -> None:
    """Identity layers without memory show the mask itself: zeros, and x / (1 - p)."""
    rnn = rg.nn.LinearRNN(4, 4, 2, bias=False, dropout=0.25)
    with torch.no_grad():
        for name, w in rnn.named_parameters():
            w.copy_(torch.zeros(4, 4) if "weight_hh" in name else torch.eye(4))
    torch.manual_seed(6)
    output = rnn(torch.ones(50, 50, 4))[0]
    assert set(output.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    # 10,000 draws: the share's standard deviation is 0.0043.
    assert (output == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)


def test_dropout_on_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match=r"dropout is 0\.5 .* num_layers is 1"):
        rg.nn.LinearRNN(INPUT, HIDDEN, dropout=0.5)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_unbatched_is_a_batch_of_one(bidirectional: bool, batch_first: bool) -> None:
    torch.manual_seed(8)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=bidirectional, batch_first=batch_first)
    theirs = nn.RNN(INPUT, HIDDEN, 2, bidirectional=bidirectional, batch_first=batch_first)
    x, hx = torch.randn(TIME, INPUT), torch.randn(len(rnn.all_weights), HIDDEN)
    output, h_n = rnn(x, hx)
    batched, batched_n = rnn(x.unsqueeze(0 if batch_first else 1), hx.unsqueeze(1))
    assert [output.shape, h_n.shape] == [r.shape for r in theirs(x, hx)]
    torch.testing.assert_close(output, batched.squeeze(0 if batch_first else 1))
    torch.testing.assert_close(h_n, batched_n.squeeze(1))
    torch.testing.assert_close(rnn(x)[1], rnn(x, torch.zeros_like(hx))[1])


@pytest.mark.parametrize(("time", "batch"), [(0, 2), (3, 0), (1, 1)])
def test_empty_and_single(time: int, batch: int) -> None:
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True)
    x = torch.randn(time, batch, INPUT, requires_grad=True)
    hx = torch.randn(4, batch, HIDDEN, requires_grad=True)
    output, h_n = rnn(x, hx)
    assert output.shape == (time, batch, 2 * HIDDEN)
    assert h_n.shape == hx.shape
    (output.sum() + h_n.sum()).backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert hx.grad is not None
    if time == 0:
        assert torch.equal(h_n, hx)
        assert torch.equal(hx.grad, torch.ones_like(hx))
    for name, w in rnn.named_parameters():
        assert w.grad is not None, name
        assert w.grad.isfinite().all()
        # One step from h_0 reaches every parameter; none reaches none.
        assert w.grad.any() == (time * batch > 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    torch.manual_seed(9)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, bias=False).to(dtype)
    x = torch.randn(TIME, BATCH, INPUT, dtype=dtype)
    output, h_n = rnn(x)
    assert output.dtype == h_n.dtype == dtype
    exact, _ = copy.deepcopy(rnn).double()(x.double())
    scale, _ = loop(
        {k: v.double().abs() for k, v in rnn.state_dict().items()},
        list(x.double().abs().unbind(1)),
        torch.zeros(1, BATCH, HIDDEN, dtype=torch.float64),
        1,
        1,
    )
    # One layer of 5 steps with 3 + 2 products each: at most 25 roundings of eps / 2.
    allowed = 25 / 2 * torch.finfo(dtype).eps * torch.stack(scale, 1)
    assert ((output.double() - exact).abs() <= allowed).all()
    output.float().sum().backward()
    assert all(w.grad is not None and w.grad.dtype == dtype for w in rnn.parameters())


@pytest.mark.parametrize("batch_first", [False, True])
def test_strides_do_not_matter(batch_first: bool) -> None:
    torch.manual_seed(10)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, batch_first=batch_first)
    x = torch.randn(INPUT, 2 * TIME, BATCH).permute(1, 2, 0)[::2]
    output, h_n = rnn(x)
    plain, plain_n = rnn(x.contiguous())
    torch.testing.assert_close(output, plain)
    torch.testing.assert_close(h_n, plain_n)
    shared, _ = rnn(x[:1].expand(6, BATCH, INPUT))
    torch.testing.assert_close(shared, rnn(x[:1].repeat(6, 1, 1))[0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_separate(duplicate: Any) -> None:
    torch.manual_seed(12)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True, backend="reference")
    x = torch.randn(TIME, BATCH, INPUT)
    twin = duplicate(rnn)
    assert twin.backend == "reference"
    before = rnn(x)[0]
    assert torch.equal(twin(x)[0], before)
    with torch.no_grad():
        twin.weight_hh_l1_reverse.add_(1)
    assert torch.equal(rnn(x)[0], before)
    assert not torch.equal(twin(x)[0], before)


def test_backend_reaches_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    scan = rg.nn.sharded.scan
    monkeypatch.setattr(rg.nn.sharded, "scan", lambda *a, **k: (seen.append(k["backend"]), scan(*a, **k))[1])
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, backend="reference")
    rnn(torch.randn(TIME, BATCH, INPUT))
    rnn(pack_sequence([torch.randn(2, INPUT)]))
    assert seen == ["reference"] * 4


def test_device_meta() -> None:
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in rnn.parameters()} == {("meta", torch.float64)}


def test_repr() -> None:
    assert repr(rg.nn.LinearRNN(3, 2)) == "LinearRNN(3, 2)"
    rnn = rg.nn.LinearRNN(3, 2, 2, False, True, 0.5, True, backend="reference")
    expected = "3, 2, num_layers=2, bias=False, batch_first=True, dropout=0.5, bidirectional=True, backend='reference'"
    assert rnn.extra_repr() == expected
