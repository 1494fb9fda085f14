"""bptt_chunked: input too long for memory, memory-mapped or an iterable of chunks; and bptt, which is always whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import retrograd as rg

TIME = 301
EPS = float(np.finfo(np.float64).eps)
SUMS = ("loss", "weight_hh", "weight_ih", "bias", "weight_out", "bias_out", "h0")
PER_STEP = ("states", "outputs", "inputs", "delta", "x", "contributions")


def problem(batch: tuple[int, ...] = ()) -> dict[str, Any]:
    draw = np.random.default_rng(0).standard_normal
    return {
        "x": draw((*batch, TIME, 2)),
        "weight_hh": draw((3, 3)) * 0.3,
        "weight_ih": draw((3, 2)),
        "bias": draw(3),
        "weight_out": draw((2, 3)) * 0.3,
        "bias_out": draw(2),
    }


def memory_of(steps: int, batch: int = 1) -> int:
    return steps * batch * 3 * 8


def assert_same(got: Any, want: Any) -> None:
    for name in SUMS:
        x, y = getattr(got, name), getattr(want, name)
        assert (x is None) == (y is None), name
        if y is not None:
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=0, atol=1e3 * EPS * max(1.0, float(abs(y).max())), err_msg=name)
    assert isinstance(got, rg.GradientTotals)
    assert not any(hasattr(got, name) for name in PER_STEP)


@pytest.mark.parametrize("feedback", [None, True, "mask"])
@pytest.mark.parametrize("start", ["nothing", "final", "states", "loss"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_chunks_give_the_gradients_of_the_whole(batch: tuple[int, ...], start: str, feedback: Any) -> None:
    p = problem(batch)
    draw = np.random.default_rng(1).standard_normal
    p["feedback"] = np.arange(TIME) % 7 < 3 if feedback == "mask" else feedback
    p["h0"] = draw((*batch, 3))
    if start == "final":
        p["grad_final"] = draw((*batch, 3))
    if start == "states":
        p["grad_states"] = draw((*batch, TIME, 3))
    target = torch.from_numpy(draw((*batch, TIME, 2)))

    def loss(y: Tensor, at: slice = slice(None)) -> Tensor:
        return ((y - target[..., at, :]) ** 2).sum()

    whole = rg.bptt(**p, loss=loss if start == "loss" else None)
    for steps in (40, 77, 200, TIME):
        memory = memory_of(steps, *batch)
        assert_same(rg.bptt_chunked(**p, loss=loss if start == "loss" else None, memory=memory), whole)


@pytest.mark.parametrize("wide", ["grad_final", "grad_states", "h0"])
def test_one_argument_in_double_precision_makes_all_chunks_so(wide: str) -> None:
    p = {name: array.astype(np.float32) for name, array in problem().items() if not name.endswith("out")}
    p[wide] = np.random.default_rng(1).standard_normal((TIME, 3) if wide == "grad_states" else 3)
    assert_same(rg.bptt_chunked(**p, memory=memory_of(40)), rg.bptt(**p))


def test_a_memory_mapped_file(tmp_path: Path) -> None:
    p = problem()
    p["x"].tofile(tmp_path / "x.f64")
    mapped = np.memmap(tmp_path / "x.f64", np.float64, "r", shape=(TIME, 2))
    whole = rg.bptt(**p)
    assert_same(rg.bptt_chunked(**{**p, "x": mapped}, memory=memory_of(60)), whole)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_iterable_of_chunks_is_walked_once(kind: str) -> None:
    p = problem()
    p = p if kind == "numpy" else {name: torch.from_numpy(x) for name, x in p.items()}
    whole = rg.bptt(**p)
    walks = 0

    def chunks() -> Any:
        nonlocal walks
        walks += 1
        for begin in range(0, TIME, 50):
            yield p["x"][begin : begin + 50]

    for memory in ("sqrt", memory_of(60)):
        got = rg.bptt_chunked(**{**p, "x": chunks()}, memory=memory)
        assert_same(got, whole)
        assert isinstance(got.weight_hh, np.ndarray if kind == "numpy" else Tensor)
    assert walks == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64], ids=str)
def test_an_iterable_of_any_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(20, 2).to(dtype)
    x = x.conj() if dtype.is_complex else x
    given: dict[str, Any] = {"weight_hh": torch.full((1, 1), 0.5, dtype=dtype), "weight_ih": torch.ones(1, 2).to(dtype)}
    got, want = (rg.bptt_chunked(one, **given) for one in (iter([x[:7], x[7:]]), x))
    assert got.weight_ih.dtype == dtype
    assert torch.equal(got.weight_ih, want.weight_ih)


def test_an_update_by_the_gradients_of_chunks() -> None:
    p = {name: torch.from_numpy(x) for name, x in problem().items()}
    before = p["weight_hh"].clone()
    g = rg.bptt_chunked(**p, memory=memory_of(60))
    g.update(lr=0.01)
    torch.testing.assert_close(p["weight_hh"], before - 0.01 * g.weight_hh)


def test_a_shared_h0() -> None:
    p = {**problem((2,)), "h0": np.ones(3)}
    assert_same(rg.bptt_chunked(**p, memory=memory_of(60, 2)), rg.bptt(**p))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": iter([])}, ValueError, "x is an iterable without a step"),
        ({"x": [1.0]}, TypeError, "x is list, expected a floating or complex tensor or NumPy array, or an iterable"),
        ({"x": [np.ones(3)]}, ValueError, "chunk 0 of x has shape (3,), expected (steps, inputs)"),
        (
            {"x": [np.ones((3, 2)), np.ones((3, 1))]},
            ValueError,
            "chunk 1 of x has 1 inputs of float64 on cpu, the first one 2 inputs of float64 on cpu",
        ),
        ({"x": np.ones((2, 0, 2))}, ValueError, "x has shape (2, 0, 2), expected (batch, time, inputs)"),
        ({"memory": "all"}, ValueError, "memory is 'all', expected 'sqrt' or a number of bytes"),
        ({"grad_final": np.ones(3), "loss": torch.sum}, ValueError, "the gradient has one start"),
        ({"feedback": np.ones(4, bool)}, ValueError, "feedback has shape (4,), expected (time,) = (301,)"),
        ({"grad_states": np.ones((4, 3))}, ValueError, "grad_states has 4 steps, x has 301"),
        ({"memory": 10}, ValueError, "memory is 10 bytes, expected at least 840"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        rg.bptt_chunked(**{**problem(), "memory": memory_of(60), **change})
    assert message in str(caught.value)


# --- bptt is whole on every machine ---


def test_bptt_says_what_to_do_where_its_results_are_larger_than_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    p = problem()
    # States, δ, outputs and ∂L/∂x of each step: 3 + 3 + 2 + 2 numbers.
    monkeypatch.setattr("retrograd.rnn.bptt.device_memory", lambda device: TIME * 10 * 8 - 1)
    with pytest.raises(
        MemoryError, match=r"x has 301 steps, whose results take .* GB; cpu has .* GB: use bptt_chunked"
    ):
        rg.bptt(**p)
    monkeypatch.setattr("retrograd.rnn.bptt.device_memory", lambda device: TIME * 10 * 8)
    assert rg.bptt(**p).states.shape == (TIME, 3)


def test_bptt_is_whole_however_little_memory_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its results and the loss's arguments are the same where states take more than an eighth of the memory."""
    p, time = {**problem(), "x": np.ones((20_000, 2))}, 20_000
    for name in ("retrograd.core.saving.device_memory", "retrograd.rnn.bptt.device_memory"):
        monkeypatch.setattr(name, lambda device: time * 10 * 8)
    g = rg.bptt(**p, loss=lambda y: y.square().sum())
    assert g.states.shape == (time, 3)
    assert g.x.shape == (time, 2)


def test_memory_and_chunks_given_to_bptt_are_deprecated() -> None:
    p = problem()
    whole = rg.bptt(**p)
    for memory in ("all", "auto"):
        with pytest.warns(FutureWarning, match="bptt: memory='.*' is deprecated: it holds every state"):
            got: Any = rg.bptt(**p, memory=memory)
        np.testing.assert_array_equal(got.states, whole.states)
    with pytest.warns(FutureWarning, match="bptt: memory=1440 is deprecated: use bptt_chunked"):
        got = rg.bptt(**p, memory=memory_of(60))
    assert_same(got, whole)
    for chunks in (iter([p["x"]]), [p["x"][:100], p["x"][100:]]):
        with pytest.warns(FutureWarning, match="bptt: an iterable of chunks as x is deprecated: use bptt_chunked"):
            got = rg.bptt(**{**p, "x": chunks})
        assert_same(got, whole)
    message = "contributions were asked for with bounded memory"
    with pytest.warns(FutureWarning, match="use bptt_chunked"), pytest.raises(ValueError, match=message):
        rg.bptt(**p, memory="sqrt", contributions=True)
