"""Hourly loads, and forecasters of every kind for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


def loads(days: int = 40, series: int = 2, seed: int = 0) -> pd.DataFrame:
    """Hourly series with a daily shape and an autoregressive rest."""
    rng = np.random.default_rng(seed)
    hours = np.arange(24 * days)
    rest = np.zeros((len(hours), series))
    for t in range(1, len(hours)):
        rest[t] = 0.8 * rest[t - 1] + 0.3 * rng.normal(size=series)
    values = 10 + np.sin(2 * np.pi * hours / 24)[:, None] * (1 + np.arange(series)) + rest
    index = pd.date_range("2024-01-01", periods=len(hours), freq="h", name="date")
    return pd.DataFrame(values, index=index, columns=[f"load{i}" for i in range(series)])


CONFIGURATIONS: list[dict[str, Any]] = [
    {"lags": 24},
    {"lags": 24, "difference": None, "ridge": 0.001},
    {"lags": 12, "difference": 24, "share": False},
    {"lags": 24, "readout": "recursive", "difference": None, "calendar": ("hour",)},
    {"lags": 12, "readout": "recursive", "difference": 24},
    {"states": "diagonal", "hidden": 12, "calendar": ("hour*2", "weekday")},
    {"states": "dense", "hidden": 8, "readout": "recursive", "epochs": 2, "ridge": 0.01},
]
