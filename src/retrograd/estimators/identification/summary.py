"""What a fitted state-space model is worth, in numbers and as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.estimators.identification.analysis import Modes, modes, parameter_covariance
from retrograd.estimators.identification.experiments import Experiments
from retrograd.estimators.identification.identified import Identified
from retrograd.estimators.identification.search import Settings, layout_of
from retrograd.estimators.identification.system import Layout, predict

__all__ = ["Summary", "Whiteness"]

Array = np.ndarray[Any, Any]

# Lags that the tests of residuals look at, where there are steps enough.
MOST_LAGS = 20
# Order of the autoregression that residuals are taken for where they are held against the inputs.
AUTOREGRESSION = 8


@dataclass(frozen=True)
class Whiteness:
    """Tests of one output's residuals, fitted criterion's own (free run for output error, else innovations).

    Attributes:
        lags: that were looked at.
        ljung_box: p-value that the residuals are white (Ljung and Box 1978); small: they can be predicted.
        inputs: p-value that inputs up to ``lags`` steps back say nothing about them (an F-test, the residuals taken for
            autoregressive: Cochrane and Orcutt 1949); small: the model misses something of the inputs. NaN without any.
    """

    lags: int
    ljung_box: float
    inputs: float


@dataclass(frozen=True)
class Summary:
    """The numbers of a fit; ``str()`` sets them in tables.

    Attributes:
        description: the model in words.
        output_names: the p outputs.
        fit_percent: of the free run on the data of the fit, ``(p,)``.
        one_step_percent: one step ahead, ``(p,)``.
        rmse: of what was fitted, in the outputs' units, ``(p,)``.
        log_likelihood: Gaussian.
        aic: Akaike's criterion.
        bic: Schwarz's.
        parameters: free ones, those of the basis not counted.
        steps: of all experiments.
        modes: poles, damping, time constants.
        standard_errors: of ``A``, ``B``, …, by name, shaped as they are.
        values: the parameters themselves, likewise.
        whiteness: by output.
        unit: of time.
    """

    description: str
    output_names: tuple[str, ...]
    fit_percent: Array
    one_step_percent: Array
    rmse: Array
    log_likelihood: float
    aic: float
    bic: float
    parameters: int
    steps: int
    modes: Modes
    standard_errors: dict[str, Array]
    values: dict[str, Array]
    whiteness: dict[str, Whiteness]

    @classmethod
    def of(cls, found: Identified, data: Experiments, settings: Settings) -> Summary:
        """Return the summary of a system on the data of its fit, with the settings of that fit."""
        system, p = found.system, data.outputs.shape[1]
        layout = layout_of(settings, system.order, data, found.noise)
        _, predicted = predict(system, data)
        residuals = np.where(data.observed, data.outputs - predicted, np.nan)
        covariance = parameter_covariance(system, layout, data, found.innovation_covariance, settings.burn_in)
        variance = np.maximum(np.diag(covariance), 0.0)
        at, shapes = layout.slices(), layout.shapes()
        free = layout.count() + p * (p + 1) // 2
        likelihood = found.log_likelihood(system, data, settings.burn_in)
        steps = int(data.observed.any(axis=1).sum())
        noise = "innovations" if layout.innovations else "output error"
        return cls(
            f"{noise}, order {system.order}, {data.inputs.shape[1]} inputs, {p} outputs, "
            f"{len(data.lengths)} experiment(s), {len(data.outputs)} steps",
            data.output_names,
            found.judged(data)[1],
            found.judged(data, k=1)[1],
            np.sqrt(np.nanmean(residuals**2, axis=0)),
            likelihood,
            -2 * likelihood + 2 * free,
            -2 * likelihood + float(np.log(steps)) * free,
            layout.count(),
            steps,
            modes(system.A, found.sample_time, covariance[at["A"], at["A"]]),
            {name: np.sqrt(variance[at[name]]).reshape(shape) for name, shape in shapes.items()},
            {name: getattr(system, name) for name in shapes},
            {name: _whiteness(data, residuals[:, k], layout) for k, name in enumerate(data.output_names)},
        )

    def __str__(self) -> str:
        """Return the tables."""
        lines = [f"State-space model: {self.description}"]
        lines.append(
            f"log-likelihood {self.log_likelihood:.2f}, AIC {self.aic:.2f}, BIC {self.bic:.2f}, "
            f"{self.parameters} free parameters"
        )
        lines += [
            "",
            f"{'output':<16}{'free run %':>12}{'one step %':>12}{'RMSE':>12}{'Ljung-Box p':>13}{'inputs p':>11}",
        ]
        for k, name in enumerate(self.output_names):
            test = self.whiteness[name]
            lines.append(
                f"{name:<16}{self.fit_percent[k]:>12.2f}{self.one_step_percent[k]:>12.2f}{self.rmse[k]:>12.4g}"
                f"{test.ljung_box:>13.3g}{test.inputs:>11.3g}"
            )
        lines += ["", f"{'pole':<22}{'|pole|':>10}{'± ':>10}{'damping':>10}{'time constant':>16}{'frequency':>12}"]
        for k, pole in enumerate(self.modes.poles):
            sign = "+" if pole.imag >= 0 else "-"
            text = f"{pole.real:.4f}" if pole.imag == 0 else f"{pole.real:.4f} {sign} {abs(pole.imag):.4f}i"
            lines.append(
                f"{text:<22}{abs(pole):>10.4f}{self.modes.poles_error[k]:>10.2g}{self.modes.damping[k]:>10.3f}"
                f"{self.modes.time_constant[k]:>16.4g}{self.modes.frequency[k]:>12.4g}"
            )
        lines += ["", "parameters (± standard error, at this basis of the state)"]
        for name, values in self.values.items():
            if values.size == 0:  # no inputs
                continue
            errors = self.standard_errors[name]
            for row, (value, error) in enumerate(zip(np.atleast_2d(values), np.atleast_2d(errors), strict=True)):
                cells = "  ".join(f"{v:>10.4g} ± {e:<8.2g}" for v, e in zip(value, error, strict=True))
                lines.append(f"{name if row == 0 else '':<8}{cells}")
        return "\n".join(lines)


def _whiteness(data: Experiments, residual: Array, layout: Layout) -> Whiteness:
    """Test the longest stretch of one experiment with no output missing: a test across gaps has no known size."""
    from statsmodels.regression.linear_model import GLSAR
    from statsmodels.stats.diagnostic import acorr_ljungbox

    best: tuple[int, int] = (0, 0)
    for start, length in zip(data.starts.tolist(), data.lengths, strict=True):
        gaps = np.flatnonzero(np.isnan(residual[start : start + length])) + start
        borders = np.concatenate([[start - 1], gaps, [start + length]])
        longest = int(np.argmax(np.diff(borders)))
        stretch = (int(borders[longest]) + 1, int(borders[longest + 1]))
        best = max(best, stretch, key=lambda pair: pair[1] - pair[0])
    e, u = residual[best[0] : best[1]], data.inputs[best[0] : best[1]]
    lags = min(MOST_LAGS, len(e) // 5)
    m = u.shape[1]
    if lags < 1 or not e.any():
        return Whiteness(lags, float("nan"), float("nan"))
    white = float(acorr_ljungbox(e, lags=[lags])["lb_pvalue"].iloc[0])
    from_inputs = float("nan")
    if m and len(e) > 4 * lags * m:
        windows = np.lib.stride_tricks.sliding_window_view(u, lags + 1, axis=0)
        design = windows.reshape(len(windows), -1)
        design = np.concatenate([np.ones((len(design), 1)), design - design.mean(axis=0)], axis=1)
        # Residuals of an output-error fit are seldom white: what predicts them from their own past is filtered out.
        order = min(AUTOREGRESSION, len(e) // 20)
        result = GLSAR(e[lags:], design, rho=max(order, 1)).iterative_fit(maxiter=3)
        from_inputs = float(result.f_pvalue)
    return Whiteness(lags, white, from_inputs)
