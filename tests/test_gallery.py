"""The examples compute what their pictures and docs/gallery.md claim."""

from __future__ import annotations

import importlib
import json
import math
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SHOWN = "images/gallery"
PICTURES = ROOT / "docs" / SHOWN
# As the tests run under, so that two processes do not wait for each other's threads.
ONE_THREAD = {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
PAGE = (ROOT / "docs" / "gallery.md").read_text()
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "pictures")
# By example and axes: x label, y label, and their scales.
AXES = {
    "binary_addition": [
        ("epoch", "cross-entropy, nats a bit", "log", "log"),
        ("position (shaded: as in training)", "carry c_t", "log", "linear"),
        ("bits in each number", "share of wrong bits", "log", "symlog"),
    ],
    "chirp": [
        ("step t", "angle of a_t, cycles a step", "linear", "linear"),
        ("", "symbol error rate", "linear", "log"),  # its x axis is the one below
        ("epoch", "short of the\nmatched filter, dB", "linear", "log"),
        ("E_s / N_0, dB", "rate after 1000\nepochs / exact", "linear", "linear"),
    ],
    "cosine": [
        ("", "value", "linear", "linear"),
        ("", "", "linear", "linear"),
        ("", "", "linear", "linear"),
        ("step", "value", "linear", "linear"),
        ("step", "", "linear", "linear"),
        ("step", "", "linear", "linear"),
        (
            "epoch (dotted: from here on, fewer inputs are the truth)",
            "mean squared error,\nlargest error",
            "linear",
            "log",
        ),
    ],
    "random_walk": [
        ("step (0: end of the data)", "value", "linear", "linear"),
        ("horizon h, steps", "off the best forecast,\nroot mean square (units of y)", "log", "log"),
    ],
    "truncation_bias": [
        ("window k, steps", "truncated against whole ∂L/∂W_hh", "log", "log"),
        ("memory 1 / (1 − λ), steps", "mean squared error", "log", "linear"),
    ],
    "vanishing_exploding": [
        ("step t", "‖∂L/∂h_t‖ / ‖∂L/∂h_T‖", "linear", "log"),
        ("start", "mean squared error (▲: above 100)", "linear", "log"),
        ("start", "", "linear", "log"),
    ],
}


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import an example as it runs: with its folder in the path."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    before, style = plt.get_backend(), plt.rcParams.copy()
    plt.switch_backend("agg")
    yield importlib.import_module
    plt.close("all")
    plt.rcParams.update(style)
    plt.switch_backend(before)


def draws(module: Any, result: Any, out: Path) -> Any:
    """The picture is made, with the labels and scales that its subject wants; return its axes."""
    drawn = module.draw(result)
    axes = drawn.axes
    found = [(one.get_xlabel(), one.get_ylabel(), one.get_xscale(), one.get_yscale()) for one in axes]
    assert found == AXES[module.__name__]
    module.pictures.save(drawn, out)
    assert 10_000 < out.stat().st_size < 150_000
    with Image.open(out) as made, Image.open(PICTURES / out.name) as shown:
        assert made.format == "PNG"
        # What the page shows is this picture, whatever its numbers: as large, and as much of it drawn on.
        assert shown.size == made.size
        inks = [1 - np.asarray(picture.convert("L")).mean() / 255 for picture in (made, shown)]
        assert inks[0] == pytest.approx(inks[1], abs=0.05)
        assert inks[1] > 0.01
    return axes


def lines(axis: Any) -> dict[str, Any]:
    """Return an axis' curves by label."""
    return {line.get_label(): line for line in axis.lines}


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_cosine_goes_on_by_itself(example: Any, tmp_path: Path, seed: int) -> None:
    cosine = example("cosine")
    epochs = cosine.train(seed)
    found = cosine.figures(epochs)
    assert max(found["within"], found["beyond"]) < cosine.GOOD
    assert epochs[-1].error() == max(found["within"], found["beyond"])
    assert epochs[0].error() > 0.9
    assert found["eigenvalue"] == pytest.approx(1, abs=5e-4)
    assert found["period"] == pytest.approx(cosine.PERIOD, rel=1e-3)
    # No stage ends with a larger loss than it began with.
    for stage in range(cosine.LAST + 1):
        losses = [epoch.loss for epoch in epochs if epoch.stage == stage]
        assert not losses or losses[-1] <= losses[0]
    if seed == 3:
        axes = draws(cosine, epochs, tmp_path / "cosine.png")
        # The given steps and those beyond the training are shaded, in every panel.
        assert [len(axis.patches) for axis in axes[:6]] == [2] * 6
        cosine.animate(epochs[:5], tmp_path / "cosine.gif")
        with Image.open(tmp_path / "cosine.gif") as made, Image.open(PICTURES / "cosine.gif") as shown:
            assert made.format == shown.format == "GIF"
            assert made.size == shown.size
            assert shown.n_frames > 30


