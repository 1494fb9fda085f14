"""How good the estimators' models are, on data with known results: `make bench-estimators`.

Wants the folder ../shared/data beside the repository (or --data DIR) with hair_dryer.csv, cstr.csv, cd_player_arm.csv
(DaISy, by way of SLICOT), robot_arm.csv, heat_exchanger.csv, airline.csv and ETTh1.csv; says where to get what is
missing. jax-sysid is compared where --jax-sysid names a Python that has it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from benchmarks import forecasting, identification, record
from retrograd.estimators import StateSpace, singular_values
from retrograd.tables.read import read_table

HERE = Path(__file__).parent
RESULT = HERE / "results" / "estimators.json"
PAGE = HERE.parent / "docs" / "estimators.md"
SOURCES = {
    "hair_dryer.csv": "it comes with the package: src/retrograd/datasets",
    "cstr.csv": "DaISy 98-002, columns time, u, y1, y2: homes.esat.kuleuven.be/~smc/daisy",
    "cd_player_arm.csv": "DaISy 96-007, columns u1, u2, y1, y2: homes.esat.kuleuven.be/~smc/daisy",
    "robot_arm.csv": "DaISy 96-009, columns torque, acceleration: homes.esat.kuleuven.be/~smc/daisy",
    "heat_exchanger.csv": "DaISy 97-002, columns flow, temperature: homes.esat.kuleuven.be/~smc/daisy",
    "airline.csv": "Box and Jenkins 1976, series G",
    "ETTh1.csv": "github.com/zhouhaoyi/ETDataset, ETT-small",
}

Row = dict[str, Any]


def row(name: str, ours: Any, to_reach: Any, better: str, others: str, seconds: float) -> Row:
    """One line of the table; ``better`` says in which direction."""
    mine, limit = np.atleast_1d(ours), np.atleast_1d(to_reach)
    # Known results are printed with as many digits as they are known to.
    met = bool((mine >= limit).all() if better == "more" else (mine <= limit).all())
    return {
        "name": name, "ours": np.round(mine, 5).tolist(), "to_reach": limit.tolist(), "better": better,
        "others": others, "met": met, "seconds": round(seconds, 3),
    }  # fmt: skip


def timed(fit: Any) -> tuple[Any, float]:
    """Run a fit twice; return its result and the second's time (the first one warms the machine up)."""
    fit()
    began = time.perf_counter()
    result = fit()
    return result, time.perf_counter() - began


def hair_dryer(path: Path) -> list[Row]:
    data = pd.read_csv(path).to_numpy()
    u, y = data[:, :1], data[:, 1:]
    model, seconds = timed(lambda: StateSpace(order=4, noise="output-error").fit(u, y))
    rmse = float(np.sqrt(((model.simulate(u, model.x0_[0]) - y) ** 2).mean()))
    values, of_values = timed(lambda: singular_values(u, y, block_rows=15)[:4])
    known = [69.8841, 14.9963, 3.6675, 1.9677]
    order = {
        **row("hair dryer, singular values, s = 15", values, known, "equal", "SLICOT: the same", of_values),
        "met": bool((np.abs(values - known) <= 5e-5).all()),
    }
    others = "SLICOT 0.0901, jax-sysid 0.0932"
    return [row("hair dryer, n = 4, free-run RMSE", rmse, 0.0722, "less", others, seconds), order]


def halves(path: Path, name: str, inputs: int, skip: int, order: int, to_reach: list[float], **settings: Any) -> Row:
    """Train on the first half, simulate the second from its best initial state: fit % of each output."""
    data = pd.read_csv(path).to_numpy()[:, skip:]
    u, y = data[:, :inputs], data[:, inputs:]
    half = len(u) // 2
    model, seconds = timed(lambda: StateSpace(order=order, **settings).fit(u[:half], y[:half]))
    percent = model.fit_percent(u[half:], y[half:])
    said = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    return row(
        f"{name}, n = {order}, test fit %" + (f" ({said})" if said else ""), percent, to_reach, "more", "", seconds
    )


