"""How good forecasts are by default, one call and nothing chosen: `make bench-forecast`.

`AutoForecaster()` beside the seasonal naive, an AR by AIC, SARIMAX and ETS (statsmodels) on the same rows. Wants
the folder ../shared/data beside the repository (or --data DIR) with airline.csv, lynx.csv, m4_weekly.csv.gz and
ETTh1.csv; Nile and the macroeconomic series come with statsmodels. A rolling forecast is fitted once, to all rows but
the last; then it starts from each of those, with the data up to there.
"""

from __future__ import annotations

import time
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import record
from retrograd.estimators import AutoForecaster
from retrograd.estimators.auto.baselines import Naive
from retrograd.estimators.auto.contenders import Contender

HERE = Path(__file__).parent
RESULT = HERE / "results" / "forecast.json"
PAGE = HERE.parent / "docs" / "forecast.md"
BEGIN, END = "<!-- benchmarks.forecast -->", "<!-- /benchmarks.forecast -->"
# Orders of SARIMAX: the airline model; for the others what the literature takes.
AIRLINE, LYNX, NILE, QUARTERLY = ((0, 1, 1), (0, 1, 1, 12)), ((2, 0, 0), None), ((0, 1, 1), None), ((1, 0, 1), None)

Array = np.ndarray[Any, Any]
Row = dict[str, Any]


def rmse(observed: Array, predicted: Array) -> float:
    return float(np.sqrt(np.mean((observed - predicted) ** 2)))


def rolling(
    name: str, y: pd.Series, test: int, horizon: int, season: int, to_reach: float | None, order: Any = None
) -> Row:
    """Return one row: errors of the default, the naive, the AR, SARIMAX and ETS over all origins and steps."""
    train, steps, values = len(y) - test, np.arange(1, horizon + 1), y.to_numpy(dtype=float)
    began = time.perf_counter()
    forecaster = AutoForecaster().fit(y.iloc[:train], fh=steps)
    seconds = time.perf_counter() - began
    start, stop = train - 1, len(y) - horizon
    observed = values[np.arange(start, stop)[:, None] + steps]
    ours = rmse(observed, forecaster.backtest(y, start=train)[:, :, 0])
    inputs = np.zeros((len(y), 0))
    fitted = Contender("AR", "autoregression", recursive=True).fit(values[:train], inputs[:train], steps)
    return {
        "name": name,
        "score": "RMSE",
        "ours": ours,
        "to_reach": to_reach,
        "naive": rmse(observed, Naive.fit(values[:train], season, False).forecast(values, start, stop, steps)),
        "AR": rmse(observed, fitted.forecast(values, inputs, start, stop, steps)),
        "SARIMAX": None if order is None else rmse(observed, sarimax(values, train, stop, horizon, *order)),
        "ETS": None if order is None else rmse(observed, ets(values, train, stop, horizon, season)),
        "covered": covered(forecaster, y, train, observed),
        "seconds": seconds,
        "chosen": forecaster.chosen_,
    }


def covered(forecaster: AutoForecaster, y: Any, train: int, observed: Array) -> dict[str, float]:
    """Return how much of what came lies in intervals of 80 and 95 %."""
    found = {}
    for level in (80, 95):
        lower, upper = (
            forecaster.backtest(y, start=train, alpha=0.5 + sign * level / 200)[:, :, 0] for sign in (-1, 1)
        )
        found[str(level)] = 100 * float(np.mean((lower <= observed) & (observed <= upper)))
    return found


def sarimax(values: Array, train: int, stop: int, horizon: int, order: Any, seasonal: Any) -> Array:
    """Return forecasts of statsmodels' SARIMAX, fitted once, from every origin."""
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trend = None if order[1] else "c"
        model = SARIMAX(values[:train], order=order, seasonal_order=seasonal or (0, 0, 0, 0), trend=trend)
        result, found = model.fit(disp=False), []
        for end in range(train, stop + 1):
            found.append(result.forecast(horizon))
            result = result.append(values[end : end + 1])
    return np.stack(found)