def test_fewer_and_fewer_inputs_of_the_cosine_are_the_truth(example: Any) -> None:
    cosine = example("cosine")
    shares = [int(cosine.fed_back(stage).sum()) for stage in cosine.STAGES]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, cosine.STEPS - cosine.GIVEN)
    assert not cosine.fed_back(cosine.LAST)[: cosine.GIVEN].any()


def test_learning_that_a_walk_is_one_has_its_price(example: Any, tmp_path: Path) -> None:
    random_walk = example("random_walk")
    result = random_walk.compute(seeds=12)
    learned, fixed, mean_step = (random_walk.size(result.off[kind]) for kind in random_walk.LOOKS)
    for kind, fits in result.fits.items():
        for one in fits:
            assert one.error == pytest.approx(random_walk.NOISE, rel=0.05)
            assert one.eigenvalue == pytest.approx(1, abs=1e-9 if kind == random_walk.FIXED else 2e-3)
    # With the eigenvalue given, the forecast is the mean step's but for the first steps; to learn it costs more.
    off = result.off[random_walk.FIXED][:, -1] - result.off[random_walk.MEAN_STEP][:, -1]
    assert np.abs(off).max() < 0.5
    assert learned[-1] > 1.3 * fixed[-1]
    # A mean step is off by σ/√T: of twelve, the root mean square is within 0.4 and 1.7 of it but once in 10⁴.
    expected = random_walk.HORIZON * random_walk.NOISE / math.sqrt(random_walk.STEPS)
    assert 0.4 * expected < mean_step[-1] < 1.7 * expected
    horizons = np.arange(1, random_walk.HORIZON + 1)
    for one in result.fits[random_walk.FIXED]:
        np.testing.assert_allclose(one.deviation, np.sqrt(horizons), rtol=0.1)
    # The intervals take their weights for the true ones: they are somewhat too narrow, not too wide.
    assert 0.8 < result.covered[random_walk.LEARNED][:, -1].mean() < 0.95
    assert 0.92 < result.covered[random_walk.FIXED][:, -1].mean() < 0.955
    axes = draws(random_walk, result, tmp_path / "random_walk.png")
    assert {"learned", "eigenvalue 1 given", "last value + mean step"} <= set(lines(axes[0])) & set(lines(axes[1]))
    drawn = lines(axes[0])["last value + mean step"].get_ydata()
    np.testing.assert_allclose(drawn, result.walks[0][-1] + result.mean_step[0] * horizons)


def test_fits_of_a_walk_end_where_the_loss_is_smallest(example: Any) -> None:
    random_walk = example("random_walk")
    walk = random_walk.compute(seeds=1).walks[0]
    free, fixed = random_walk.fit(walk, False), random_walk.fit(walk, True)
    assert free.error <= fixed.error + 1e-9
    # Of an MA(1) about a drift, the smallest error that scipy finds.
    from scipy.optimize import minimize
    from scipy.signal import lfilter

    steps = np.diff(walk)

    def error(parameters: np.ndarray[Any, Any]) -> float:
        theta, drift, first = parameters
        return float((lfilter([1.0], [1.0, theta], steps - drift, zi=[first])[0][5:] ** 2).mean())

    best = math.sqrt(minimize(error, [0.01, 0.1, 0.0], method="Nelder-Mead", options={"maxiter": 4000}).fun)
    assert fixed.error == pytest.approx(best, rel=2e-3)


