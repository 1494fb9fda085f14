"""What is left of a folder when its writer dies between any two steps: the old files or the new ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retrograd import files
from retrograd.errors import InputError
from retrograd.files import COMMIT, STAGED, replaced_together, settle, sole_writer, write_whole

OLD = {"a": b"old a", "b": b"old b", "gone": b"old"}
NEW = {"a": b"new a", "b": b"new b", "c": b"new c"}
CALLS = ("replace", "unlink", "fsync", "mkdir", "rmdir", "listdir")


class Killed(BaseException):
    pass


def held(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def write(folder: Path) -> None:
    with sole_writer(folder), replaced_together(folder, removed=["gone"]) as new:
        for name, content in NEW.items():
            write_whole(new / name, content)


def dies_at(monkeypatch: pytest.MonkeyPatch, moment: int) -> list[str]:
    """After so many calls of the system nothing is done any more, not even clearing up; return the calls made."""
    made: list[str] = []

    def counted(name: str, call: Any) -> Any:
        def counting(*arguments: Any, **named: Any) -> Any:
            if len(made) >= moment:
                raise Killed
            made.append(name)
            return call(*arguments, **named)

        return counting

    for name in CALLS:
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    monkeypatch.setattr(files.shutil, "rmtree", counted("rmtree", shutil.rmtree))
    return made


def test_a_writer_that_dies_between_any_two_steps_leaves_the_old_files_or_the_new_ones(tmp_path: Path) -> None:
    found = set()
    for moment in range(1000):
        folder = tmp_path / str(moment)
        folder.mkdir()
        for name, content in OLD.items():
            (folder / name).write_bytes(content)
        with pytest.MonkeyPatch.context() as patch:
            made = dies_at(patch, moment)
            try:
                write(folder)
                done = True
            except Killed:
                done = False
        settle(folder)
        after = held(folder)
        assert {k: v for k, v in after.items() if not k.endswith(".retrograd")} in (OLD, NEW), made
        found.add(tuple(sorted(after)))
        if done:
            break
        write(folder)  # the next writer clears away what is left
        assert held(folder) == NEW
        assert [path.name for path in folder.iterdir() if path.name not in NEW] == []
    assert moment > 10
    assert len(found) > 1


def test_what_the_disk_refuses_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in OLD.items():
        (tmp_path / name).write_bytes(content)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"^folder .* cannot be written: No space left on device$"):
        write(tmp_path)
    assert held(tmp_path) == OLD
    assert len(list(tmp_path.iterdir())) == len(OLD)


def test_a_second_writer_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from retrograd.files import sole_writer
with sole_writer(Path({str(tmp_path)!r})):
    print("in", flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"in\n"
    with pytest.raises(InputError, match=r"is being written by another process: wait until it is done"):
        write(tmp_path)
    assert held(tmp_path) == {}
    other.kill()
    other.communicate()
    write(tmp_path)
    assert held(tmp_path) == NEW


def test_a_folder_that_was_made_for_nothing_is_taken_away(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no"), sole_writer(tmp_path / "a" / "b"):
        raise InputError("no")
    assert list(tmp_path.iterdir()) == []


def test_a_stray_temporary_file_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.x1.retrograd").write_bytes(b"half")
    (tmp_path / ".mine").write_bytes(b"mine")
    write_whole(tmp_path / "a.txt", b"whole")
    assert held(tmp_path) == {"a.txt": b"whole", ".mine": b"mine"}


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"[" * 100_000,
        b'{"files": {"../a": "0"}, "removed": []}',
        b'{"files": {"a": "0"}, "removed": []}',
        b'{"files": {}, "removed": [".."]}',
        b'{"files": [1], "removed": 3}',
    ],
    ids=["empty", "deep", "outside", "another digest", "parent", "of other types"],
)
def test_a_damaged_commit_is_refused_and_nothing_is_moved(tmp_path: Path, record: bytes) -> None:
    folder = tmp_path / "run"
    (folder / STAGED).mkdir(parents=True)
    (folder / "a").write_bytes(b"old")
    (folder / STAGED / "a").write_bytes(b"new")
    (folder / STAGED / COMMIT).write_bytes(record)
    for opened in (settle, write):
        with pytest.raises(InputError, match=r"is not whole: \.staged\.retrograd in it is damaged"):
            opened(folder)
    assert held(folder) == {"a": b"old"}
