"""Tables, run folders and archives that nobody thought of, through the command line in this process.

`make fuzz` runs this module; `tests/cli/test_fuzz.py` draws a few cases in every test run. A case is a whole number:
the same number gives the same case.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import load_file, save

from retrograd import cli
from retrograd.cli import results
from retrograd.files import digest_of

SECONDS, BYTES = 20, 2 << 30
WORDS = [
    "", " ", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "1e400", "0", "-0.0", "1,5", "1.234,5", "1_000",
    "0x10", "NA", "null", "None", "TRUE", "today", "00:05", "2024-02-30", "1500-01-01", "9999-12-31", "2262-04-12",
    "31/12/2024", "01/02/2024", "2024-01-01T00:00Z", "2024-01-01T00:00+25:00", "2024Q5", "Jan-49", "202313",
    "9223372036854775808", "1e18", "=1+1", '"', "'", "a\tb", "\u202e", "\ud7ff", "😀", "x" * 300, "1 2", "١٢", "−3",
    "5%", "$5", "(5)", "1+2j", "\x1b[31m",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, -1, 0, 3, 10**7, 10**30, 2**63, 1.5, float("nan"), float("inf"), "", "x", "x" * 5000, "\n", [], [[]],
    {}, [None], {"a": 1}, [1, 2, 3], ["y"], ["y", "y"], [float("nan")] * 3, "2024-01-01", "../..", [[1.0]] * 3,
    [[["deep"]]],
]  # fmt: skip
OPTIONS: list[list[str]] = [
    *[[]] * 40, ["--season", "3"], ["--season", "0"], ["--season", "24,x"], ["--transform", "log"], ["--level", "50"],
    ["--level", "101"], ["--series", "u"], ["--series", "no"], ["--no-refit"], ["--difference", "2"],
    ["--horizon", "0"], ["--horizon", "10000000"], ["--horizon", "-1"], ["--horizon", "3"],
    ["--test", "0"], ["--test", "nan"], ["--test", "2000"], ["--test", "0.99"], ["--fill", "linear"],
    ["--fill", "forward"], ["--sort"], ["--freq", "MS"], ["--freq", "0"], ["--freq", "x"], ["--resample", "D"],
    ["--resample", "nonsense"], ["--sep", ";"], ["--sep", ""], ["--sep", "ab"], ["--decimal", ","],
    ["--decimal", "x"], ["--thousands", ","], ["--encoding", "utf-16"], ["--encoding", "none"], ["--skip-rows", "2"],
    ["--skip-rows", "-1"], ["--skip-rows", "999999999"], ["--na", "0"], ["--dayfirst"],
    ["--date-format", "%d/%m/%Y"], ["--date-format", "%"], ["--date-format", "number"], ["--sheet", "none"],
    ["--inputs", "u"], ["--inputs", "y"], ["--target", "no"], ["--time", "no"], ["--readout", "recursive"],
    ["--lags", "0"], ["--lags", "99999999999999999999"], ["--time", "u"], ["--inputs", ""],
]  # fmt: skip


class BrokenError(AssertionError):
    """What must hold does not: the case, and what happened."""


class Fuzz:
    """Cases in the working folder, which is empty between them."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        base = "".join(f"{k},{(k * 7) % 5 + k / 10},{(k * 3) % 4 + 0.5}\n" for k in range(1, 13))
        self.tables = [f"t,y,u\n{base}"]
        for frequency in ("D", "MS", "h", "QE"):
            dates = pd.date_range("2023-01-01", periods=12, freq=frequency)
            rows = (f"{d.isoformat()},{(k * 7) % 5 + k / 10},{k % 3 + 0.5}\n" for k, d in enumerate(dates))
            self.tables.append("t,y,u\n" + "".join(rows))
        self.runs: list[dict[str, bytes]] = []
        Path("d.csv").write_text(self.tables[0])
        for more in (
            ["--model", "forecaster", "--lags", "1"],
            ["--model", "forecaster", "--lags", "2", "--readout", "recursive", "--inputs", "u"],
            ["--model", "state-space", "--order", "1"],
            ["--model", "recurrent", "--hidden", "2", "--epochs", "2"],
            ["--horizon", "2"],
        ):
            code, _, err = call(["fit", "d.csv", "--target", "y", "--time", "t", "--out", "run", *more])
            if code:
                raise BrokenError(err)
            self.runs.append({path.name: path.read_bytes() for path in Path("run").iterdir()})
            shutil.rmtree("run")
        Path("d.csv").unlink()

    def case(self, number: int) -> None:
        """Run one case; raise :class:`BrokenError` if anything does not hold."""
        chance = random.Random(number)
        kind = chance.choice(["table", "table", "run", "run", "archive", "checkpoint"])
        arguments = getattr(self, f"_{kind}")(chance)
        before, began = held(), time.monotonic()
        try:
            code, out, err = call(arguments)
        except BaseException as error:
            raise BrokenError(f"case {number}: {kind} {arguments} ended in {type(error).__name__}: {error}") from error
        took = time.monotonic() - began
        said = f"case {number}: {kind} {arguments} gave {code}, {err[-500:]!r}"
        if code not in (0, 2) or "Traceback" in err:
            raise BrokenError(said)
        if code == 2:
            lines = [line for line in err.splitlines() if line]
            if len(lines) != 1 or not lines[0].startswith("retrograd: ") or len(lines[0]) > 1500:
                raise BrokenError(f"{said}: not one line")
            if held() != before:
                raise BrokenError(f"{said}: files are not what they were")
        elif arguments[0] == "forecast" or not {"--horizon", "--inputs", "--series"} & set(arguments):
            require_forecast(out if arguments[0] == "forecast" else None, said)
        if took > SECONDS:
            raise BrokenError(f"{said}: took {took:.0f} s")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > BYTES:
            raise BrokenError(f"{said}: needed more than {BYTES >> 30} GB")
        self.counts[f"{kind}, {'refused' if code else 'served'}"] += 1
        clear()

    def _table(self, chance: random.Random) -> list[str]:
        lines = [line.split(",") for line in chance.choice(self.tables).splitlines()]
        for _ in range(chance.randrange(3)):
            row = chance.choice(lines)
            change = chance.randrange(7)
            if change <= 2:
                row[chance.randrange(len(row))] = chance.choice(WORDS)
            elif change == 3:
                lines.remove(row)
            elif change == 4:
                lines.append(row)
            elif change == 5:
                row.append(chance.choice(WORDS))
            else:
                column, word = chance.randrange(3), chance.choice(WORDS)
                for each in lines[1:]:
                    each[column % len(each) :][:1] = [word]
            lines = lines or [[""]]
        separator = chance.choice([",", ",", ",", ";", "\t", " "])
        text = "\n".join(separator.join(row) for row in lines) + "\n"
        content = text.encode(chance.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32"]), "replace")
        content = damaged(content, chance) if chance.random() < 0.2 else content
        name = "d" + chance.choice([".csv"] * 6 + [".tsv", ".txt", ".parquet", ".xlsx", ".json", ""])
        Path(name).write_bytes(content)
        return self._fit(name, chance)

    def _archive(self, chance: random.Random) -> list[str]:
        table = chance.choice(self.tables)
        frame = pd.read_csv(io.StringIO(table))
        buffer = io.BytesIO()
        kind = chance.choice([".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip", ".parquet", ".xlsx", ".npz", ".npz"])
        if kind == ".npz":
            return self._npz(chance)
        if kind == ".csv.zip":
            with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
                for part in range(chance.choice([0, 1, 1, 2])):
                    archive.writestr(chance.choice(["d.csv", "../d.csv", f"{part}.txt", "a/"]), table)
        elif kind == ".parquet":
            frame.to_parquet(buffer)
        elif kind == ".xlsx":
            frame.to_excel(buffer, index=False)
        packed = {".csv.gz": gzip.compress, ".csv.bz2": bz2.compress, ".csv.xz": lzma.compress}
        content = packed[kind](table.encode()) if kind in packed else buffer.getvalue()
        content = damaged(content, chance) if chance.random() < 0.8 else content
        name = "d" + (kind if chance.random() < 0.8 else chance.choice([".csv", ".xlsx", ".parquet", ".csv.gz"]))
        Path(name).write_bytes(content)
        return self._fit(name, chance)

    def _npz(self, chance: random.Random) -> list[str]:
        arrays: dict[str, Any] = {"x": np.ones((4, 2)), "weight_hh": np.eye(2) / 2, "weight_ih": np.ones((2, 2))}
        name = chance.choice([*arrays, "h0", "bias", "feedback", "more"])
        arrays[name] = chance.choice(
            [
                np.ones(3),
                np.full((2, 2), np.nan),
                np.array("x"),
                np.ones((2, 2), "f2"),
                np.ones((0, 2)),
                np.ones((2, 2)),
                True,
            ]
        )
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        content = buffer.getvalue()
        if chance.random() < 0.3:  # a header that claims 24 TiB
            content = content.replace(
                b"(4, 2), }", b"(3298534883328,),}"[:9] if chance.random() < 0.5 else b"(9**9,),}"
            )
        Path("d.npz").write_bytes(damaged(content, chance) if chance.random() < 0.6 else content)
        return ["grad", "d.npz"] if chance.random() < 0.7 else ["explain", "d.npz"]

    def _run(self, chance: random.Random) -> list[str]:
        self._write_run(chance)
        if chance.random() < 0.5:
            self._edit(chance)
        else:
            path = Path("run", chance.choice(["config.json", "model.safetensors"]))
            how = chance.randrange(6)
            if how == 0:
                path.unlink()
            elif how == 1:
                path.unlink()
                path.mkdir()
            elif how == 2:
                path.unlink()
                path.symlink_to(path.name)
            else:
                path.write_bytes(damaged(path.read_bytes(), chance))
        if chance.random() < 0.1:
            staged = Path("run", ".staged.retrograd")
            staged.mkdir()
            (staged / "config.json").write_bytes(b"{}")
            if chance.random() < 0.5:
                (staged / "commit.retrograd").write_text(json.dumps(chance.choice(VALUES)))
        horizon = ["--horizon", str(chance.choice([0, 1, 2, 5, 10**6 + 1, 10**30]))]
        return ["forecast", "run", *(horizon if chance.random() < 0.3 else [])]

    def _edit(self, chance: random.Random) -> None:
        """Change a value in a model, and give it the digest of what it is now."""
        arrays, config = load_file("run/model.safetensors"), json.loads(Path("run/config.json").read_text())
        if chance.random() < 0.5:
            name = chance.choice(sorted(arrays))
            array = arrays[name]
            with np.errstate(all="ignore"):
                changed = [
                    array * np.nan, array * 1e300, array.astype("f4"), array.astype("i8"), array[:0],
                    np.concatenate([array] * 2), array[None], array.ravel()[:1], np.zeros_like(array), -array,
                    array.T.copy(),
                ]  # fmt: skip
                arrays[chance.choice([name, name, name, "more"])] = np.ascontiguousarray(chance.choice(changed))
            if chance.random() < 0.1:
                del arrays[name]
        else:
            at: Any = config
            while True:
                key = chance.choice(sorted(at) if isinstance(at, dict) else range(len(at)))
                below = at[key]
                if isinstance(below, (dict, list)) and below and chance.random() < 0.8:
                    at = below
                    continue
                if chance.random() < 0.8 or isinstance(at, list):
                    at[key] = chance.choice(VALUES)
                else:
                    del at[key]
                break
        content = save(arrays)
        Path("run/model.safetensors").write_bytes(content)
        if isinstance(config.get("files"), dict) and chance.random() < 0.9:
            config["files"]["model.safetensors"] = digest_of(content)
        Path("run/config.json").write_text(json.dumps(config))

    def _checkpoint(self, chance: random.Random) -> list[str]:
        for name, content in self.runs[3].items():
            Path("run").mkdir(exist_ok=True)
            Path("run", name).write_bytes(content)
        Path("d.csv").write_text(self.tables[0])
        path = Path("run/checkpoint.safetensors")
        arrays = load_file(path)
        if chance.random() < 0.6:
            name = chance.choice(sorted(arrays))
            array = arrays[name]
            arrays[name] = chance.choice(
                [
                    array * np.nan,
                    array.astype("f4"),
                    array.ravel(),
                    array[None],
                    np.concatenate([np.atleast_1d(array)] * 2),
                ]
            )
            length = int.from_bytes(path.read_bytes()[:8], "little")
            metadata = json.loads(path.read_bytes()[8 : 8 + length])["__metadata__"]
            path.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, metadata=metadata))
        else:
            path.write_bytes(damaged(path.read_bytes(), chance))
        fit = ["fit", "d.csv", "--target", "y", "--time", "t", "--out", "run", "--model", "recurrent"]
        return [*fit, "--hidden", "2", "--epochs", "3", "--resume"]

    def _write_run(self, chance: random.Random) -> None:
        Path("run").mkdir()
        for name, content in chance.choice(self.runs).items():
            Path("run", name).write_bytes(content)

    def _fit(self, name: str, chance: random.Random) -> list[str]:
        time_option = ["--time", "t"] if chance.random() < 0.8 else []
        model = chance.choices(
            [["--model", "forecaster", "--lags", "1"], ["--model", "state-space", "--order", "1"], []], [6, 2, 2]
        )[0]
        return ["fit", name, "--target", "y", *time_option, *model, "--out", "run", *chance.choice(OPTIONS)]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return a file with bytes changed, taken out, put in, or cut off."""
    array = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5])):
        place = chance.randrange(len(array) + 1)
        how = chance.randrange(5)
        if how == 0:
            array[place : place + 1] = bytes([chance.randrange(256)])
        elif how == 1:
            del array[place : place + chance.randrange(1, 20)]
        elif how == 2:
            array[place:place] = chance.choice([b"\0", b"\xff" * 8, b'"', b"\n", b"[" * 2000, b"{", b"9" * 400])
        elif how == 3:
            del array[place:]
        else:  # the length of a header, in safetensors
            array[:8] = chance.choice([2**40, 2**63, 0, 100]).to_bytes(8, "little")
    return bytes(array)


def clear() -> None:
    """Empty the working folder."""
    for path in Path().iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def held() -> dict[str, bytes | None]:
    """Every file and folder here."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(Path().rglob("*"))
        if not (path.is_dir() and path.name == ".staged.retrograd")
    }


