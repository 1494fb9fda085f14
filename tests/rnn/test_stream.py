"""Gradients that come in with the series: exact ones against bptt, truncated ones against their definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import retrograd as rg
from retrograd.rnn.stream import Stream
from retrograd.rnn.windows import Windows

NAMES = ("weight_hh", "weight_ih", "bias", "weight_out", "bias_out", "h0")
TIME = 23


def problem(
    diagonal: bool, dtype: torch.dtype, batch: tuple[int, ...] = ()
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, dtype=dtype, generator=generator) * scale

    weights = {
        "weight_hh": random(4, scale=0.5) if diagonal else random(4, 4, scale=0.4),
        "weight_ih": random(4, 2),
        "bias": random(4),
        "weight_out": random(3, 4),
        "bias_out": random(3),
        "h0": random(*batch, 4),
    }
    return weights, random(*batch, TIME, 2), random(*batch, TIME, 3)


def whole(weights: dict[str, Tensor], x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """bptt's gradients of the squared error; of a diagonal W_hh those on its diagonal."""
    diagonal = weights["weight_hh"].ndim == 1
    dense = {**weights, "weight_hh": weights["weight_hh"].diag()} if diagonal else weights
    g = rg.bptt(x, **dense, loss=lambda y: (y - target).abs().square().sum())
    result = {name: getattr(g, name) for name in NAMES}
    result["weight_hh"] = result["weight_hh"].diagonal() if diagonal else result["weight_hh"]
    return result


def feed(stream: Stream, x: Tensor, target: Tensor, sizes: list[int]) -> None:
    begin = 0
    for size in sizes:
        at = slice(begin, begin + size)
        stream.feed(x[..., at, :], loss=lambda y, at=at: (y - target[..., at, :]).abs().square().sum())  # type: ignore[misc]
        begin += size


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], dtype: torch.dtype) -> None:
    eps = torch.finfo(dtype).eps
    for name in NAMES:
        x, y = got[name].reshape(want[name].shape), want[name]
        assert (x - y).abs().max() <= 200 * eps * y.abs().max(), name


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("diagonal", [False, True])
def test_online_equals_bptt_at_every_step(diagonal: bool, dtype: torch.dtype, batch: tuple[int, ...]) -> None:
    weights, x, target = problem(diagonal, dtype, batch)
    stream = Stream(**weights, online=True)
    for t in range(TIME):
        feed(stream, x[..., t : t + 1, :], target[..., t : t + 1, :], [1])
        assert_same(stream.gradients, whole(weights, x[..., : t + 1, :], target[..., : t + 1, :]), dtype)
    in_chunks = Stream(**weights, online=True)
    feed(in_chunks, x, target, [5, 1, 10, 7])
    assert_same(in_chunks.gradients, stream.gradients, dtype)


def test_online_in_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrograd.rnn.online._PIECE", 300)
    for diagonal in (False, True):
        weights, x, target = problem(diagonal, torch.float64)
        stream = Stream(**weights, online=True)
        feed(stream, x, target, [TIME])
        assert_same(stream.gradients, whole(weights, x, target), torch.float64)


@pytest.mark.parametrize("window", [TIME, TIME + 5])
@pytest.mark.parametrize("stride", [1, 4, None])
@pytest.mark.parametrize("diagonal", [False, True])
def test_a_window_of_the_whole_series_is_bptt(diagonal: bool, stride: int | None, window: int) -> None:
    for batch in ((), (3,)):
        weights, x, target = problem(diagonal, torch.float64, batch)
        stream = Stream(**weights, truncate=window, stride=stride)
        feed(stream, x, target, [5, 1, 10, 7])
        stream.flush()
        assert_same(stream.gradients, whole(weights, x, target), torch.float64)


def by_definition(weights: dict[str, Tensor], x: Tensor, target: Tensor, window: int, stride: int) -> dict[str, Tensor]:
    """Autograd through the last `window` steps, from the losses of every `stride` of them, on a detached state."""
    w = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    states = [w["h0"]]
    W = w["weight_hh"].diag() if w["weight_hh"].ndim == 1 else w["weight_hh"]
    for t in range(TIME):
        states.append(states[-1] @ W.mT + x[..., t, :] @ w["weight_ih"].mT + w["bias"])
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    done = 0
    while done < TIME:
        end = min(done + stride, TIME)
        begin = max(0, end - window)
        h = states[begin] if begin == 0 else states[begin].detach()
        loss = torch.zeros(())
        for t in range(begin, end):
            h = h @ W.mT + x[..., t, :] @ w["weight_ih"].mT + w["bias"]
            if t >= done:
                y = h @ w["weight_out"].mT + w["bias_out"]
                loss = loss + (y - target[..., t, :]).square().sum()
        parts = torch.autograd.grad(loss, list(w.values()), allow_unused=True, retain_graph=True)
        for name, part in zip(w, parts, strict=True):
            total[name] += 0 if part is None else part
        done = end
    return total


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (6, 1), (6, 4), (6, 6), (5, 2)])
@pytest.mark.parametrize("diagonal", [False, True])
def test_truncation_by_its_definition(diagonal: bool, window: int, stride: int) -> None:
    for batch in ((), (2,)):
        weights, x, target = problem(diagonal, torch.float64, batch)
        want = by_definition(weights, x, target, window, stride)
        for sizes in ([TIME], [5, 1, 10, 7], [1] * TIME):
            stream = Stream(**weights, truncate=window, stride=stride)
            feed(stream, x, target, sizes)
            stream.flush()
            assert_same(stream.gradients, want, torch.float64)


