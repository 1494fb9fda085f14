from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from estimators.systems import random_system, simulated
from retrograd.errors import InputError
from retrograd.estimators import StateSpace

# Fits of a few iterations, or of a low order: what files and times are about.
pytestmark = pytest.mark.filterwarnings("ignore::retrograd.estimators.identification.cautions.IdentificationWarning")

OLD = Path(__file__).parent / "data" / "state-space-v1"


@pytest.fixture(scope="module")
def fitted():
    u, y, _ = simulated(random_system(0, inputs=2), 300, 0.2, seed=1)
    return u, y, StateSpace(order="auto", max_order=3, noise="innovations", validation=0.2).fit(u, y)


def test_what_is_loaded_is_what_was_saved(fitted, tmp_path: Path) -> None:
    u, y, model = fitted
    model.save(tmp_path / "m")
    again = StateSpace.load(tmp_path / "m")
    assert again.get_params() == model.get_params()
    assert np.array_equal(again.predict(u, y, 3), model.predict(u, y, 3))
    assert np.array_equal(again.forecast(4, u[:4]).upper, model.forecast(4, u[:4]).upper)
    assert again.order_criteria_ == model.order_criteria_
    assert again.history_ == model.history_
    assert again.fit(u, y).order_ == model.order_


def test_a_model_is_not_overwritten_unasked(fitted, tmp_path: Path) -> None:
    _, _, model = fitted
    model.save(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"model\.safetensors exists: take another folder, or overwrite=True"):
        model.save(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
    model.save(tmp_path, overwrite=True)
    (tmp_path / "config.json").unlink()  # somebody else's numbers
    with pytest.raises(InputError, match=r"model\.safetensors exists"):
        model.save(tmp_path)


def test_a_file_of_the_first_version_keeps_loading() -> None:
    model = StateSpace.load(OLD)
    assert model.order_ == 2
    assert model.output_names_ == ("level",)
    u = np.array([[1.0], [0.0], [-1.0], [2.0]])
    expected = json.loads((OLD / "expected.json").read_text())
    assert np.allclose(model.simulate(u)[:, 0], expected["simulate"], rtol=1e-12)
    assert np.allclose(np.asarray(model.forecast(2, u[:2]).upper)[:, 0], expected["upper"], rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "has format 99, this version reads up to 2: install a newer retrograd"),
        ({"model": "recurrent"}, "holds a model of kind 'recurrent', expected 'state-space'"),
        ({"parameters": {"depth": 3}}, "is no model that can be read"),
    ],
)
def test_what_cannot_be_loaded_says_why(fitted, tmp_path: Path, change: dict, message: str) -> None:
    _, _, model = fitted
    model.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message):
        StateSpace.load(tmp_path)


def test_files_of_two_models_are_told_apart(fitted, tmp_path: Path) -> None:
    _, _, model = fitted
    for name, one in (("a", model), ("b", StateSpace(order=1).fit(*fitted[:2]))):
        one.save(tmp_path / name)
    (tmp_path / "a" / "model.safetensors").write_bytes((tmp_path / "b" / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"is not whole: its model\.safetensors and config\.json are of two models"):
        StateSpace.load(tmp_path / "a")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        StateSpace.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"is no finished run: config\.json is missing"):
        StateSpace.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="is no model that can be read: JSONDecodeError"):
        StateSpace.load(tmp_path)
