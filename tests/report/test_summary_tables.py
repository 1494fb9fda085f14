"""The tables of a summary say what the summary says."""

from __future__ import annotations

import numpy as np

from retrograd.estimators import StateSpace
from retrograd.report.summary_tables import summary_tables


def test_every_number_of_the_summary_is_in_its_table() -> None:
    random = np.random.default_rng(0)
    u = random.standard_normal((300, 1))
    y = np.zeros((300, 2))
    for t in range(299):
        y[t + 1] = 0.7 * y[t] + np.array([1.0, -0.5]) * u[t]
    model = StateSpace(order=2, noise="innovations").fit(u, y + 0.1 * random.standard_normal((300, 2)))
    summary = model.summary()
    outputs, criteria, poles, parameters = summary_tables(summary, "step")
    assert [row[0] for row in outputs.rows] == ["y1", "y2"]
    assert outputs.rows[1][1] == f"{summary.fit_percent[1]:.2f}"
    assert outputs.rows[1][3] == f"{summary.rmse[1]:.4g}"
    assert dict(criteria.rows)["BIC"] == f"{summary.bic:.2f}".replace("-", "−")
    assert dict(criteria.rows)["steps"] == "300"
    assert poles.rows[0][4] == f"{summary.modes.time_constant[0]:.4g}"
    assert "time constants in steps, frequencies in cycles per step" in poles.caption
    rows = {row[0]: row[1:] for row in parameters.rows}
    assert {"A, row 1", "A, row 2", "K, row 2", "D, row 1", "offset", "x0, row 1"} <= set(rows)
    expected = f"{model.A_[1, 0]:.4g} ± {summary.standard_errors['A'][1, 0]:.2g}"
    assert rows["A, row 2"][0] == expected.replace("-", "−")
    assert len(parameters.header) == 3
    assert all(len(table.header) in (0, len(table.rows[0])) for table in (outputs, criteria, poles))


def test_a_system_without_inputs_has_no_row_of_b() -> None:
    wave = np.sin(np.arange(100) / 3) + 0.01 * np.random.default_rng(0).standard_normal(100)
    *_, parameters = summary_tables(StateSpace(order=2).fit(None, wave).summary(), "h")
    assert not [row for row in parameters.rows if row[0].startswith(("B", "D"))]
