"""`torchrun -m retrograd fit --time-parallel N`: one model over N ranks, also where a rank is killed on the way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import retrograd as rg
from cli.command import retrograd
from retrograd.errors import InputError
from retrograd.estimators import Recurrent

__all__ = ["retrograd"]  # a fixture

SERIES = np.sin(np.arange(90.0) / 3)[:, None] + np.linspace(0, 1, 90)[:, None] ** 2


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_group_trains_the_same_model_to_rounding_and_the_same_bits_on_every_rank(
    optimizer: str, tmp_path: Path
) -> None:
    def model() -> Recurrent:
        return Recurrent(hidden=3, optimizer=optimizer, epochs=4)

    def work(ranks: rg.distributed.Ranks) -> Recurrent:
        return model().fit(SERIES, group=ranks, checkpoint=tmp_path / f"{ranks.rank}.safetensors")

    found, want = rg.distributed.simulate(3, work), model().fit(SERIES)
    for one in found:
        for name, weight in one.network_.weights.items():
            assert torch.equal(weight, found[0].network_.weights[name])
            torch.testing.assert_close(weight, want.network_.weights[name], rtol=1e-6, atol=1e-8)
    assert [path.name for path in tmp_path.iterdir()] == ["0.safetensors"]


def test_what_a_group_cannot_train_is_refused() -> None:
    def refused(Y: Any, **settings: Any) -> str:
        def work(ranks: rg.distributed.Ranks) -> str:
            with pytest.raises(InputError) as caught:
                Recurrent(2, **settings).fit(Y, group=ranks)
            return str(caught.value)

        return rg.distributed.simulate(4, work)[0]

    holes = SERIES.copy()
    holes[7] = np.nan
    assert "one step ahead" in refused(SERIES, closed_loop=5)
    assert "missing values" in refused(holes)
    assert "group has 4 ranks, the series 3 steps" in refused(SERIES[:4])


def test_ranks_that_torchrun_has_not_started(retrograd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    command = ["fit", "sunspots", "--target", "sunspots", "--model", "recurrent", "--out", str(tmp_path / "run")]
    done = retrograd(*command, "--time-parallel", "2")
    assert done.code == 2
    assert "torchrun --standalone --nproc-per-node 2 -m retrograd fit" in done.err
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    done = retrograd(*command, "--time-parallel", "2")
    assert done.code == 2
    assert "--time-parallel is 2, torchrun has started 3" in done.err
    assert not (tmp_path / "run").exists()


def command(out: Path, *more: str, kills: int = 0) -> list[str]:
    """A training over two processes of torchrun, which starts them again so many times."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("--max-restarts", str(kills), "--monitor-interval", "0.1", "-m", "retrograd", "fit", "sunspots"),
        *("--target", "sunspots", "--time", "year", "--model", "recurrent", "--hidden", "4"),
        *("--epochs", "400", "--time-parallel", "2", "--out", str(out), *more),
    ]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def train(out: Path, *more: str, kills: int = 0) -> dict[str, bytes]:
    """Train, and kill a random process so many times; the files of the run."""
    choice, killed = random.Random(kills), 0
    given, pipe = command(out, *more, kills=kills), subprocess.PIPE
    with subprocess.Popen(given, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=pipe) as running:
        while running.poll() is None:
            time.sleep(0.1)
            if killed < kills and (out / "checkpoint.safetensors").exists():
                time.sleep(choice.uniform(0.0, 3.0))
                children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
                if children:
                    os.kill(int(choice.choice(children)), signal.SIGKILL)
                    killed += 1
        assert running.stderr is not None
        assert running.returncode == 0, running.stderr.read().decode()[-2000:]
    assert killed == kills
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == set()
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return train(tmp_path_factory.mktemp("unbroken") / "run")


def assert_same_bits(found: dict[str, bytes], unbroken: dict[str, bytes]) -> None:
    assert found.keys() == unbroken.keys()
    for name in ("model.safetensors", "checkpoint.safetensors", "forecast.csv", "predictions.csv", "metrics.json"):
        assert found[name] == unbroken[name], name


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads the processes' children from Linux's /proc")
def test_a_killed_worker_changes_no_bit_of_the_run(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    assert_same_bits(train(tmp_path / "run", kills=2), unbroken)


@pytest.mark.slow
def test_ctrl_c_stops_every_rank_after_one_epoch(unbroken: dict[str, bytes], tmp_path: Path) -> None:
    out = tmp_path / "run"
    with subprocess.Popen(command(out), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        while not (out / "checkpoint.safetensors").exists():
            time.sleep(0.02)
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        said, error = (text.decode() for text in running.communicate(timeout=60))
    assert said.count("Stopped after epoch") == 1
    assert "torchrun --standalone --nproc-per-node 2 -m retrograd fit sunspots" in said
    assert "retrograd: " not in error
    assert "SIGKILL" not in error
    assert (out / "checkpoint.safetensors").exists()
    assert_same_bits(train(out, "--resume"), unbroken)


@pytest.mark.slow
def test_what_the_first_rank_refuses_is_said_once(tmp_path: Path) -> None:
    """Where training diverges, the others wait for the run that it writes; where it reads the table, for a plan."""
    for more, message in ((("--lr", "1e9"), "training stopped at epoch 2"), (("--inputs", "u"), "no column 'u'")):
        given = [*command(tmp_path / "run", "--overwrite", *more), "--optimizer", "sgd"]
        done = subprocess.run(given, env=ENVIRONMENT, capture_output=True, check=False, text=True)
        assert done.returncode == 1
        assert done.stderr.count("retrograd: ") == 1
        assert message in done.stderr
        assert "[rank1]: Traceback" not in done.stderr