def test_gradients_vanish_explode_and_are_cured_by_what_the_page_says(example: Any, tmp_path: Path) -> None:
    module = example("vanishing_exploding")
    result = module.compute(seeds=2)
    found = module.figures(result)
    assert found["arrives of 0.9"] < 1e-7
    assert found["arrives of 1.1"] > 1e6
    assert all(one.kinds == ("vanishing",) for one in result.flows[0.9, "W"])
    assert all(one.kinds == ("exploding",) for one in result.flows[1.1, "W"])
    for radius in module.RADII:
        for flow in result.flows[radius, "orthogonal"]:
            assert flow.kinds == ("healthy",)
            assert 0.02 < flow.delta[0] / flow.delta[-1] < 2
    # As they are, neither learns; cutting does not bring back what has vanished; the orthogonal start cures both.
    assert min(result.losses[0.9, "W", False]) > 0.5
    assert min(result.losses[0.9, "W", True]) > 0.5
    assert min(result.losses[1.1, "W", False]) > 10
    for radius in module.RADII:
        for cut in (False, True):
            assert max(result.losses[radius, "orthogonal", cut]) < module.LEARNED
    # Cut, what exploded is at least brought down.
    assert max(result.losses[1.1, "W", True]) < 2
    axes = draws(module, result, tmp_path / "vanishing_exploding.png")
    assert [tick.get_text() for tick in axes[1].get_xticklabels()] == list(module.STARTS)


def test_lengths_are_cut_where_nine_in_ten_stay_below(example: Any) -> None:
    module = example("vanishing_exploding")
    weights = module.random_start(0.9, 0)
    limit = module.threshold(weights, 0)
    source, below = torch.Generator().manual_seed(0), 0
    for _ in range(module.DRAWN):
        x, target = module.sequences(source)
        parameters = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        h, outputs = torch.zeros(len(x), module.STATES, dtype=torch.float64), None
        for t in range(module.STEPS):
            h = h @ parameters["weight_hh"].T + x[:, t] @ parameters["weight_ih"].T + parameters["bias"]
        outputs = h @ parameters["weight_out"].T + parameters["bias_out"]
        ((outputs - target) ** 2).mean().backward()
        below += bool(torch.cat([weight.grad.flatten() for weight in parameters.values()]).norm() < limit)
    assert below == 18


def test_truncation_shortens_the_memory_that_is_found(example: Any, tmp_path: Path) -> None:
    module = example("truncation_bias")
    result = module.compute(seeds=3)
    assert (np.diff(result.relative_error, axis=1) <= 1e-12).all()
    assert result.relative_error[:, -1] == pytest.approx(0, abs=1e-12)
    memory, best = module.memory(result.stopped), module.memory(result.best)[:, None]
    windows = np.array(module.WINDOWS)
    assert (memory[:, windows <= 8] < 0.6 * best).all()
    assert (np.diff(memory[:, windows <= 32], axis=1) > 0).all()
    np.testing.assert_allclose(memory[:, windows >= 128], np.broadcast_to(best, (3, 2)), rtol=0.01)
    # The whole gradient, λ in both its places, is the loss's slope.
    x, y = module.data(0)
    slope = (module.loss(0.9 + 1e-5, x, y) - module.loss(0.9 - 1e-5, x, y)) / 2e-5
    assert module.gradient(0.9, x, y, module.STEPS) == pytest.approx(slope, rel=1e-6)
    axes = draws(module, result, tmp_path / "truncation_bias.png")
    # The crosses are means, as the text's numbers are.
    drawn = {container.get_label(): container.lines[0].get_xdata()[0] for container in axes[1].containers}
    assert drawn["k = 8"] == pytest.approx(module.figures(result)["memory, k = 8"])


def test_training_with_truncated_gradients_stops_at_the_root(example: Any) -> None:
    module = example("truncation_bias")
    x, y = module.data(0)
    rate = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([rate], lr=0.02)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.97)
    for _ in range(250):
        rate.grad = torch.tensor(module.gradient(float(rate.detach()), x, y, 8), dtype=torch.float64)
        optimizer.step()
        schedule.step()
    assert float(rate.detach()) == pytest.approx(module.stop(x, y, 8), abs=2e-4)


