"""What the live view shows are the numbers of the training itself."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from report.live_training import training
from retrograd.report.live import pictures as module
from retrograd.report.live.pictures import Pictures, Snapshot

# Values drawn are rounded to so many digits.
DRAWN = 10.0 ** (1 - module.DIGITS)


def values(drawn: list[float | None]) -> Any:
    return np.array([np.nan if value is None else value for value in drawn])


@pytest.mark.parametrize("options", [{}, {"closed_loop": 8}, {"targets": 2, "inputs": 1, "dated": True}])
def test_every_number_is_that_of_the_model_and_of_autograd(options: dict[str, Any]) -> None:
    run = training(**options)
    for _ in range(7):
        run.trainer.step()
    shown = run.pictures.of(run.snapshot())
    weights = {name: weight.detach().clone() for name, weight in run.trainer.weights.items()}
    model = replace(run.model, weights=weights)
    table = run.table
    one_step, free = model.one_step(table.targets, table.inputs), model.free_run(table.targets, table.inputs, run.start)
    for column in range(len(table.target_names)):
        np.testing.assert_allclose(values(shown["one_step"][column]), one_step[:, column], rtol=DRAWN)
        np.testing.assert_allclose(values(shown["free_run"][column]), free[:, column], rtol=DRAWN)
    for name, expected in zip(("open", "closed"), model.eigenvalues(), strict=True):
        found = shown["spectrum"][name]
        np.testing.assert_allclose(np.array(found["re"]) + 1j * np.array(found["im"]), expected, rtol=3 * DRAWN)
        assert found["radius"] == np.abs(expected).max()
    assert shown["loss"]["epoch"] == list(range(1, 8))
    np.testing.assert_allclose(shown["loss"]["loss"], [epoch.loss for epoch in run.trainer.history], rtol=DRAWN)
    norm = delta_by_autograd(run, weights)
    # In closed loop, no window starts from the last states: their gradient is zero, which a logarithm cannot show.
    np.testing.assert_allclose(values(shown["flow"]["norm"]), np.where(norm > 0, norm, np.nan), rtol=2 * DRAWN)
    assert shown["flow"]["zero"]["count"] == (norm == 0).sum() == (run.closed_loop or 0)
    assert len(shown["flow"]["at"]) == run.start - 1
    json.dumps(shown, allow_nan=False)
    json.dumps(run.pictures.frame(), allow_nan=False)


def delta_by_autograd(run: Any, w: dict[str, torch.Tensor]) -> Any:
    """‖∂L/∂h_t‖ by autograd through the plain loop; in closed loop, each window from its state of the whole run."""
    x, y = run.model.series(run.table.targets[: run.start], run.table.inputs[: run.start])
    h, states = w["h0"].requires_grad_(), []
    before = [h]
    for row in x:
        # A tensor of its own, so that its gradient is the whole one.
        h = w["weight_hh"] @ h + w["weight_ih"] @ row + w["bias"]
        h.retain_grad()
        states.append(h)
        before.append(h)
    if run.closed_loop is None:
        loss = (torch.stack([w["weight_out"] @ h + w["bias_out"] for h in states]) - y).square().mean()
    else:
        errors = []
        for start in range(len(x) - run.closed_loop, -1, -max(1, run.closed_loop // 4)):
            # The first input of a window is observed, the others are what was said before.
            h, said = before[start], x[start][: y.shape[1]]
            for k in range(run.closed_loop):
                row = torch.cat([said, x[start + k][y.shape[1] :]])
                h = w["weight_hh"] @ h + w["weight_ih"] @ row + w["bias"]
                said = w["weight_out"] @ h + w["bias_out"]
                errors.append((said - y[start + k]).square())
        loss = torch.stack(errors).mean()
    loss.backward()
    return np.array([0.0 if h.grad is None else float(h.grad.norm()) for h in states])


def test_the_frame_holds_the_data_as_they_are() -> None:
    run = training(targets=2, dated=True)
    frame = run.pictures.frame()
    assert frame["time"][1] - frame["time"][0] == 86_400_000
    assert (frame["dated"], frame["first"], frame["start"], frame["steps"]) == (True, 1, 40, 60)
    np.testing.assert_allclose(np.array(frame["observed"]).T, run.table.targets, rtol=DRAWN)


def test_a_long_series_is_shown_from_shortly_before_the_held_out_end() -> None:
    run = training(3_000, start=2_500)
    frame, shown = run.pictures.frame(), run.pictures.of(run.snapshot())
    assert (frame["first"], frame["start"]) == (2_421, 80)
    assert len(frame["time"]) == len(shown["one_step"][0]) == len(shown["free_run"][0]) == 320
    assert frame["time"][frame["start"]] == run.table.time[2_500]
    assert shown["free_run"][0][79] is None
    assert shown["free_run"][0][80] is not None
    assert shown["flow"]["thinned"]
    assert len(shown["flow"]["at"]) < module.MOST_POINTS + 5
    assert shown["flow"]["steps"] == 2_499
    without = training(3_000, start=3_000)
    assert without.pictures.frame()["first"] == 3_000 - 80 + 1
    assert without.pictures.of(without.snapshot())["free_run"] is None


def test_many_targets_are_bounded_and_counted() -> None:
    run = training(targets=module.MOST_TARGETS + 3)
    assert run.pictures.frame()["target_count"] == module.MOST_TARGETS + 3
    assert len(run.pictures.frame()["targets"]) == len(run.pictures.of(run.snapshot())["one_step"]) == 12


def test_a_long_history_is_thinned_and_keeps_its_peak() -> None:
    run = training()
    (epoch,) = [run.trainer.step()]
    history = [replace(epoch, number=k + 1, loss=50.0 if k == 31_234 else 1.0) for k in range(100_000)]
    loss = run.pictures.of(replace(run.snapshot(), history=history, epochs=99_000))["loss"]
    assert loss["thinned"]
    assert len(loss["loss"]) < module.MOST_POINTS + 5
    assert loss["epoch"][loss["loss"].index(50.0)] == 31_235
    assert loss["epoch"][-1] == 99_000  # what came after the snapshot is not in it


def test_zero_and_broken_gradients_are_neither_numbers_nor_one_another() -> None:
    norm = np.array([0.0, 1.0, np.nan, np.inf, 2.0, 0.0])
    flow = module._flow(np.arange(10.0, 16.0), norm)
    assert flow["norm"] == [None, 1.0, None, None, 2.0, None]
    assert flow["zero"] == {"count": 2, "at": [10.0, 15.0]}
    assert flow["broken"] == {"count": 2, "at": [12.0, 13.0]}
    many = module._flow(np.arange(5_000.0), np.zeros(5_000))
    assert many["zero"]["count"] == 5_000
    assert len(many["zero"]["at"]) == module.MOST_MARKERS


def test_weights_that_overflow_are_shown_as_such_without_a_warning() -> None:
    run = training()
    # The constant alone is finite to the network, and overflows in the data's units.
    too_large = {"weight_hh": 1e300 * np.eye(4), "bias_out": np.array([1e308])}
    weights = {**run.snapshot().weights, **too_large}
    shown = run.pictures.of(Snapshot(weights, [], 0))
    assert shown["flow"]["broken"]["count"] > 0
    assert None in shown["one_step"][0][1:]
    assert shown["spectrum"]["open"]["radius"] == 1e300
    json.dumps(shown, allow_nan=False)


def test_eigenvalues_that_are_not_finite_are_counted() -> None:
    found = module._spectrum(np.array([0.5, np.nan, 0.3j]))
    assert (found["re"], found["im"], found["broken"], found["radius"]) == ([0.5, 0.0], [0.0, 0.3], 1, 0.5)
    assert module._spectrum(np.array([np.nan]))["radius"] is None


def test_the_model_handed_in_is_left_alone() -> None:
    run = training()
    before = {name: weight.clone() for name, weight in run.model.weights.items()}
    pictures: Pictures = run.pictures
    run.trainer.step()
    pictures.of(run.snapshot())
    assert all(bool((run.model.weights[name] == weight).all()) for name, weight in before.items())
