"""A run folder is whole, or is refused: kills, second writers, damaged files."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from cli.command import FILES, retrograd  # noqa: F401
from retrograd.estimators import DivergenceError, Trainer
from retrograd.files import digest_of

ROWS = [f"{k},{(k * 7) % 5 + k / 10}" for k in range(1, 13)]
TABLE = "\n".join(["t,y", *ROWS]) + "\n"
FIT = ["fit", "d.csv", "--target", "y", "--time", "t", "--horizon", "3", "--out", "run"]
FORECASTER = [*FIT, "--model", "forecaster", "--lags", "1"]
RECURRENT = [*FIT, "--model", "recurrent", "--hidden", "2", "--epochs", "2"]
STATE_SPACE = [*FIT, "--model", "state-space", "--order", "1"]


def held(folder: Path | str = "run") -> dict[str, bytes]:
    """What a folder holds beside the training's own files."""
    return {
        path.name: path.read_bytes()
        for path in sorted(Path(folder).iterdir())
        if path.is_file() and path.name not in ("checkpoint.safetensors", "live.html")
    }


@pytest.mark.parametrize("fit", [FORECASTER, RECURRENT, STATE_SPACE], ids=["forecaster", "recurrent", "state-space"])
def test_the_same_fit_gives_the_same_bytes_report_included(retrograd: Any, fit: list[str]) -> None:  # noqa: F811
    Path("d.csv").write_text(TABLE)
    assert retrograd(*fit).code == 0
    first = held()
    assert set(first) == FILES
    assert retrograd(*fit, "--overwrite").code == 0
    assert [name for name, content in held().items() if content != first[name]] == []


