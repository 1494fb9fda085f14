"""How good forecasts are, on data that others report: ETTh1 (test MSE by horizon) and the yearly sunspots.

    python -m benchmarks.forecasting ETTh1.csv

ETTh1 (Zhou et al., 2021; hourly loads and oil temperature of a transformer) in the split that the literature uses:
12, 4 and 4 months of 30 days to train, validate and test, scaled by the training part, look-back 336, all windows, all
seven series. The figures to reach are those of a closed-form NLinear. One configuration serves all four horizons, and
the validation part is not used.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrograd.estimators.forecasting.estimator import Forecaster
from retrograd.tables.read import read_table

Array = np.ndarray[Any, Any]

TO_REACH = {96: 0.370, 192: 0.403, 336: 0.426, 720: 0.423}
MONTH = 30 * 24
TRAIN, TEST, END = 12 * MONTH, 16 * MONTH, 20 * MONTH
LOOK_BACK = 336


def window_error(values: Array, predicted: Array, start: int, scale: Array) -> float:
    """Return the mean squared error of predictions ``(windows, H, series)`` of rows ``start`` on, in scaled units."""
    total = 0.0
    for step in range(predicted.shape[1]):
        there = values[start + step : start + step + len(predicted)]
        total += float((((predicted[:, step] - there) / scale) ** 2).mean())
    return total / predicted.shape[1]


def etth1(path: str | Path) -> list[dict[str, Any]]:
    """Return one row for every horizon: name, ours, to_reach, seconds (of the fit and all windows)."""
    table = pd.read_csv(path, index_col=0, parse_dates=True).iloc[:END]
    train = table.iloc[:TRAIN]
    scale = train.to_numpy().std(axis=0)
    rows = []
    for horizon, to_reach in TO_REACH.items():
        began = time.perf_counter()
        forecaster = Forecaster(lags=LOOK_BACK).fit(train, fh=range(1, horizon + 1))
        predicted = forecaster.backtest(table, start=TEST)
        seconds = time.perf_counter() - began
        error = window_error(table.to_numpy(), predicted, TEST, scale)
        rows.append({"name": f"ETTh1, {horizon} steps", "ours": error, "to_reach": to_reach, "seconds": seconds})
    return rows


def sunspots() -> dict[str, Any]:
    """Return the one-step MSE of 1921 to 1955 after training on 1700 to 1920; an AR(9) by least squares is to reach."""
    table = read_table("sunspots", targets=["sunspots"], time="year")
    y = table.targets[:, 0]
    start, end = (int(np.searchsorted(table.time, year)) for year in (1921, 1956))
    began = time.perf_counter()
    forecaster = Forecaster(lags=9, readout="recursive").fit(y[:start])
    predicted = forecaster.backtest(y[:end], start=start, fh=1)[:, 0, 0]
    seconds = time.perf_counter() - began
    error = float(((predicted - y[start:end]) ** 2).mean())
    return {"name": "sunspots, one step", "ours": error, "to_reach": 189.2, "seconds": seconds}


if __name__ == "__main__":
    found = [sunspots(), *(row for path in sys.argv[1:] for row in etth1(path))]
    print(json.dumps(found, indent=2))