def sunspots() -> list[Row]:
    table = read_table("sunspots", targets=["sunspots"], time="year")
    y = table.targets[:, 0]
    start, end = (int(np.searchsorted(table.time, year)) for year in (1921, 1956))

    def state_space(order: int) -> Row:
        model, seconds = timed(lambda: StateSpace(order=order, noise="innovations").fit(None, y[:start]))
        # From the state that training put in 1700: nothing of the test years is known beforehand.
        ahead = model.predict(None, y[:end], x0=model.x0_[0])[start:, 0]
        mse = float(((ahead - y[start:end]) ** 2).mean())
        name = f"sunspots, one-step MSE, StateSpace({order}, innovations)"
        return row(name, mse, 189.2, "less", "AR(9) 189.2", seconds)

    found = forecasting.sunspots()
    return [
        row(
            "sunspots, one-step MSE, Forecaster(lags=9)", found["ours"], 189.2, "less", "AR(9) 189.2", found["seconds"]
        ),
        state_space(7),
        state_space(9),
    ]


def random_system(random: np.random.Generator, order: int, inputs: int, outputs: int) -> tuple[Any, ...]:
    """A, B, C, D of a stable system with poles from 0.3 to 0.97."""
    sizes = random.uniform(0.3, 0.97, order // 2)
    angles = random.uniform(0.05, 2.5, order // 2)
    A = np.zeros((order, order))
    for k, (size, angle) in enumerate(zip(sizes, angles, strict=True)):
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        A[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = turn
    T = np.linalg.qr(random.standard_normal((order, order)))[0]
    normal = random.standard_normal
    return T @ A @ T.T, normal((order, inputs)), normal((outputs, order)), normal((outputs, inputs))


def simulated(
    system: tuple[Any, ...], K: Any, steps: int, noise: float, random: np.random.Generator
) -> tuple[Any, Any]:
    A, B, C, D = system
    u, e = random.standard_normal((steps, B.shape[1])), noise * random.standard_normal((steps, len(C)))
    y, x = np.empty_like(e), np.zeros(len(A))
    for t in range(steps):
        y[t] = C @ x + D @ u[t] + e[t]
        x = A @ x + B @ u[t] + K @ e[t]
    return u, y


def beside_jax_sysid(python: str | None) -> Row:
    """3 inputs, 3 outputs, n = 8, N = 5000, from a seed: whole fit, side by side, each in its own process."""
    random = np.random.default_rng(8)
    system = random_system(random, 8, 3, 3)
    u, y = simulated(system, np.zeros((8, 3)), 5000, 0.5, random)
    model, seconds = timed(lambda: StateSpace(order=8, noise="output-error").fit(u, y))
    ours = float(np.sqrt(((model.simulate(u, model.x0_[0]) - y) ** 2).mean()))
    name = "3 x 3 synthetic, n = 8, N = 5000, free-run RMSE"
    if python is None:
        return {**row(name, ours, ours, "less", "jax-sysid not run", seconds), "met": None, "to_reach": [None]}
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "data.npz", Path(folder) / "result.npz"
        np.savez(source, u=u, y=y)
        subprocess.run([python, str(HERE / "jax_sysid_fit.py"), str(source), str(result), "8"], check=True)
        found = np.load(result)
        theirs = float(np.sqrt(((found["predicted"] - y) ** 2).mean()))
        time_of_theirs = float(found["seconds"])
    made = row(name, ours, theirs, "less", f"jax-sysid {theirs:.5f} in {time_of_theirs:.1f} s", seconds)
    return {**made, "met": made["met"] and seconds <= time_of_theirs / 2, "seconds_jax_sysid": round(time_of_theirs, 2)}


def coverage(systems: int = 200) -> Row:
    """Fit N = 400 steps of random systems of order 1 to 3, forecast 10 more; count what lies in its 95 % interval."""
    random, inside = np.random.default_rng(0), []
    began = time.perf_counter()
    for number in range(systems):
        order = 2 * (1 + number % 2)
        system = random_system(random, order, 1, 1 + number % 2)
        K = 0.2 * random.standard_normal((order, len(system[2])))
        while np.abs(np.linalg.eigvals(system[0] - K @ system[2])).max() > 0.98:
            K *= 0.5
        u, y = simulated(system, K, 410, 0.5, random)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = StateSpace(order=order, noise="innovations", max_iter=50).fit(u[:400], y[:400])
        coming = model.forecast(10, u[400:])
        inside.append(((coming.lower <= y[400:]) & (y[400:] <= coming.upper)).mean())
    share = 100 * float(np.mean(inside))
    name = f"95 % intervals, {systems} simulated systems, 10 steps each, share inside, %"
    seconds = (time.perf_counter() - began) / systems
    return {**row(name, share, 95.0, "between 93 and 97", "", seconds), "met": 93 <= share <= 97}


def present(data: Path, name: str) -> Path | None:
    path = data / name
    if not path.is_file():
        print(f"{path} is not there ({SOURCES[name]}): its rows are left out")
        return None
    return path


def table_of(rows: list[Row]) -> str:
    def text(values: list[float | None]) -> str:
        return ", ".join("–" if value is None else f"{value:.6g}" for value in values)

    lines = ["| data | retrograd | to reach | others | met | fit, s |", "|---|--:|--:|---|:-:|--:|"]
    for found in rows:
        sign = {"less": "≤ ", "more": "≥ "}.get(found["better"], "")
        limit = f"{sign}{text(found['to_reach'])}" if found["better"] in ("less", "more", "equal") else found["better"]
        met = {True: "yes", False: "no", None: "–"}[found["met"]]
        lines.append(
            f"| {found['name']} | {text(found['ours'])} | {limit} | {found['others'] or '–'} | {met} "
            f"| {found['seconds']:.2g} |"
        )
    return "\n".join(lines)


def write_page(result: dict[str, Any]) -> None:
    """Put the table into the docs page, between its marks."""
    begin, end = "<!-- bench-estimators: made by `make bench-estimators` -->", "<!-- bench-estimators end -->"
    text = PAGE.read_text()
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    facts = result["machine"]
    note = (
        f"{facts['cpu']}, {facts['threads']} threads, commit {facts['commit']}: `benchmarks/results/estimators.json`."
    )
    PAGE.write_text(f"{before}{begin}\n{table_of(result['rows'])}\n\n{note}\n{end}{after}")


def main() -> None:
    parser = record.parser(__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--jax-sysid", metavar="PYTHON", help="a Python with jax-sysid")
    arguments = parser.parse_args()
    if not arguments.dry_run:
        record.require_clean()
    machine = record.machine()
    rows: list[Row] = []
    if path := present(arguments.data, "hair_dryer.csv"):
        rows += hair_dryer(path)
    if path := present(arguments.data, "cstr.csv"):
        rows.append(halves(path, "cstr", 1, 1, 5, [83.1, 92.5], noise="innovations"))
    if path := present(arguments.data, "cd_player_arm.csv"):
        rows.append(halves(path, "CD player arm", 2, 0, 8, [67.7, 83.0], noise="output-error"))
    if path := present(arguments.data, "ETTh1.csv"):
        others = {96: ".374", 192: ".408", 336: ".429", 720: ".440"}
        for found, horizon in zip(forecasting.etth1(path), others, strict=True):
            said = f"NLinear, paper {others[horizon]}"
            rows.append(
                row(f"{found['name']}, test MSE", found["ours"], found["to_reach"], "less", said, found["seconds"])
            )
    rows += sunspots()
    rows.append(beside_jax_sysid(arguments.jax_sysid))
    rows.append(coverage())
    rows += identification.rows(partial(present, arguments.data), row)
    print(table_of(rows))
    if not arguments.dry_run:
        result = {"machine": machine, "rows": rows}
        record.write(RESULT, result)
        write_page(result)


if __name__ == "__main__":
    main()
