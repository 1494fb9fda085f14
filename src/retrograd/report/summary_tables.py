"""The summary of an identified system, as tables of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from retrograd.report.content import TextTable, plural

if TYPE_CHECKING:
    from retrograd.estimators.identification.summary import Summary

__all__ = ["summary_tables"]


def summary_tables(summary: Summary, time_unit: str) -> list[TextTable]:
    """Return fit and tests of the residuals, information criteria, modes, and parameters with standard errors.

    Args:
        summary: of the fit.
        time_unit: that time constants are in, and frequencies are cycles per.
    """
    return [_outputs(summary), _criteria(summary), _modes(summary, time_unit), _parameters(summary)]


def _outputs(summary: Summary) -> TextTable:
    rows = [
        [
            name,
            _number(summary.fit_percent[k], ".2f"),
            _number(summary.one_step_percent[k], ".2f"),
            _number(summary.rmse[k]),
            _number(summary.whiteness[name].ljung_box, ".3g"),
            _number(summary.whiteness[name].inputs, ".3g"),
        ]
        for k, name in enumerate(summary.output_names)
    ]
    return TextTable(
        f"On the data of the fit: {summary.description}. A small p says that residuals can be predicted from their "
        "own past (Ljung-Box), or from the inputs.",
        ("output", "free run, fit %", "one step, fit %", "RMSE", "Ljung-Box p", "inputs p"),
        rows,
    )


def _criteria(summary: Summary) -> TextTable:
    rows = [
        ["log-likelihood", _number(summary.log_likelihood, ".2f")],
        ["AIC", _number(summary.aic, ".2f")],
        ["BIC", _number(summary.bic, ".2f")],
        ["free parameters", str(summary.parameters)],
        ["steps", str(summary.steps)],
    ]
    return TextTable("Information criteria", (), rows)


def _modes(summary: Summary, time_unit: str) -> TextTable:
    modes = summary.modes
    rows = [
        [
            _complex(pole),
            _number(abs(pole)),
            _number(modes.poles_error[k], ".2g"),
            _number(modes.damping[k], ".3f"),
            _number(modes.time_constant[k]),
            _number(modes.frequency[k]),
        ]
        for k, pole in enumerate(modes.poles)
    ]
    return TextTable(
        f"Modes, slowest first; time constants in {plural(time_unit)}, frequencies in cycles per {time_unit}",
        ("pole", "|pole|", "± (standard error)", "damping", "time constant", "frequency"),
        rows,
    )


def _parameters(summary: Summary) -> TextTable:
    rows = []
    for name, values in summary.values.items():
        pairs = zip(np.atleast_2d(values), np.atleast_2d(summary.standard_errors[name]), strict=True)
        for row, (value, error) in enumerate(pairs):
            cells = [f"{_number(v)} ± {_number(e, '.2g')}" for v, e in zip(value, error, strict=True)]
            if cells:  # no inputs, no B
                rows.append([f"{name}, row {row + 1}" if np.ndim(values) > 1 else name, *cells])
    widest = max((len(row) - 1 for row in rows), default=1)
    header = ("", *(f"column {number + 1}" for number in range(widest)))
    return TextTable("Parameters ± standard error, at this basis of the state", header, rows)


def _number(value: float, style: str = ".4g") -> str:
    """Return a number as the page writes it: a true minus sign, a dash where there is none.

    >>> _number(-0.5), _number(float("nan"))
    ('−0.5', '–')
    """
    return "–" if np.isnan(value) else format(value, style).replace("-", "−")


def _complex(value: complex) -> str:
    if value.imag == 0:
        return _number(value.real, ".4f")
    return f"{_number(value.real, '.4f')} {'+' if value.imag > 0 else '−'} {abs(value.imag):.4f}i"