def require_forecast(text: str | None, said: str) -> None:
    """Raise unless a forecast has a row, and every value in it is finite."""
    text = Path("run/forecast.csv").read_text() if text is None and Path("run/forecast.csv").exists() else text
    if text is None:
        return
    table = pd.read_csv(io.StringIO(text))
    if len(table) == 0 or not np.isfinite(table.iloc[:, 1:].to_numpy(dtype=float)).all():
        raise BrokenError(f"{said}: the forecast is {text[:200]!r}")


def call(arguments: list[str]) -> tuple[int, str, str]:
    """Return exit code, output and errors of one command."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    before = sys.argv
    sys.argv = ["retrograd", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.main()
        code: Any = 0
    except SystemExit as stopped:
        code = stopped.code or 0
    finally:
        sys.argv = before
    texts = [part.buffer.getvalue().decode() for part in (out, err)]  # type: ignore[attr-defined]
    return int(code), texts[0], texts[1]


@contextlib.contextmanager
def fuzzing() -> Iterator[Fuzz]:
    """Make a folder to work in; no page is drawn, as that takes longer than all else."""
    with tempfile.TemporaryDirectory() as folder:
        drawn, before = results._write_report, Path.cwd()
        results._write_report = lambda path, *_: path.write_bytes(b"page")  # type: ignore[assignment]
        os.chdir(folder)
        try:
            yield Fuzz()
        finally:
            os.chdir(before)
            results._write_report = drawn


def main() -> None:
    """Run as many cases as asked for, and print how many of each kind were served and refused."""
    cases, first = (int(text) for text in (*sys.argv[1:], *("5000", "0")[len(sys.argv) - 1 :]))
    broken = []
    with fuzzing() as fuzz, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(first, first + cases):
            try:
                fuzz.case(number)
            except BrokenError as error:
                broken.append(str(error))
                print(error, flush=True)
                clear()
        for kind, count in sorted(fuzz.counts.items()):
            print(f"{kind}: {count}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{cases} cases, {len(broken)} broken, at most {peak:.2f} GB", flush=True)
    os._exit(1 if broken else 0)


if __name__ == "__main__":
    main()
