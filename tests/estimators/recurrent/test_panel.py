"""One linear RNN over many series: what one process and ranks that share them find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import retrograd as rg
from retrograd.errors import InputError
from retrograd.estimators import Recurrent, RecurrentPanel
from retrograd.estimators.recurrent.innovations import innovation_covariance
from retrograd.estimators.recurrent.panel_training import PanelTrainer, batches, shared_out
from retrograd.estimators.recurrent.training import loss_and_gradients

WEIGHTS = ("weight_hh", "weight_ih", "bias", "h0", "weight_out", "bias_out")


def waves(lengths: tuple[int, ...] = (50, 31, 49, 7, 20), outputs: int = 1, holes: bool = True) -> dict[str, Any]:
    random = np.random.default_rng(0)
    found = {f"s{k}": np.sin(np.arange(n) / 3 + k)[:, None] + random.normal(size=(n, outputs)) / 9
             for k, n in enumerate(lengths)}  # fmt: skip
    if holes:
        found["s1"][[4, 9]] = np.nan
    return found


def test_the_loss_and_its_gradient_are_those_of_every_series_alone() -> None:
    """Also of padded ones, and of one with missing values: the mean over all targets."""
    series = waves(outputs=2)
    networks = RecurrentPanel(hidden=3).untrained(series)
    pairs = [networks[name].series(y, y[:, :0]) for name, y in series.items()]
    assert 1 < len(batches(pairs)) < len(pairs)
    weights = next(iter(networks.values())).weights
    loss, gradients = PanelTrainer(weights, pairs).loss_and_gradients(weights)
    counts = [int((~y.isnan()).sum()) for _, y in pairs]
    alone = [loss_and_gradients(weights, x, y, None) for x, y in pairs]
    total = sum(counts)
    torch.testing.assert_close(loss, sum(n * one[0] for n, one in zip(counts, alone, strict=True)) / total)
    for name in WEIGHTS:
        want = sum(n * one[1][name] for n, one in zip(counts, alone, strict=True)) / total
        torch.testing.assert_close(gradients[name], want, rtol=1e-12, atol=1e-13)


def test_series_are_dealt_out_evenly() -> None:
    lengths = [3, 9, 1, 7, 7, 2, 5]
    parts = [shared_out(lengths, rank, 3) for rank in range(3)]
    assert sorted(place for part in parts for place in part) == list(range(7))
    sums = [sum(lengths[place] for place in part) for part in parts]
    assert max(sums) - min(sums) <= max(lengths)


@pytest.mark.parametrize(("optimizer", "ranks"), [("adam", 7), ("lbfgs", 2)])
def test_ranks_that_share_the_series_train_the_same_model(optimizer: str, ranks: int, tmp_path: Path) -> None:
    series = waves()

    def model() -> RecurrentPanel:
        return RecurrentPanel(hidden=3, optimizer=optimizer, epochs=2)

    def work(one: rg.distributed.Ranks) -> RecurrentPanel:
        return model().fit(series, group=one, checkpoint=tmp_path / f"{one.rank}.safetensors")

    found, want = rg.distributed.simulate(ranks, work), model().fit(series)
    for one in (*found, *(rg.distributed.simulate(ranks, work) if optimizer == "adam" else [])):
        for name in WEIGHTS:
            weight = one.networks_["s0"].weights[name]
            assert torch.equal(weight, found[0].networks_["s0"].weights[name])
            torch.testing.assert_close(weight, want.networks_["s0"].weights[name], rtol=1e-6, atol=1e-8)
    assert [path.name for path in tmp_path.iterdir()] == ["0.safetensors"]


def test_one_series_is_trained_as_by_recurrent() -> None:
    y = waves((60,), holes=False)["s0"]
    panel = RecurrentPanel(hidden=3, epochs=5).fit({"one": y})
    alone = Recurrent(hidden=3, epochs=5).fit(y)
    for name in WEIGHTS:
        torch.testing.assert_close(panel.networks_["one"].weights[name], alone.network_.weights[name])
    np.testing.assert_allclose(panel.forecast(4)["one"], alone.forecast(4), rtol=1e-9)


def test_a_saved_model_forecasts_the_same(tmp_path: Path) -> None:
    model = RecurrentPanel(hidden=3, epochs=2).fit(waves())
    model.save(tmp_path / "model")
    loaded = RecurrentPanel.load(tmp_path / "model")
    for name, values in model.forecast(3).items():
        np.testing.assert_array_equal(loaded.forecast(3)[name], values)
        assert list(loaded.forecast(3, [name])) == list(loaded.forecast_interval(3, [name])) == [name]
        np.testing.assert_array_equal(loaded.forecast(3, [name])[name], values)
    with pytest.raises(InputError, match="names is 'nowhere': there are: "):
        loaded.forecast(3, ["nowhere"])
    assert loaded.get_params() == model.get_params()


def test_a_constant_series_is_forecast_as_it_is() -> None:
    series = waves((40, 30), holes=False) | {"flat": np.full((20, 1), 7.0)}
    coming = RecurrentPanel(hidden=3, epochs=2).fit(series).forecast(3)
    np.testing.assert_allclose(coming["flat"], 7.0, atol=1.0)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "Y has no series"),
        ({"a": np.zeros((30, 1))}, "constant"),
        ({"a": np.arange(9.0), "b": np.zeros((1, 1))}, "series b has 1 step"),
        ({"a": np.arange(9.0), "b": np.zeros((5, 2))}, "series b has the targets"),
    ],
    ids=["none", "constant", "short", "targets"],
)
def test_what_cannot_be_trained_is_refused(series: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RecurrentPanel(hidden=2).fit(series)


def test_intervals_are_those_of_one_series_by_its_own_errors_or_by_all(tmp_path: Path) -> None:
    series = waves((90, 60, 70, 7), outputs=2, holes=False)
    model = RecurrentPanel(hidden=2, epochs=2).fit(series)
    coming = model.forecast_interval(4, level=0.8)
    for name in ("s0", "s3"):
        network, y = model.networks_[name], series[name]
        alone = Recurrent(hidden=2)
        alone.network_, alone.state_ = network, model.states_[name]
        alone.innovation_covariance_ = innovation_covariance(network, y, y[:, :0])
        expected = alone.forecast_interval(4, level=0.8)
        np.testing.assert_array_equal(coming[name].mean, expected.mean)
        if name == "s0":
            np.testing.assert_allclose(coming[name].upper, expected.upper, rtol=1e-12)
    errors = [
        ((y - model.networks_[name].one_step(y, y[:, :0])) / model.networks_[name].target_scaling.scale)[1:]
        for name, y in series.items()
    ]
    scale = np.diag(model.networks_["s3"].target_scaling.scale)
    np.testing.assert_allclose(
        model.innovation_covariances_["s3"], scale @ np.cov(np.concatenate(errors).T, ddof=0) @ scale, rtol=0.1
    )
    model.save(tmp_path / "m")
    again = RecurrentPanel.load(tmp_path / "m").forecast_interval(4, level=0.8)
    np.testing.assert_array_equal(again["s3"].lower, coming["s3"].lower)