@pytest.mark.parametrize("seed", [0, 1, 10])
def test_an_adder_learns_whole_addition_from_8_bits(example: Any, seed: int) -> None:
    module = example("binary_addition")
    adder, losses = module.train(seed)
    adder.rounded = True
    assert adder.exact()
    assert losses[-1] < module.LEARNED
    # And it is: numbers of any length, the last carry and all, against Python's own.
    source = random.Random(seed)
    for length in (1, 2, 3, 8, 64, 1000, 1001):
        for _ in range(5):
            a, b = source.getrandbits(length), source.getrandbits(length)
            assert module.add(adder, a, b) == a + b
        assert module.add(adder, 2**length - 1, 1) == 2**length
        assert module.add(adder, 2**length - 1, 0) == 2**length - 1
        assert module.add(adder, 2**length - 1, 2**length - 1) == 2 ** (length + 1) - 2


def test_what_the_adders_are_held_against_is_addition(example: Any) -> None:
    module = example("binary_addition")
    for a, b in ((0, 0), (1, 1), (37, 91), (255, 255), (2**20 - 1, 1)):
        bits = module.as_bits(a, b, 20)
        total = module.added(bits)[0]
        assert sum(int(bit) << k for k, bit in enumerate(total)) == a + b


def test_the_eight_steps_are_those_of_the_recurrence_and_a_wrong_one_is_seen(example: Any) -> None:
    module = example("binary_addition")
    adder = module.Adder(torch.Generator().manual_seed(0))
    right = torch.tensor([[-3.0, 0], [3, 0], [3, 0], [-3, 3]])
    with torch.no_grad():
        adder.gates.copy_(right)
        adder.readout.copy_(torch.tensor([[0.0, 1], [0, -1], [0, -1], [0, 1]]))
    assert not adder.exact()  # a soft carry is not 0 or 1
    adder.rounded = True
    adder.gates.data[0, 1] = -3
    assert adder.exact()
    sums, carries = adder.steps()
    for pair in range(4):
        for before in (0, 1):
            bits = torch.tensor([[[before, before], [pair & 1, pair >> 1]]], dtype=torch.float32)
            assert adder.carry(bits)[0, -1] == carries[pair, before]
            assert (adder(bits)[0, -1] > 0) == bool(sums[pair, before])
    for row in range(4):
        adder.gates.data[row, 0] *= -1
        assert not adder.exact()
        adder.gates.data[row, 0] *= -1
        adder.readout.data[row, 1] *= -1
        assert not adder.exact()
        adder.readout.data[row, 1] *= -1