def test_what_truncation_keeps_is_bounded() -> None:
    weights, x, target = problem(False, torch.float64)
    stream = Stream(**weights, truncate=6, stride=2)
    for _ in range(50):
        feed(stream, x, target, [TIME])
        assert isinstance(stream._learner, Windows)
        assert stream._learner._past[0].shape[-2] < 6 + 2


def test_states_go_on_from_chunk_to_chunk() -> None:
    weights, x, _ = problem(False, torch.float64)
    del weights["weight_out"], weights["bias_out"]
    stream = Stream(**weights)
    parts = [stream.feed(x[:9]).states, stream.feed(x[9:]).states]
    torch.testing.assert_close(torch.cat(parts), rg.bptt(x, **weights).states)
    assert stream.state is not None
    assert torch.equal(stream.state, parts[1][-1])
    assert stream.steps == TIME
    assert stream.gradients == {}


def test_an_update_in_place_counts_from_the_next_chunk() -> None:
    weights, x, target = problem(True, torch.float64)
    stream = Stream(**weights, online=True)
    feed(stream, x[:9], target[:9], [9])
    weights["weight_hh"] -= 0.01 * stream.gradients["weight_hh"]
    before = stream.state
    stream.zero_grad()
    states = stream.feed(x[9:]).states
    assert before is not None
    first = weights["weight_hh"] * before + x[9] @ weights["weight_ih"].mT + weights["bias"]
    torch.testing.assert_close(states[0], first)


def test_the_error_of_truncation_falls_with_the_window() -> None:
    weights, x, target = problem(False, torch.float64)
    weights["weight_hh"] = torch.eye(4, dtype=torch.float64) * 0.8
    errors = rg.truncation_error(x, [1, 3, 9, TIME], loss=lambda y: (y - target).square().sum(), **weights)
    relative = [e.relative for e in errors]
    assert relative == sorted(relative, reverse=True)
    assert relative[0] > 0.1
    assert relative[-1] < 1e-13
    assert errors[-1].cosine == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_the_error_of_truncation_does_not_depend_on_the_size_of_the_loss(scale: float) -> None:
    weights, x, target = problem(False, torch.float64)
    plain, found = (
        rg.truncation_error(x, [1, 4], loss=lambda y: factor * (y - target).square().sum(), **weights)  # noqa: B023
        for factor in (1.0, scale)
    )
    for one, other in zip(plain, found, strict=True):
        assert (one.relative, one.cosine) == pytest.approx((other.relative, other.cosine), rel=1e-13)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"online": True, "truncate": 3}, "online=True and truncate were both given"),
        ({"stride": 3}, "stride was given without truncate"),
        ({"truncate": 3, "stride": 4}, "truncate is 3 and stride 4, expected 1 <= stride <= truncate"),
        ({"truncate": 0}, "truncate is 0 and stride None"),
        ({"weight_hh": torch.ones(4, 3)}, "weight_hh has shape (4, 3), expected (hidden, hidden), or (hidden,)"),
        ({"weight_ih": torch.ones(3, 2)}, "weight_ih has shape (3, 2), expected (hidden, inputs) = (4, 2)"),
        ({"bias": torch.ones(3)}, "bias has shape (3,), expected (hidden,) = (4,)"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], message: str) -> None:
    weights, _, _ = problem(False, torch.float64)
    with pytest.raises(ValueError, match=r"expected|given") as caught:
        Stream(**{**weights, **change})
    assert message in str(caught.value)


def test_bad_chunks_are_named() -> None:
    weights, x, target = problem(False, torch.float64)
    stream = Stream(**weights)
    with pytest.raises(ValueError, match=r"x has shape \(23, 3\), expected \(batch, time, 2\) or \(time, 2\)"):
        stream.feed(target)
    with pytest.raises(ValueError, match="loss and grad were both given"):
        stream.feed(x, loss=torch.sum, grad=target)
    with pytest.raises(ValueError, match=r"grad has shape \(3, 3\), expected \(time, values\) = \(23, 3\)"):
        stream.feed(x, grad=target[:3])
    large = Stream(weight_hh=torch.zeros(500, 500), weight_ih=torch.zeros(500, 1), online=True)
    with pytest.raises(ValueError, match="a dense weight_hh of 500 states needs an influence of 479 MB"):
        large.feed(torch.zeros(3, 1), loss=torch.sum)
