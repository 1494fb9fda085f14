"""Figures come from a commit, and a contender that takes far too long does not hold up the others."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks import gpu, record, scaling
from benchmarks.run import interleaved, too_slow


def commit() -> None:
    record.git("add", "-A")
    record.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a change")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, in place of this one."""
    monkeypatch.setattr(record, "ROOT", tmp_path)
    (tmp_path / "source.py").write_text("1")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("1")
    record.git("init", "-q")
    commit()
    return tmp_path


def test_results_are_written_from_a_commit_alone(tree: Path) -> None:
    result = tree / "benchmarks" / "results" / "cpu.json"
    result.parent.mkdir(parents=True)
    results = {"machine": record.machine(), "rows": [1]}
    record.write(result, results)
    assert json.loads(result.read_text()) == results
    # What the commands write themselves does not stop the next one.
    (tree / "docs" / "page.md").write_text("2")
    record.require_clean()
    (tree / "new.py").write_text("")
    with pytest.raises(SystemExit, match=r"changed since the last commit: new\.py; commit first"):
        record.write(result, results | {"rows": [2]})
    (tree / "new.py").unlink()
    (tree / "source.py").write_text("2")
    assert record.machine()["commit"].endswith("-dirty")
    with pytest.raises(SystemExit, match=r"source\.py"):
        record.require_clean()
    commit()
    with pytest.raises(SystemExit, match="run again"):
        record.write(result, results | {"rows": [2]})
    assert json.loads(result.read_text()) == results


def test_a_contender_that_takes_far_too_long_is_a_dash() -> None:
    assert too_slow({"a": 1.0, "b": 0.01, "c": 19.0}) == {}
    assert too_slow({"alone": 1.0}) == {}
    assert list(too_slow({"a": 1.0, "b": 0.01, "c": 21.0})) == ["c"]

    def endless() -> None:
        while True:
            time.sleep(0.01)

    calls = {"retrograd": lambda: None, "quick": lambda: None, "endless": endless}
    times, failures = interleaved(calls, budget=0.0, longest=0.1)
    assert list(times) == ["retrograd", "quick"]
    assert failures == {"endless": "TimeoutError: a call takes more than 0.1 s"}


def test_the_page_about_gpus_has_the_figures_of_the_result_file() -> None:
    results = json.loads(gpu.RESULTS.read_text())
    assert gpu.markdown(results) in gpu.PAGE.read_text()


def test_the_model_of_ranks_is_fitted_to_messages_and_says_where_they_cost_as_much_as_steps() -> None:
    messages = [{"bytes": size, "seconds": 1e-4 + size / 2e9} for size in (600, 5000, 4_000_000)]
    link = scaling.fitted(messages)
    assert link["latency_s"] == pytest.approx(1e-4)
    assert link["bandwidth_B_s"] == pytest.approx(2e9)
    assert [scaling.rounds(ranks) for ranks in (1, 2, 3, 4, 5, 1024)] == [0, 1, 4, 2, 5, 10]
    row = {
        "case": "a",
        "forgets": True,
        "seconds": {1: 1.0},
        "shape": [1, 1000, 4],
        "sent": {2: {"messages": 2, "bytes": 2000}},
    }
    model = scaling.carried_on(row, link)
    assert model["half_at"]["1000"] == 1024  # 1 / 1024 s of steps, 20 messages of 0.1 ms
    assert model["half_at"][str(scaling.MOST_STEPS)] is None