def test_an_adder_that_has_not_learned_says_so_and_fails(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = example("binary_addition")
    monkeypatch.setattr(module, "EPOCHS", 2)
    monkeypatch.setattr(module, "SEEDS", 1)
    monkeypatch.setattr(module, "PAIRS", 2)
    monkeypatch.setattr(sys, "argv", ["binary_addition.py", "--out", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit, match="A step is wrong"):
        module.main()


def test_starts_are_tried_until_new_sums_come_out_right(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = example("binary_addition")
    monkeypatch.setattr(module, "EPOCHS", 1)
    made: list[object] = []
    adder = module.Adder
    monkeypatch.setattr(module, "Adder", lambda source: made.append(source) or adder(source))
    module.train()
    assert len(made) == module.STARTS
    monkeypatch.setattr(module, "LEARNED", math.inf)
    module.train()
    assert len(made) == module.STARTS + 1


def test_soft_gates_forget_a_carry_and_rounded_ones_do_not(example: Any, tmp_path: Path) -> None:
    module = example("binary_addition")
    result = module.compute(count=200, seeds=1)
    found = module.figures(result)
    assert all((shares == 0).all() for shares in result.wrong["rounded"].values())
    # Both carries end at the same number, so one of the sums is wrong.
    ends = [result.carry["soft"][numbers][-2] for numbers in ("+ 1", "+ 0")]
    assert ends == pytest.approx([found["v of 10"]] * 2, abs=1e-3)
    worst = np.maximum(result.wrong["soft"]["+ 1"], result.wrong["soft"]["+ 0"])
    assert worst[-1] > 0.5
    assert worst[0] == 0
    assert found["last right length"] == module.LENGTHS[np.flatnonzero(worst)[0] - 1]
    assert result.wrong["soft"]["random"][-1] < 1e-3
    axes = draws(module, result, tmp_path / "binary_addition.png")
    assert list(lines(axes[2])) == ["11…1 + 1, soft", "11…1 + 0, soft", "random, soft", "all three, rounded"]


def test_a_chirp_is_demodulated_as_well_as_can_be(example: Any, tmp_path: Path) -> None:
    module = example("chirp")
    result = module.compute(count=20_000, ends=(), seeds=0)
    assert result.matches[-1] > -0.15
    assert max(result.matches) <= 1e-9
    assert np.abs(result.tracks[module.EPOCHS] - module.frequency()).max() < 0.005
    expected = module.bound(module.DECIBELS)
    spread = np.sqrt(expected * (1 - expected) / result.count)
    rates = result.errors[module.EPOCHS] / result.count
    # Within five deviations of the bound, and what 0.15 dB more noise makes of it.
    assert (np.abs(rates - expected) < 5 * spread + (module.bound(module.DECIBELS - 0.15) - expected)).all()
    assert (result.errors[0] / result.count > 0.7).all()
    axes = draws(module, result, tmp_path / "chirp.png")
    assert set(lines(axes[0])) == {"the chirp", *module.SHOWN.values()}
    np.testing.assert_allclose(lines(axes[0])["the chirp"].get_ydata(), module.frequency())


def test_a_perfect_receiver_turns_as_the_chirp_does(example: Any) -> None:
    module = example("chirp")
    rise = 2 * math.pi * module.RISE
    alpha = 2 * math.pi * (module.FREQUENCY + module.RISE - module.RISE / module.SAMPLES / 2)
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (alpha, rise, -50.0)]
    receiver = module.Receiver(*numbers)
    np.testing.assert_allclose(receiver.track(), module.frequency(), atol=1e-12)
    assert receiver.match() == pytest.approx(0, abs=1e-9)


def test_chirps_that_end_low_are_found_from_other_starts(example: Any) -> None:
    module = example("chirp")
    assert all(module.finds(end, seed) for end, seed in ((0.22, 1), (0.22, 2), (0.27, 3)))


def written(number: float) -> str:
    """Return a whole number as the page writes it."""
    return f"{number:,.0f}"


# By example: what the page says, each with its numbers from figures.json (f) and from the script (m); where a number is
# rounded down to be safe, with the condition that makes it true.
CLAIMS: dict[str, Callable[[dict[str, float], Any], list[str | tuple[str, bool]]]] = {
    "cosine": lambda f, m: [
        f"in the end only the first {m.GIVEN} (blue)",
        f"Trained on {m.STEPS} steps (white)",
        ("within 0.001 of the truth", f["within"] < 0.001 and f["beyond"] < 0.001),
        f"over the next {m.BEYOND} (grey)",
        f"period of {f['period']:.3f} steps",
        f"From {f['arrived']:.0f} of {f['seeds']:.0f} starts the free run ends within {m.GOOD:g} of the truth",
        f"closed from the beginning, from {f['arrived, closed at once']:.0f}",
        "`x_{t+1} = y_t`",
    ],
    "random_walk": lambda f, m: [
        "`y_t = y_{t−1} + drift + noise`",
        f"on {written(m.STEPS)} steps",
        f"({f['error one step ahead']:.3f} of {m.NOISE:g})",
        ("has to learn the eigenvalue 1", abs(f["smallest eigenvalue"] - 1) < 2e-3),
        f"Over {f['walks']:.0f} walks, its forecast {m.HORIZON} steps ahead",
        f"is off the best one by {f['off, learned']:.1f} (root",
        f"the noise to come makes {f['noise ahead']:.1f} of any",
        f"against {f['off, last value + mean step']:.1f} for the last value",
        f"only the drift learned, it is {f['off, eigenvalue 1 given']:.1f} too",
        "The 95 % intervals",
        f"at {m.HORIZON} steps they hold {f['covered, learned']:.0f} % of true continuations",
        f"in the worst of the walks {f['least covered, learned']:.0f} %",
        f"given {f['covered, eigenvalue 1 given']:.0f} % and {f['least covered, eigenvalue 1 given']:.0f} %",
    ],
    "vanishing_exploding": lambda f, m: [
        f"for {m.STEPS} steps of noise",
        (f"radius of {m.RADII[0]}, less than a 10⁻⁹th of the gradient arrives", f["arrives of 0.9"] < 1e-9),
        (f"with {m.RADII[1]}, some 10⁸ times", 0.3e8 < f["arrives of 1.1"] < 3e8),
        f"Of {f['seeds']:.0f} starts",
        (f"none learns it (a mean squared error below {m.LEARNED:g})", f["learned, 0.9 W"] + f["learned, 1.1 W"] == 0),
        f"vanished ({f['learned, 0.9 W, cut']:.0f} learn); where it explodes, {f['learned, 1.1 W, cut']:.0f} learn",
        ("is healthy in every case", f["scaled and healthy"] == 2 * f["seeds"]),
        f"yet {f['learned, 0.9 W × s']:.0f} learn where it vanished",
        f"and {f['learned, 1.1 W × s']:.0f} where it exploded",
        f"(with cutting, {f['learned, 0.9 W × s, cut']:.0f} and {f['learned, 1.1 W × s, cut']:.0f})",
        (
            f"all {f['seeds']:.0f} learn, from either radius, with cutting and without",
            all(f[f"learned, {r:g} orthogonal{cut}"] == f["seeds"] for r in m.RADII for cut in ("", ", cut")),
        ),
        f"(between {f['least threshold']:.1f} and {f['largest threshold']:.1f})",
        ("above 10¹⁴", f["least threshold, exploding"] > 1e14),
    ],
    "truncation_bias": lambda f, m: [
        f"`1 / (1 − λ)` = {f['best memory']:.0f} steps, a mean of {f['data sets']:.0f} data sets",
        f"stops at {f['memory, k = 1']:.0f} steps for k = 1, {f['memory, k = 8']:.0f} for k = 8",
        f"and {f['memory, k = 16']:.0f} for k = 16",
    ],
    "binary_addition": lambda f, m: [
        "`c_t = p_t c_{t−1} + g_t`",
        f"sums of numbers of {m.BITS} bits",
        f"keeps {f['p of 10']:.2f} of a carry",
        f"here {f['v of 10']:.2f}, whether it was a 1 (`11…1 + 1`) or none (`11…1 + 0`)",
        "along `11…1`",
        ("one of the two sums goes wrong. Here it is the first", f["soft, + 1"] > f["soft, + 0"] == 0),
        f"right at {f['last right length']:.0f} bits",
        f"wrong at {m.LENGTHS[m.LENGTHS.index(f['last right length']) + 1]}",
        f"at {written(m.LENGTHS[-1])} {100 * max(f['soft, + 1'], f['soft, + 0']):.0f} % of its bits are",
        "Rounded to the 0 and 1 that they have learned",
        f"from {f['exact adders']:.0f} of {f['seeds']:.0f} seeds",
        f"on {written(m.PAIRS)} random pairs of {written(m.LENGTHS[-1])} bits: {f['rounded, random']:.0f} wrong",
    ],
    "chirp": lambda f, m: [
        "`h_t = a_t h_{t−1} + x_t`",
        "`α + β (t/N − 1)`",
        f"ends {f['short of the matched filter, dB']:.2f} dB short",
        f"After 150 epochs it is {f['short after 150 epochs, dB']:.2f} dB short",
        f"by {f['turned after 150 epochs']:.0f} degrees",
        f"up to 0.37 cycles a step from {f['found, end 0.37']:.0f} of {f['starts']:.0f} starts",
        f"at 0.42 from {f['found, end 0.42']:.0f}.",
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_on_the_page_is_what_the_script_found(example: Any, name: str) -> None:
    section = next(
        part for part in PAGE.split("\n## ") if f"`examples/{name}.py" in part and f"({SHOWN}/{name}.png)" in part
    )
    # Its text, without title and picture; the claims taken out, no digit may be left.
    text = " ".join(section.split("\n", 3)[3].split())
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    figures = json.loads((PICTURES / "figures.json").read_text())[name]
    for claim in CLAIMS[name](figures, example(name)):
        claimed, true = (claim, True) if isinstance(claim, str) else claim
        assert true, claimed
        assert claimed in text, claimed
        text = text.replace(claimed, " ")
    assert not re.search(r"k?[\d⁰¹²³⁴⁵⁶⁷⁸⁹]", text), text


def test_the_page_shows_every_example() -> None:
    made = (ROOT / "Makefile").read_text()
    assert sorted(CLAIMS) == sorted(AXES) == NAMES
    assert "--overwrite" in made
    assert "--figures $(GALLERY)/figures.json" in made
    assert sorted(json.loads((PICTURES / "figures.json").read_text())) == NAMES
    for name in NAMES:
        # The picture, and itself in full size.
        assert PAGE.count(f"({SHOWN}/{name}.png)") == 2
        assert f"[`examples/{name}.py`](../examples/{name}.py)" in PAGE
        assert re.search(rf"^EXAMPLES := .*\b{name}\b", made, re.M)


def test_an_example_runs_as_a_script(tmp_path: Path) -> None:
    options = ("--out", "new/walk.svg", "--seed", "100", "--figures", "figures.json")
    command = [sys.executable, str(EXAMPLES / "random_walk.py"), *options]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD)
    assert (tmp_path / "new" / "walk.svg").read_text().startswith("<?xml")
    found = json.loads((tmp_path / "figures.json").read_text())["walk"]
    committed = json.loads((PICTURES / "figures.json").read_text())["random_walk"]
    assert found.keys() == committed.keys()
    # Sixty other walks, and about the same.
    assert found["off, learned"] != committed["off, learned"]
    assert found["off, learned"] == pytest.approx(committed["off, learned"], rel=0.4)
    assert f"off, learned: {found['off, learned']:.4g}" in ran.stdout


@pytest.mark.parametrize("name", NAMES)
def test_what_would_stop_the_writing_stops_before_the_work(
    example: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = example(name)
    monkeypatch.setattr(module, "train" if name == "cosine" else "compute", lambda *_: pytest.fail("it has begun"))
    (tmp_path / "notes.png").write_text("notes")
    (tmp_path / "folder.png").mkdir()
    cases = {
        "notes.png": "exists; --overwrite replaces it",
        "folder.png": "is a folder",
        "a.jpg": "ends in .png, .svg or .pdf",
        "a": "ends in .png, .svg or .pdf",
        "notes.png/a.png": "cannot be written",
    }
    for out, why in cases.items():
        monkeypatch.setattr(sys, "argv", [name, "--out", str(tmp_path / out)])
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == 2
        assert why in capsys.readouterr().err
    assert (tmp_path / "notes.png").read_text() == "notes"


def test_an_animation_does_not_replace_one_unasked(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = example("cosine")
    (tmp_path / "a.gif").write_text("another")
    monkeypatch.setattr(sys, "argv", ["cosine", "--gif", "--out", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit):
        cosine.main()
    assert "a.gif exists" in capsys.readouterr().err


def test_asked_to_an_example_overwrites(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = example("cosine")
    epochs = cosine.train(3)
    monkeypatch.setattr(cosine, "train", lambda *_: epochs)
    monkeypatch.setattr(sys, "argv", ["c", "--show", "--overwrite", "--out", str(tmp_path / "a.png")])
    (tmp_path / "a.png").write_text("another")
    cosine.main()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "There is no display to open a window on" in capsys.readouterr().out


def test_the_first_page_leads_everywhere_and_its_example_is_true() -> None:
    page = (ROOT / "docs" / "index.md").read_text()
    nav = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    pages = {one for one in re.findall(r"[\w/-]+\.md", nav) if one != "index.md"}
    assert pages == set(re.findall(r"\(([\w/-]+\.md)\)", page))
    assert pages == {str(one.relative_to(ROOT / "docs")) for one in (ROOT / "docs").rglob("*.md")} - {"index.md"}
    code = re.search(r"```python\n(.*?)```", page, re.S)
    assert code
    printed: list[str] = []
    exec(code[1], {"print": lambda value: printed.append(str(value))})
    assert printed == re.findall(r"print.*(tensor\(\[.*\]\))", code[1])
