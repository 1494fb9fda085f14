"""Recording changes nothing: not the training, not a copy of the model; and what fails in it stays in it."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from insight.recorder.loops import Model, train
from retrograd.insight import Recorder


def test_training_is_the_same_bits() -> None:
    torch.manual_seed(0)
    model = Model()
    plain, _ = train(copy.deepcopy(model))
    watched, recorder = train(model, every=1)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert recorder is not None
    assert [(record.backward, record.module) for record in recorder.records] == [
        (number, name) for number in range(4) for name in ("decoder", "encoder")
    ]
    assert len(recorder.gradient_norms) == 4


class Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        if Fails.now:
            raise ValueError("not this time")
        return g

    now = True


def alive() -> int:
    """The number of tensors that Python holds."""
    gc.collect()
    return sum(type(value) is Tensor for value in gc.get_objects())


def test_a_graph_gone_through_again_after_an_error() -> None:
    model, x = nn.GRU(2, 3), torch.randn(4, 1, 2, requires_grad=True)
    with Recorder(model) as recorder:
        loss = model(Fails.apply(x))[0].sum()
        before = alive()
        with pytest.raises(ValueError, match="not this time"):
            loss.backward(retain_graph=True)
        assert not recorder.records
        for p in model.parameters():
            p.grad = None
        assert alive() == before  # no gradient of the pass that failed is kept
        Fails.now = False
        loss.backward()
        assert [record.backward for record in recorder.records] == [1]
        assert recorder.records[0].measured == "delta"


def test_a_copy_or_a_pickle_of_the_model_is_not_recorded() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.GRU(2, 3, batch_first=True))
    parametrizations.spectral_norm(plain[0], "weight_hh_l0")
    x = torch.randn(1, 4, 2)
    with Recorder(plain, outputs={"0": 1}) as recorder:
        copies = [copy.deepcopy(plain), torch.optim.swa_utils.AveragedModel(plain).module]
        for one in copies:
            one(x)[0].sum().backward()
        assert not recorder.records
    model = Model()
    with Recorder(model) as recorder:
        copies = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
        stored = io.BytesIO()
        torch.save(model, stored)
        stored.seek(0)
        copies.append(torch.load(stored, weights_only=False))
        for one in copies:
            one(torch.randn(2, 7, 3)).sum().backward()
        assert not recorder.records
        model(torch.randn(2, 7, 3)).sum().backward()
        assert len(recorder.records) == 2
    pickle.dumps(copies[1])


def test_nothing_holds_a_recorder_in_a_cycle() -> None:
    model, cell = Model(), nn.LSTMCell(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gc.collect()
    gc.disable()
    try:
        recorder, other = Recorder(model, optimizer=optimizer, outputs={"embed": 1}), Recorder(cell)
        model(torch.randn(2, 7, 3)).sum().backward()
        state = cell(torch.randn(4, 2), cell(torch.randn(4, 2)))
        state[0].sum().backward()
        graph = weakref.ref(state[0])
        gone = [weakref.ref(recorder), weakref.ref(other), graph]
        recorder.close()
        other.close()
        del recorder, other, state
        assert [reference() for reference in gone] == [None] * 3
    finally:
        gc.enable()


# --- what fails in the recorder ---


class Broken:
    def add_scalar(self, *_: Any) -> None:
        raise OSError("disk full")

    add_histogram = add_scalar


class Odd(nn.LSTM):
    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"output": super().forward(x)[0]}


def test_no_error_of_the_recorders_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Model()
    plain, _ = train(copy.deepcopy(model))
    with pytest.warns(UserWarning, match=r"telling the writer: OSError: disk full .said once"):
        watched, recorder = train(copy.deepcopy(model), writer=Broken())
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert recorder is not None
    assert len(recorder.records) == 8
    assert recorder.notes == {"telling the writer: OSError": "disk full"}
    assert "disk full" in str(recorder)

    def refuse(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("retrograd.insight.recorder.watch.replay", refuse)
    watched, recorder = train(copy.deepcopy(model), every=1)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert recorder is not None
    assert {record.measured for record in recorder.records} == {"direct"}
    assert "RuntimeError: out of memory" in recorder.records[0].note
    monkeypatch.setattr("retrograd.insight.recorder.watch.step_norms", refuse)
    with pytest.warns(UserWarning, match="recording: RuntimeError: out of memory"):
        watched, recorder = train(copy.deepcopy(model), every=1)
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))


def test_what_cannot_be_watched_is_warned_of_and_runs_on() -> None:
    odd = Odd(2, 3)
    with Recorder(odd) as recorder:
        with pytest.warns(UserWarning, match=r"watching Odd: TypeError: it returned dict"):
            odd(torch.randn(4, 1, 2))["output"].sum().backward()
        odd(torch.randn(4, 1, 2))["output"].sum().backward()  # warned of once
    assert not recorder.records
    model, x = nn.RNN(2, 3), torch.randn(4, 1, 2)
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (x,))[0].sum()

    plain = torch.func.grad(loss)(weights)
    with Recorder(model) as recorder, pytest.warns(UserWarning, match=r"nothing can be recorded inside torch\.func"):
        watched = torch.func.grad(loss)(weights)
    assert all(torch.equal(plain[name], watched[name]) for name in plain)
    assert not recorder.records
    model(x)[0].sum().backward()
    pair = nn.Sequential(nn.Identity(), nn.Linear(2, 3))
    with Recorder(pair, outputs={"0": 0}), pytest.warns(UserWarning, match="the output of '0' is list"):
        pair[0]([1, 2])