def edited(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change the model of a run, and give it the digest of what it is now."""
    arrays, config = load_file("run/model.safetensors"), json.loads(Path("run/config.json").read_text())
    change(arrays, config)
    content = save(arrays)
    config["files"]["model.safetensors"] = digest_of(content)
    Path("run/model.safetensors").write_bytes(content)
    Path("run/config.json").write_text(json.dumps(config))


EDITS: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "a value that is not finite": lambda a, c: a.update({(n := sorted(a)[0]): np.full_like(a[n], np.nan)}),
    "another shape": lambda a, c: a.update({(n := sorted(a)[0]): np.concatenate([a[n], a[n]])}),
    "another type": lambda a, c: a.update({(n := sorted(a)[0]): a[n].astype(np.float32)}),
    "an array less": lambda a, c: a.pop(sorted(a)[0]),
    "an array more": lambda a, c: a.update(more=np.ones(1)),
    "no horizon": lambda a, c: c["run"].update(horizon=None),
    "a horizon below 0": lambda a, c: c["run"].update(horizon=-3),
    "an endless horizon": lambda a, c: c["run"].update(horizon=10**12),
    "other targets": lambda a, c: c["run"].update(targets=["y", "z"]),
    "targets that are no list": lambda a, c: c["run"].update(targets="y"),
    "a target that is no text": lambda a, c: c["run"].update(targets=[3]),
    "inputs that the model has not": lambda a, c: c["run"].update(inputs=["u"], future_inputs=[[1.0]] * 9),
    "no time": lambda a, c: c["run"].update(time=None),
    "a time that is none": lambda a, c: c["run"]["time"].update(times=["soon"]),
    "a step that is none": lambda a, c: c["run"]["time"].update(step={"kind": "leap"}),
    "a label that is no text": lambda a, c: c["run"]["time"].update(label=3),
    "no run": lambda a, c: c.update(run=[]),
    "parameters that are none": lambda a, c: c.update(parameters=[]),
    "a format that is none": lambda a, c: c.update(format="2"),
    "a kind that is none": lambda a, c: c.update(model=["recurrent"]),
}
STATES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "a state too long": lambda a, c: c["run"]["state"].append(0.0),
    "no state": lambda a, c: c["run"].update(state=None),
    "a state that is not finite": lambda a, c: c["run"].update(state=[float("inf") for _ in c["run"]["state"]]),
}


@pytest.mark.parametrize("fit", [FORECASTER, RECURRENT, STATE_SPACE], ids=["forecaster", "recurrent", "state-space"])
def test_an_edited_model_is_refused_in_one_line(retrograd: Any, fit: list[str]) -> None:  # noqa: F811
    Path("d.csv").write_text(TABLE)
    assert retrograd(*fit).code == 0
    kept = held()
    assert retrograd("forecast", "run").out.encode() == kept["forecast.csv"]
    for name, change in {**EDITS, **(STATES if fit is not FORECASTER else {})}.items():
        edited(change)
        ran = retrograd("forecast", "run")
        assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), (name, ran.err)
        assert ran.err.startswith("retrograd: run"), (name, ran.err)
        for file, content in kept.items():
            (Path("run") / file).write_bytes(content)


def test_damaged_files_are_refused_in_one_line(retrograd: Any) -> None:  # noqa: F811
    Path("d.csv").write_text(TABLE)
    assert retrograd(*RECURRENT).code == 0
    for name in ("config.json", "model.safetensors"):
        whole = Path("run", name).read_bytes()
        for damaged in (b"", b"\x00" * 64, whole[:50], whole[:-9], b"\xff" + whole, b"[" * 200_000, b'{"a": ' * 9000):
            Path("run", name).write_bytes(damaged)
            ran = retrograd("forecast", "run")
            assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1), (name, damaged[:20], ran.err)
        Path("run", name).unlink()
        Path("run", name).mkdir()
        ran = retrograd("forecast", "run")
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
        Path("run", name).rmdir()
        Path("run", name).write_bytes(whole)
    assert retrograd("forecast", "run").code == 0


def test_a_run_that_was_cut_short_after_its_commit_is_the_new_one(retrograd: Any) -> None:  # noqa: F811
    Path("d.csv").write_text(TABLE)
    assert retrograd(*FORECASTER).code == 0
    old = held()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrograd.files._roll_forward", cut_short)
        with pytest.raises(Cut):
            retrograd(*RECURRENT, "--overwrite")
    assert held() != old
    ran = retrograd("forecast", "run")
    assert ran.code == 0
    new = held()
    assert ran.out.encode() == new["forecast.csv"]
    assert retrograd(*RECURRENT, "--overwrite").code == 0
    assert held() == new


class Cut(BaseException):
    pass


def cut_short(folder: Path) -> None:
    staged = folder / ".staged.retrograd"
    if staged.exists():
        os.replace(staged / "model.safetensors", folder / "model.safetensors")
        raise Cut


def test_a_training_that_cannot_begin_leaves_the_old_run_and_its_checkpoint(
    retrograd: Any,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("d.csv").write_text(TABLE)
    assert retrograd(*RECURRENT).code == 0
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}

    def diverges(trainer: Trainer) -> None:
        raise DivergenceError("training stopped at epoch 1")

    monkeypatch.setattr(Trainer, "step", diverges)
    for options in (["--overwrite"], ["--out", "new"]):
        ran = retrograd(*RECURRENT, *options)
        assert ran.code == 2
        assert "nothing was written" in ran.err
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    assert not Path("new").exists()


def fit_process(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from retrograd.cli import main; main()", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_the_old_run_or_the_new_one(
    retrograd: Any,  # noqa: F811
    tmp_path: Path,
    kills: int,
) -> None:
    Path("d.csv").write_text(TABLE)
    more = [*RECURRENT[:-1], "40", "--seed", "1"]
    assert retrograd(*RECURRENT).code == 0
    old = held()
    assert retrograd(*more, "--overwrite").code == 0
    new, resumed = held(), 0
    chance = random.Random(kills)
    for kill in range(kills):
        for path in Path("run").iterdir():
            path.unlink()
        replaces = kill % 3 > 0
        if replaces:
            for name, content in old.items():
                Path("run", name).write_bytes(content)
        processes = [fit_process(tmp_path, *more, *(["--overwrite"] if replaces else [])) for _ in range(1 + kill % 2)]
        # From its first file on: before that, nothing is there to be hurt.
        while not Path("run/checkpoint.safetensors").exists() and any(p.poll() is None for p in processes):
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.6))
        number = signal.SIGTERM if kill % 4 == 1 else signal.SIGKILL
        for process in processes:
            process.send_signal(number)
        said = [process.communicate(timeout=120)[1] for process in processes]
        assert not any("Traceback" in text for text in said), said
        assert all(p.returncode in (0, 2, -number, 128 + number) for p in processes), said
        ran = retrograd("forecast", "run")
        after = {name: content for name, content in held().items() if not name.endswith(".retrograd")}
        assert after in ([old, new] if replaces else [{}, new]), (kill, sorted(after))
        assert ran.code == (0 if after else 2)
        if Path("run/checkpoint.safetensors").exists():
            assert retrograd(*more, "--resume").code == 0
            assert held() == new
            assert not [path for path in Path("run").iterdir() if path.name.endswith(".retrograd")]
            resumed += 1
    assert resumed > kills // 2


def test_a_second_fit_into_the_same_folder_is_refused(retrograd: Any, tmp_path: Path) -> None:  # noqa: F811
    Path("d.csv").write_text(TABLE)
    first = fit_process(tmp_path, *RECURRENT[:-1], "100000")
    while not Path("run/checkpoint.safetensors").exists() and first.poll() is None:
        time.sleep(0.01)
    for options in (FORECASTER, [*RECURRENT, "--overwrite"], [*RECURRENT, "--resume"]):
        ran = retrograd(*options)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "run is being written by another process: wait until it is done" in ran.err
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 143, err
    assert "To continue:" in out
