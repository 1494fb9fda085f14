"""A backend that is named runs every part of the result."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch

import retrograd as rg
from retrograd.core.backend import BACKENDS
from retrograd.rnn.agreement import agreement
from rnn.problems import parameters


@pytest.fixture
def only_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other backend computes anything."""

    def refuse(name: str) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError(f"{name} was called")

        return called

    for other in BACKENDS.values():
        if other.name != "reference":
            for part in ("scan", "adjoint", "outer_sum"):
                monkeypatch.setattr(type(other), part, refuse(f"{other.name}.{part}"))


@pytest.mark.usefixtures("only_reference")
def test_reference_runs_bptt() -> None:
    p = parameters(2, 400, 300, 200, 2, torch.float32, 0)  # large enough for products of torch's own
    for feedback in (None, torch.arange(400) % 3 == 0):
        rg.bptt(**p, feedback=feedback, loss=lambda y: y.square().sum(), backend="reference")
    g = rg.bptt_chunked(**p, memory=50 * 2 * 200 * 4, backend="reference")
    assert g.weight_hh.shape == (200, 200)


@pytest.mark.usefixtures("only_reference")
@pytest.mark.parametrize("diagonal", [False, True])
def test_reference_runs_stream(diagonal: bool) -> None:
    p = parameters(2, 9, 3, 4, 2, torch.float64, 0)
    x = p.pop("x")
    p["weight_hh"] = p["weight_hh"].diagonal() if diagonal else p["weight_hh"]
    for kind in ({"online": True}, {"truncate": 4, "stride": 2}):
        stream = rg.Stream(**p, **kind, backend="reference")
        stream.feed(x, loss=lambda y: y.square().sum())
        stream.flush()
        assert stream.gradients["weight_hh"].shape == p["weight_hh"].shape


@pytest.mark.usefixtures("only_reference")
def test_reference_runs_its_rows_of_the_agreement() -> None:
    with patch.dict(BACKENDS, {"reference": BACKENDS["reference"]}, clear=True):
        rows = agreement(time=3, hidden=2, batch=1)
    assert {row.method for row in rows} == {"bptt, reference", "autograd, reference", "finite differences"}
    assert all(row.passed for row in rows)
