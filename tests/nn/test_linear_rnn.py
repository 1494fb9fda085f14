"""LinearRNN against the plain loop, against nn.RNN, and against finite differences."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import retrograd as rg

INPUT, HIDDEN, BATCH, TIME = 3, 2, 4, 5
LENGTHS = {"none": [TIME] * BATCH, "sorted": [5, 3, 3, 1], "unsorted": [3, 5, 1, 3]}
# Each result is a polynomial with coefficients ±1 in the parameters, the inputs and hx, and the same loop over absolute
# values gives the sum of the absolute values of its terms. A term passes at most n roundings: for 3 layers of 5 steps,
# (3 inputs + 2 states + 2 biases) each on the way out and back, n ≤ 2 * 3 * 5 * 7 = 210, and any order of summation
# keeps the error below n * eps * that sum. 64 is a third of that bound, and holds element by element.
FACTOR = 64

PACKINGS = ("none", "sorted", "unsorted")
EVERY = list(itertools.product((1, 2, 3), (False, True), PACKINGS, (False, True), (False, True), (False, True)))


# --- the loop ---


def loop(
    p: dict[str, Tensor], sequences: list[Tensor], hx: Tensor, layers: int, directions: int
) -> tuple[list[Tensor], Tensor]:
    """Each sequence (its own length, I) on its own, each step as it stands in the text."""
    outputs, finals = [], []
    for row, sequence in enumerate(sequences):
        steps = list(sequence)
        ends = []
        for layer in range(layers):
            ways = []
            for direction in range(directions):
                name = f"l{layer}" + ("_reverse" if direction else "")
                h = hx[layer * directions + direction, row]
                way: list[Any] = [None] * len(steps)
                for t in range(len(steps) - 1, -1, -1) if direction else range(len(steps)):
                    h = p[f"weight_ih_{name}"] @ steps[t] + p[f"weight_hh_{name}"] @ h
                    if f"bias_ih_{name}" in p:
                        h = h + p[f"bias_ih_{name}"] + p[f"bias_hh_{name}"]
                    way[t] = h
                ways.append(way)
                ends.append(h)
            steps = [torch.cat(states) for states in zip(*ways, strict=True)]
        outputs.append(torch.stack(steps))
        finals.append(torch.stack(ends))
    return outputs, torch.stack(finals, 1)


def arrange(sequences: list[Tensor], packing: str, batch_first: bool) -> Tensor | PackedSequence:
    if packing == "none":
        return torch.stack(sequences, 0 if batch_first else 1)
    return pack_sequence(sequences, enforce_sorted=packing == "sorted")


def separate(output: Tensor | PackedSequence, packing: str, batch_first: bool) -> list[Tensor]:
    if isinstance(output, PackedSequence):
        padded, lengths = pad_packed_sequence(output, batch_first=True)
        return [row[:n] for row, n in zip(padded, lengths.tolist(), strict=True)]
    return list(output.unbind(0 if batch_first else 1))


def draw(packing: str, layers: int, directions: int) -> tuple[list[Tensor], Tensor, list[Tensor], Tensor]:
    lengths = LENGTHS[packing]
    x = [torch.randn(n, INPUT, dtype=torch.float64, requires_grad=True) for n in lengths]
    hx = torch.randn(layers * directions, BATCH, HIDDEN, dtype=torch.float64, requires_grad=True)
    g = [torch.randn(n, directions * HIDDEN, dtype=torch.float64) for n in lengths]
    return x, hx, g, torch.randn_like(hx).detach()


def gradients(
    outputs: list[Tensor], h_n: Tensor, g: list[Tensor], g_n: Tensor, wanted: list[Tensor]
) -> tuple[Tensor, ...]:
    loss = (h_n * g_n).sum() + sum((o * w).sum() for o, w in zip(outputs, g, strict=True))
    return torch.autograd.grad(loss, wanted)


def magnitudes(arrays: list[Tensor]) -> list[Tensor]:
    return [a.detach().abs().requires_grad_() for a in arrays]


@pytest.mark.parametrize(("layers", "bidirectional", "packing", "batch_first", "bias", "with_hx"), EVERY)
def test_values_and_gradients_are_the_loops(
    layers: int, bidirectional: bool, packing: str, batch_first: bool, bias: bool, with_hx: bool
) -> None:
    torch.manual_seed(0)
    directions = 2 if bidirectional else 1
    rnn = rg.nn.LinearRNN(
        INPUT, HIDDEN, layers, bias, batch_first=batch_first, bidirectional=bidirectional, dtype=torch.float64
    )
    p = dict(rnn.named_parameters())
    x, hx, g, g_n = draw(packing, layers, directions)
    start = hx if with_hx else torch.zeros_like(hx)
    wanted = [*p.values(), *x, *([hx] if with_hx else [])]

    def by_loop(values: list[Tensor], g: list[Tensor], g_n: Tensor) -> list[Tensor]:
        weights = dict(zip(p, values, strict=False))
        sequences = values[len(p) : len(p) + BATCH]
        h0 = values[-1] if with_hx else start
        outputs, h_n = loop(weights, sequences, h0, layers, directions)
        return [*outputs, h_n, *gradients(outputs, h_n, g, g_n, values)]

    want = by_loop(wanted, g, g_n)
    bound = by_loop(magnitudes(wanted), [w.abs() for w in g], g_n.abs())

    output, h_n = rnn(arrange(x, packing, batch_first), hx if with_hx else None)
    outputs = separate(output, packing, batch_first)
    got = [*outputs, h_n, *gradients(outputs, h_n, g, g_n, wanted)]

    names = [f"output {i}" for i in range(BATCH)] + ["h_n", *p] + [f"d_x {i}" for i in range(BATCH)] + ["d_hx"]
    for name, a, b, scale in zip(names, got, want, bound, strict=False):
        assert a.shape == b.shape, name
        worst = ((a - b).abs() - FACTOR * torch.finfo(torch.float64).eps * scale).max()
        assert worst <= 0, f"{name}: {(a - b).abs().max():.3g}"
    assert len(got) == len(want) == len(bound) == 5 + len(wanted)


# --- nn.RNN ---


@pytest.mark.parametrize(("layers", "bidirectional", "packing", "batch_first", "bias", "with_hx"), EVERY)
def test_is_nn_rnn_where_relu_is_linear(
    layers: int, bidirectional: bool, packing: str, batch_first: bool, bias: bool, with_hx: bool
) -> None:
    """With everything positive relu is the identity: values, layout, packing and gradients are nn.RNN's own."""
    torch.manual_seed(1)
    directions = 2 if bidirectional else 1
    kwargs = {"batch_first": batch_first, "bidirectional": bidirectional, "dtype": torch.float64, "bias": bias}
    ours = rg.nn.LinearRNN(INPUT, HIDDEN, layers, **kwargs)
    ours.load_state_dict({k: v.abs() + 0.1 for k, v in ours.state_dict().items()})
    theirs = nn.RNN(INPUT, HIDDEN, layers, nonlinearity="relu", **kwargs)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x, hx, g, g_n = draw(packing, layers, directions)
    results = []
    for rnn in (ours, theirs):
        x_ = [s.detach().abs().requires_grad_() for s in x]
        hx_ = hx.detach().abs().requires_grad_() if with_hx else None
        output, h_n = rnn(arrange(x_, packing, batch_first), hx_)
        outputs = separate(output, packing, batch_first)
        wanted = [*rnn.parameters(), *x_, *([] if hx_ is None else [hx_])]
        results.append((output, h_n, gradients(outputs, h_n, [w.abs() for w in g], g_n.abs(), wanted)))
    (output, h_n, d), (output_, h_n_, d_) = results
    # Every term is positive, so that the sum of absolute values is the value itself: a relative bound suffices.
    close: dict[str, Any] = {"rtol": FACTOR * torch.finfo(torch.float64).eps, "atol": 0}
    if isinstance(output_, PackedSequence):
        assert isinstance(output, PackedSequence)
        assert torch.equal(output.batch_sizes, output_.batch_sizes)
        for mine, their in zip(output[2:], output_[2:], strict=True):
            assert (mine is None and their is None) or torch.equal(mine, their)
        output, output_ = output.data, output_.data
    torch.testing.assert_close(output, output_, **close)
    torch.testing.assert_close(h_n, h_n_, **close)
    torch.testing.assert_close(d, d_, **close)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_seed_and_state_dict_are_nn_rnns(layers: int, bidirectional: bool, bias: bool) -> None:
    kwargs: dict[str, Any] = {"num_layers": layers, "bias": bias, "bidirectional": bidirectional}
    torch.manual_seed(7)
    theirs = nn.RNN(INPUT, HIDDEN, **kwargs)
    torch.manual_seed(7)
    ours = rg.nn.LinearRNN(INPUT, HIDDEN, **kwargs)
    for (name, a), (name_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == name_
        assert torch.equal(a, b)
    for mine, their in zip(ours.all_weights, theirs.all_weights, strict=True):
        assert [w.shape for w in mine] == [w.shape for w in their]
    other = nn.RNN(INPUT, HIDDEN, **kwargs)
    ours.load_state_dict(other.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for a, b in zip(theirs.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    torch.manual_seed(7)
    ours.reset_parameters()
    torch.manual_seed(7)
    theirs.reset_parameters()
    assert torch.equal(ours.weight_hh_l0, theirs.weight_hh_l0)
    assert not torch.equal(ours.weight_hh_l0, other.weight_hh_l0)
    assert ours.flatten_parameters() is None


# --- finite differences ---


def _module_function(rnn: rg.nn.LinearRNN, lengths: list[int] | None) -> Any:
    names = [name for name, _ in rnn.named_parameters()]

    def function(x: Tensor, hx: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        arg = x if lengths is None else pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
        parameters = dict(zip(names, weights, strict=True))
        output, h_n = torch.func.functional_call(rnn, parameters, (arg, hx))
        return (output if lengths is None else output.data), h_n

    return function


@pytest.mark.parametrize("lengths", [None, [2, 3]])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradcheck_to_order_two(bidirectional: bool, lengths: list[int] | None) -> None:
    torch.manual_seed(2)
    rnn = rg.nn.LinearRNN(2, 2, 2, bidirectional=bidirectional, dtype=torch.float64)
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    hx = torch.randn(len(rnn.all_weights), 2, 2, dtype=torch.float64, requires_grad=True)
    weights = [w.detach().clone().requires_grad_() for w in rnn.parameters()]
    function = _module_function(rnn, lengths)
    assert torch.autograd.gradcheck(function, (x, hx, *weights), check_forward_ad=lengths is None)
    assert torch.autograd.gradgradcheck(function, (x, hx, *weights), fast_mode=True)


# --- packing ---


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


# --- dropout ---


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


# --- shapes, dtypes, copies ---


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


def test_autocast_takes_float32() -> None:
    torch.manual_seed(11)
    rnn = rg.nn.LinearRNN(INPUT, HIDDEN, 2, bidirectional=True)
    x = torch.randn(TIME, BATCH, INPUT)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = rnn(x)
        packed, _ = rnn(pack_padded_sequence(x, torch.tensor([5, 4, 2, 2])))
    # x, the weights and u are rounded to 8 bits in each of two layers; states are of order one.
    exact, _ = rnn(x)
    torch.testing.assert_close(output.float(), exact, rtol=0.05, atol=0.05)
    torch.testing.assert_close(pad_packed_sequence(packed)[0][:, 0].float(), exact[:, 0], rtol=0.05, atol=0.05)


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
    scan = rg.nn.linear_rnn.scan
    monkeypatch.setattr(rg.nn.linear_rnn, "scan", lambda *a, **k: (seen.append(k["backend"]), scan(*a, **k))[1])
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


# --- messages ---


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size is 0, expected at least 1"),
        ({"hidden_size": 0}, ValueError, "hidden_size is 0, expected at least 1"),
        ({"hidden_size": 2.0}, TypeError, "hidden_size is 2.0, expected an int"),
        ({"hidden_size": True}, TypeError, "hidden_size is True, expected an int"),
        ({"num_layers": 0}, ValueError, "num_layers is 0, expected at least 1"),
        ({"bias": 1}, TypeError, "bias is 1, expected a bool"),
        ({"bias": "tanh"}, TypeError, "LinearRNN takes no nonlinearity"),
        ({"nonlinearity": "relu"}, TypeError, "LinearRNN takes no nonlinearity"),
        ({"proj_size": 2}, TypeError, "LinearRNN takes no proj_size"),
        ({"batch_first": 1}, TypeError, "batch_first is 1, expected a bool"),
        ({"bidirectional": None}, TypeError, "bidirectional is None, expected a bool"),
        ({"dropout": 1.5}, ValueError, "dropout is 1.5, expected a probability in [0, 1]"),
        ({"dropout": -0.1}, ValueError, "dropout is -0.1, expected a probability in [0, 1]"),
        ({"dropout": float("nan")}, ValueError, "dropout is nan, expected a probability in [0, 1]"),
        ({"dropout": True}, TypeError, "dropout is True, expected a number in [0, 1]"),
        ({"backend": "referense"}, ValueError, "backend is 'referense': did you mean 'reference'"),
        ({"dtype": torch.complex64}, TypeError, "dtype is torch.complex64, expected a floating one"),
    ],
)
def test_constructor_messages(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        rg.nn.LinearRNN(**{"input_size": 3, "hidden_size": 4, **kwargs})
    assert str(caught.value).startswith(message)


def _packed(width: int = 3) -> PackedSequence:
    return pack_sequence([torch.zeros(4, width), torch.zeros(2, width)])


@pytest.mark.parametrize(
    ("x", "hx", "message"),
    [
        (
            torch.zeros(5, 3, 3),
            torch.zeros(1, 3, 4),
            "hx has shape (1, 3, 4), expected (num_layers * directions, batch, hidden_size) = (2, 3, 4)",
        ),
        (
            torch.zeros(5, 3),
            torch.zeros(2, 1, 4),
            "hx has shape (2, 1, 4), expected (num_layers * directions, hidden_size) = (2, 4)",
        ),
        (
            _packed(),
            torch.zeros(2, 3, 4),
            "hx has shape (2, 3, 4), expected (num_layers * directions, batch, hidden_size) = (2, 2, 4)",
        ),
        (torch.zeros(5, 2, 4), None, "input has shape (5, 2, 4), expected (time, batch, input_size) = (5, 2, 3)"),
        (torch.zeros(5, 4), None, "input has shape (5, 4), expected (time, input_size) = (5, 3)"),
        (_packed(4), None, "input.data has shape (6, 4), expected (total_time, input_size) = (6, 3)"),
        (torch.zeros(3), None, "input has shape (3,), expected (time, batch, input_size), (time, input_size) or a"),
        (
            torch.zeros(5, 2, 3).double(),
            None,
            "input is torch.float64, the weights are torch.float32: use input.to(torch.float32) or module.to(",
        ),
        (torch.zeros(5, 2, 3), torch.zeros(2, 2, 4).double(), "hx is torch.float64, the weights are torch.float32"),
    ],
)
def test_forward_messages(x: Any, hx: Tensor | None, message: str) -> None:
    rnn = rg.nn.LinearRNN(3, 4, 2)
    with pytest.raises(ValueError, match=r"expected|weights") as caught:
        rnn(x, hx)
    assert str(caught.value).startswith(message)


def test_messages_for_other_types_and_batch_first() -> None:
    rnn = rg.nn.LinearRNN(3, 4, batch_first=True)
    with pytest.raises(ValueError, match=r"input is list, expected \(batch, time, input_size\)"):
        rnn([1.0])
    with pytest.raises(ValueError, match=r"expected \(batch, time, input_size\) = \(5, 2, 3\)"):
        rnn(torch.zeros(5, 2, 9))
    with pytest.raises(TypeError, match=r"hx is tuple, expected a torch\.Tensor"):
        rnn(torch.zeros(5, 2, 3), (torch.zeros(1, 5, 4), torch.zeros(1, 5, 4)))
