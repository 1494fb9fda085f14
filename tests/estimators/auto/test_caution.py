"""When models are listened to, and when the naive forecast stands."""

from __future__ import annotations

import numpy as np
import pandas as pd

from retrograd.estimators.auto.caution import Caution
from retrograd.estimators.auto.contenders import Contender
from retrograd.estimators.auto.selection import Choice, judge
from retrograd.estimators.auto.series import Series
from retrograd.estimators.auto.understanding import understand


def test_small_moves_are_drawn_to_the_naive_and_large_ones_are_not() -> None:
    caution, naive = Caution(1.0, np.array([1.0, 2.0])), np.zeros((4, 2))
    forecasts = np.array([[0.5, 1.0], [0.75, 1.5], [1.0, 2.0], [-3.0, 0.0]])
    # z is 0.5, 0.75, 1 at both horizons; 3 and √(9 / 2) in the last row.
    expected = np.array([[0.0, 0.0], [0.375, 0.75], [1.0, 2.0], [-3.0, 0.0]])
    np.testing.assert_allclose(caution.temper(naive, forecasts), expected)
    np.testing.assert_array_equal(Caution(0.0, np.ones(2)).temper(naive, forecasts), forecasts)
    np.testing.assert_array_equal(Caution(np.inf, np.ones(2)).temper(naive, forecasts), naive)


def test_the_first_horizons_do_not_depend_on_the_later_ones() -> None:
    random = np.random.default_rng(0)
    naive, forecasts = random.standard_normal((2, 5, 4))
    caution = Caution(1.5, np.arange(1.0, 5.0))
    np.testing.assert_allclose(
        caution.temper(naive[:, :2], forecasts[:, :2]), caution.temper(naive, forecasts)[:, :2], rtol=1e-12
    )


def test_guesses_are_not_listened_to_and_knowledge_is() -> None:
    random = np.random.default_rng(1)
    observed, naive = random.standard_normal((200, 12)).cumsum(axis=1), np.zeros((200, 12))
    guesses = 0.2 * random.standard_normal((200, 12)).cumsum(axis=1)
    found = Caution.of(observed, naive, guesses)
    assert found.threshold >= 0.5
    assert np.abs(found.temper(naive, guesses)).mean() < 0.3 * np.abs(guesses).mean()
    assert Caution.of(observed, naive, 0.9 * observed).threshold == 0


def test_caution_does_not_cost_much() -> None:
    random = np.random.default_rng(2)
    known, surprise = random.standard_normal((2, 300, 6))
    observed, naive = known + surprise, np.zeros((300, 6))
    found = Caution.of(observed, naive, known)
    tempered = found.temper(naive, known)
    assert np.sqrt(((observed - tempered) ** 2).mean()) <= 1.02 * np.sqrt((surprise**2).mean())


def test_missing_values_judge_nothing() -> None:
    random = np.random.default_rng(3)
    observed, naive = random.standard_normal((40, 6)), np.zeros((40, 6))
    forecasts = 0.5 * observed
    holed = np.where(random.random((40, 6)) < 0.3, np.nan, observed)
    assert Caution.of(holed, naive, forecasts).threshold == 0
    assert np.isfinite(Caution.of(np.full((4, 6), np.nan), naive[:4], forecasts[:4]).missed).all()


def test_a_drift_is_met_with_caution_as_models_are() -> None:
    random, steps = np.random.default_rng(5), np.arange(1, 7)
    y = random.standard_normal(150).cumsum()
    found = understand(y, pd.RangeIndex(150), None, [])
    tried = [Contender("last value", "naive", 1, 0), Contender("drift", "naive", 1, 1)]
    judgement = judge(Series(y, np.zeros((150, 0)), np.ones(150, bool), found), steps, tried)
    last, drift = sorted(judgement.judged, key=lambda each: each.name, reverse=True)
    cautious = Choice.of([drift], np.ones(1)).cautious(judgement)
    moved = np.abs(cautious.forecasts - last.forecasts).mean()
    assert moved < 0.5 * np.abs(drift.forecasts - last.forecasts).mean()


def test_contenders_are_judged_by_the_mean_error_of_a_forecast() -> None:
    y = np.random.default_rng(6).standard_normal(90).cumsum()
    y[70:74] += 50.0
    known = np.ones(90, bool)
    known[80:] = False
    found = understand(y, pd.RangeIndex(90), None, [])
    steps = np.arange(1, 4)
    judgement = judge(Series(y, np.zeros((90, 0)), known, found), steps, [Contender("last value", "naive", 1, 0)])
    origins = np.arange(judgement.first - 1, 87)
    each = [[(y[at + step] - y[at]) ** 2 for step in steps if known[at + step]] for at in origins]
    expected = np.mean([np.sqrt(np.mean(squares)) for squares in each if squares])
    np.testing.assert_allclose(judgement.judged[0].error, expected, rtol=1e-12)