def ets(values: Array, train: int, stop: int, horizon: int, season: int) -> Array:
    """Return forecasts of statsmodels' ETS, its form by AIC, fitted once, from every origin."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel

    kinds = ("add", "mul") if values.min() > 0 else ("add",)
    trends: list[dict[str, Any]] = [{}, {"trend": "add"}, {"trend": "add", "damped_trend": True}]
    seasons: list[dict[str, Any]] = [{"seasonal": kind, "seasonal_periods": season} for kind in kinds]
    forms = [
        {"error": error, **trend, **seasonal}
        for error, trend, seasonal in product(kinds, trends, seasons if season > 1 else [{}])
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [ETSModel(values[:train], **form).fit(disp=False) for form in forms]
        best = min(range(len(fits)), key=lambda place: float(fits[place].aic))
        found = []
        for end in range(train, stop + 1):
            model = ETSModel(values[:end], **forms[best])
            found.append(model.smooth(fits[best].params).forecast(horizon))
    return np.stack(found)


def m4_weekly(path: Path) -> list[Row]:
    """Return the competition's scores of one call for all 359 weekly series as a panel, 13 ahead."""
    table, steps = pd.read_csv(path), np.arange(1, 14)
    name, value = table.columns[0], next(column for column in reversed(table.columns) if column != "part")
    parts = {
        key: [part.loc[part["part"] == which, value].to_numpy(dtype=float) for which in ("train", "test")]
        for key, part in table.groupby(name, sort=False)
    }
    y = pd.concat({key: pd.DataFrame({"y": train}) for key, (train, _) in parts.items()}, names=[name, "week"])
    began = time.perf_counter()
    forecaster = AutoForecaster().fit(y, fh=steps)
    predicted, bounds = forecaster.predict(), forecaster.predict_interval(coverage=[0.8, 0.95])
    seconds = time.perf_counter() - began
    scores: dict[str, list[Array]] = {"ours": [], "naive": []}
    inside: dict[str, list[float]] = {"80": [], "95": []}
    worse = 0
    for key, (train, test) in parts.items():
        forecasts = {"ours": predicted.loc[key].to_numpy()[:, 0], "naive": np.full(13, train[-1])}
        for who, forecast in forecasts.items():
            error = np.abs(test - forecast)
            smape = float(np.mean(200 * error / (np.abs(test) + np.abs(forecast))))
            scores[who].append(np.array([smape, error.mean() / np.abs(np.diff(train)).mean()]))
        worse += rmse(test, forecasts["ours"]) > 1.05 * rmse(test, forecasts["naive"])
        for level, found in inside.items():
            ends = bounds.loc[key]["y", int(level) / 100].to_numpy()
            found.append(100 * float(np.mean((ends[:, 0] <= test) & (test <= ends[:, 1]))))
    mean = {who: np.mean(found, axis=0).tolist() for who, found in scores.items()}
    rows = []
    for place, (score, to_reach) in enumerate((("sMAPE", 6.05), ("MASE", 1.95))):
        rows.append(
            {
                "name": "M4 weekly, 359 series, 13 ahead", "score": score, "ours": mean["ours"][place],
                "to_reach": to_reach, "naive": mean["naive"][place], "AR": None, "SARIMAX": None, "ETS": None,
                "covered": {level: float(np.mean(found)) for level, found in inside.items()}, "seconds": seconds,
                "chosen": f"RMSE over 5 % above the last value's on {worse} of {len(parts)} series",
            }
        )  # fmt: skip
    return rows


def cases(data: Path) -> list[Row]:
    from statsmodels.datasets import macrodata, nile

    airline = pd.read_csv(data / "airline.csv").iloc[:, -1].to_numpy(dtype=float)
    months = pd.period_range("1949-01", periods=len(airline), freq="M")
    passengers = pd.Series(airline, months)
    lynx = pd.read_csv(data / "lynx.csv").iloc[:, -1].to_numpy(dtype=float)
    trapped = pd.Series(np.log10(lynx), pd.RangeIndex(1821, 1821 + len(lynx)))
    macro = macrodata.load_pandas().data
    quarters = pd.period_range("1959Q1", periods=len(macro), freq="Q")
    flow = nile.load_pandas().data["volume"].to_numpy(dtype=float)
    rows = [
        rolling("airline, one origin, 24 ahead", passengers, 24, 24, 12, 40.0, AIRLINE),
        rolling("airline", passengers, 48, 12, 12, 24.1, AIRLINE),
        rolling("log airline", np.log(passengers), 48, 12, 12, 0.0553, AIRLINE),
        rolling("log10 lynx", trapped, 30, 10, 1, 0.411, LYNX),
        rolling("Nile", pd.Series(flow, pd.RangeIndex(1871, 1871 + len(flow))), 35, 5, 1, 128.0, NILE),
        rolling("unemployment", pd.Series(macro["unemp"].to_numpy(), quarters), 60, 4, 1, 0.578, QUARTERLY),
        rolling("inflation", pd.Series(macro["infl"].to_numpy(), quarters), 60, 4, 1, 2.72, QUARTERLY),
    ]
    hours = pd.read_csv(data / "ETTh1.csv", index_col=0, parse_dates=True)
    rows.append(rolling(f"ETTh1 OT, all {len(hours)} rows, 48 ahead", hours["OT"], 20 * 48, 48, 24, None))
    loads = hours.iloc[: 20 * 30 * 24]
    for column in ("OT", "HUFL", "HULL", "MUFL"):
        for horizon, season in ((48, 24), (168, 168)):
            rows.append(rolling(f"ETTh1 {column}, {horizon} ahead", loads[column], 4 * 30 * 24, horizon, season, None))
    return rows


def table_of(rows: list[Row]) -> str:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"

    lines = [
        "| series | score | `AutoForecaster()` | to reach | naive | AR | SARIMAX | ETS | in 80 %, 95 % | seconds |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        figures = [number(row[key]) for key in ("ours", "to_reach", "naive", "AR", "SARIMAX", "ETS")]
        inside = ", ".join(f"{value:.0f}" for value in row["covered"].values())
        lines.append(f"| {row['name']} | {row['score']} | {' | '.join(figures)} | {inside} | {row['seconds']:.1f} |")
    return "\n".join(lines)


def write_page(result: dict[str, Any]) -> None:
    """Put the table between its marks on the page."""
    before, rest = PAGE.read_text().split(BEGIN)
    _, after = rest.split(END)
    note = f"{result['machine']['cpu']}, commit {result['machine']['commit']}: `benchmarks/results/forecast.json`."
    PAGE.write_text(f"{before}{BEGIN}\n{table_of(result['rows'])}\n\n{note}\n{END}{after}")


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    arguments = parser.parse_args()
    if not arguments.dry_run:
        record.require_clean()
    machine = record.machine()
    rows = [*cases(arguments.data), *m4_weekly(arguments.data / "m4_weekly.csv.gz")]
    print(table_of(rows))
    if not arguments.dry_run:
        result = {"machine": machine, "rows": rows}
        record.write(RESULT, result)
        write_page(result)


if __name__ == "__main__":
    main()
