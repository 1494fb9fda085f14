"""The examples as commands: what they write, and what they refuse to write over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gallery import EXAMPLES, NAMES, PICTURES


@pytest.mark.slow
def test_an_example_runs_as_a_script(tmp_path: Path) -> None:
    options = ("--out", "new/walk.svg", "--seed", "100", "--figures", "figures.json")
    command = [sys.executable, str(EXAMPLES / "random_walk.py"), *options]
    environment = os.environ | {"MPLBACKEND": "agg"}
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    assert (tmp_path / "new" / "walk.svg").read_text().startswith("<?xml")
    found = json.loads((tmp_path / "figures.json").read_text())["walk"]
    committed = json.loads((PICTURES / "figures.json").read_text())["random_walk"]
    assert found.keys() == committed.keys()
    # Sixty other walks, and about the same.
    assert found["off, learned"] != committed["off, learned"]
    assert found["off, learned"] == pytest.approx(committed["off, learned"], rel=0.4)
    assert f"off, learned: {found['off, learned']:.4g}" in ran.stdout


@pytest.mark.parametrize("name", NAMES)
def test_what_would_stop_the_writing_stops_before_the_work(
    example: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = example(name)
    monkeypatch.setattr(module, "train" if name == "cosine" else "compute", lambda *_: pytest.fail("it has begun"))
    (tmp_path / "notes.png").write_text("notes")
    (tmp_path / "folder.png").mkdir()
    cases = {
        "notes.png": "exists; --overwrite replaces it",
        "folder.png": "is a folder",
        "a.jpg": "ends in .png, .svg or .pdf",
        "a": "ends in .png, .svg or .pdf",
        "notes.png/a.png": "cannot be written",
    }
    for out, why in cases.items():
        monkeypatch.setattr(sys, "argv", [name, "--out", str(tmp_path / out)])
        with pytest.raises(SystemExit) as stopped:
            module.main()
        assert stopped.value.code == 2
        assert why in capsys.readouterr().err
    assert (tmp_path / "notes.png").read_text() == "notes"


def test_an_animation_does_not_replace_one_unasked(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = example("cosine")
    (tmp_path / "a.gif").write_text("another")
    monkeypatch.setattr(sys, "argv", ["cosine", "--gif", "--out", str(tmp_path / "a.png")])
    with pytest.raises(SystemExit):
        cosine.main()
    assert "a.gif exists" in capsys.readouterr().err


def test_asked_to_an_example_overwrites(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cosine = example("cosine")
    epochs = cosine.train(3)
    monkeypatch.setattr(cosine, "train", lambda *_: epochs)
    monkeypatch.setattr(sys, "argv", ["c", "--show", "--overwrite", "--out", str(tmp_path / "a.png")])
    (tmp_path / "a.png").write_text("another")
    cosine.main()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "There is no display to open a window on" in capsys.readouterr().out
