"""The examples compute what their pictures and docs/gallery.md claim."""

from __future__ import annotations

import importlib
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "pictures")


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


def draws(module: Any, result: Any, out: Path) -> None:
    """The picture is made: a PNG of some size, with an axis label wherever there is an axis."""
    drawn = module.draw(result)
    for axis in drawn.axes:
        assert any(one.get_xlabel() for one in axis.get_shared_x_axes().get_siblings(axis))
        assert any(one.get_ylabel() for one in axis.get_shared_y_axes().get_siblings(axis))
    module.pictures.save(drawn, out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < out.stat().st_size < 150_000


def test_a_cosine_goes_on_by_itself(example: Any, tmp_path: Path) -> None:
    cosine = example("cosine")
    epochs = list(cosine.train())
    error = np.abs(epochs[-1].free_run - cosine.truth()[1:])[cosine.GIVEN :]
    assert error.max() < 0.03
    assert np.abs(epochs[0].free_run - cosine.truth()[1:]).max() > 0.9
    largest = max(epochs[-1].eigenvalues, key=abs)
    assert abs(largest) == pytest.approx(1, abs=5e-4)
    assert 2 * math.pi / abs(np.angle(largest)) == pytest.approx(cosine.PERIOD, rel=1e-3)
    # Fewer and fewer inputs are the truth, from all to the first ten.
    shares = [int(cosine.fed_back(epoch).sum()) for epoch in range(0, cosine.EPOCHS, 50)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, cosine.STEPS - cosine.GIVEN)
    draws(cosine, epochs, tmp_path / "cosine.png")
    cosine.animate(epochs[:5], tmp_path / "cosine.gif")
    assert (tmp_path / "cosine.gif").read_bytes().startswith(b"GIF8")


def test_of_a_random_walk_the_drift_is_found_and_the_rest_is_noise(example: Any, tmp_path: Path) -> None:
    random_walk = example("random_walk")
    result = random_walk.compute()
    assert result.losses[-1] == pytest.approx(random_walk.NOISE, rel=0.03)
    assert result.eigenvalue == pytest.approx(1, abs=1e-3)
    # The deviation of a drift's estimate from so many steps is σ/√T.
    assert result.step == pytest.approx(random_walk.DRIFT, abs=3 / math.sqrt(random_walk.STEPS))
    horizons = np.arange(1, random_walk.HORIZON + 1)
    np.testing.assert_allclose(result.deviation, np.sqrt(horizons), rtol=0.05)
    assert 0.92 < result.covered.mean() < 0.98
    draws(random_walk, result, tmp_path / "random_walk.png")


def test_gradients_vanish_explode_and_are_cured(example: Any, tmp_path: Path) -> None:
    vanishing_exploding = example("vanishing_exploding")
    cases = vanishing_exploding.compute()
    flow = {name: case.delta[0] / case.delta[-1] for name, case in cases.items()}
    assert flow["radius 0.9"] < 1e-8
    assert flow["radius 1.1"] > 1e8
    assert cases["radius 0.9"].verdict.kinds == ("vanishing",)
    assert cases["radius 1.1"].verdict.kinds == ("exploding",)
    assert np.median(cases["radius 0.9"].losses[-15:]) > 0.5
    for name in ("radius 0.9, cured", "radius 1.1, cured"):
        assert 0.05 < flow[name] < 20
        assert cases[name].verdict.kinds == ("healthy",)
        assert np.median(cases[name].losses[-15:]) < 0.05
    draws(vanishing_exploding, cases, tmp_path / "vanishing_exploding.png")


def test_truncation_shortens_the_memory_that_is_found(example: Any, tmp_path: Path) -> None:
    truncation_bias = example("truncation_bias")
    result = truncation_bias.compute(seeds=2)
    assert (np.diff(result.relative_error, axis=1) <= 1e-12).all()
    assert result.relative_error[:, -1] == pytest.approx(0, abs=1e-12)
    memory = 1 / (1 - result.stopped)
    best = 1 / (1 - result.best)[:, None]
    windows = np.array(truncation_bias.WINDOWS)
    assert (memory[:, windows <= 8] < 0.6 * best).all()
    assert (np.diff(memory[:, windows <= 32], axis=1) > 0).all()
    np.testing.assert_allclose(memory[:, windows >= 128], np.broadcast_to(best, (2, 2)), rtol=0.01)
    # The whole gradient, λ in both its places, is the loss's slope.
    x, y = truncation_bias.data(0)
    slope = (truncation_bias.loss(0.9 + 1e-5, x, y) - truncation_bias.loss(0.9 - 1e-5, x, y)) / 2e-5
    assert truncation_bias.gradient(0.9, x, y, truncation_bias.STEPS) == pytest.approx(slope, rel=1e-6)
    draws(truncation_bias, result, tmp_path / "truncation_bias.png")


def test_sums_of_1000_bits_have_no_error(example: Any, tmp_path: Path) -> None:
    binary_addition = example("binary_addition")
    # What it is held against is addition.
    bits = binary_addition.ones_plus_one(20)
    weights = 2 ** np.arange(20)
    first, second = (int((bits[0, :, k].numpy() * weights).sum()) for k in (0, 1))
    assert int((binary_addition.added(bits)[0].numpy() * weights).sum()) == (first + second) % 2**20
    result = binary_addition.compute(count=300)
    assert result.losses[-1] < 0.01
    assert (result.wrong["rounded"] == 0).all()
    assert (result.worst["rounded"] == 0).all()
    assert set(np.unique(result.carry["rounded"])) == {1.0}
    assert result.worst["soft"][0] == 0
    assert result.worst["soft"][-1] > 0.5
    draws(binary_addition, result, tmp_path / "binary_addition.png")


def test_a_chirp_is_demodulated_as_well_as_can_be(example: Any, tmp_path: Path) -> None:
    chirp = example("chirp")
    result = chirp.compute(count=20_000)
    assert 10 * math.log10(result.matches[-1]) > -0.1
    assert max(result.matches) <= 1 + 1e-12
    expected = chirp.bound(chirp.DECIBELS)
    spread = np.sqrt(expected * (1 - expected) / result.count)
    rates = result.errors[chirp.EPOCHS] / result.count
    # Within five deviations of the bound, and what 0.1 dB more noise makes of it.
    assert (np.abs(rates - expected) < 5 * spread + (chirp.bound(chirp.DECIBELS - 0.1) - expected)).all()
    assert (result.errors[0] / result.count > 0.7).all()
    draws(chirp, result, tmp_path / "chirp.png")


def test_the_page_shows_every_example() -> None:
    page = (ROOT / "docs" / "gallery.md").read_text()
    made = (ROOT / "Makefile").read_text()
    for name in NAMES:
        assert f"(images/gallery/{name}.png)" in page
        assert f"`examples/{name}.py" in page
        assert (ROOT / "docs" / "images" / "gallery" / f"{name}.png").is_file()
        assert re.search(rf"\b{name}\b", made)


def test_an_example_runs_as_a_script_and_says_that_there_is_no_display(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "cosine.py", "--show", "--out", "new/cosine.png"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env={"MPLBACKEND": "agg"})
    assert "There is no display to open a window on" in ran.stdout
    assert "Free run: off by at most 0.0" in ran.stdout
    assert (tmp_path / "new" / "cosine.png").is_file()
