"""Checkpoints of a training over ranks, by torch.distributed.checkpoint: the last complete one is what is loaded.

    folder/12.part/    what the ranks are writing for step 12, each its own shards
    folder/12/         the same, whole: the first rank has renamed it once every rank had written

A rename is one operation of the file system: whoever is killed at any time leaves complete checkpoints, and at most a
``.part`` that nobody reads.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from retrograd.distributed.exchange import prefix
from retrograd.distributed.ranks import RankError, ranks_of
from retrograd.errors import require_whole

__all__ = ["Checkpoints"]


class Checkpoints:
    """The checkpoints of a training, in a folder that every rank can reach.

    A state is a dict of tensors, numbers and texts, nested as one likes: sharded tensors (FSDP2, ``DTensor``) are
    written by the ranks that hold them, and read again over any number of ranks. Every rank calls :meth:`save` and
    :meth:`load` with its own state, in one order.

    Args:
        folder: where they are kept; made if it is not there.
        group: the process group of the ranks, by default all processes; of one process none is needed.
        keep: how many of the last ones stay.

    Examples:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept, state = Checkpoints(folder), {"weight": torch.ones(2), "epoch": 7}
        ...     kept.save(state, 7)
        ...     other = {"weight": torch.zeros(2), "epoch": 0}
        ...     kept.load(other), other
        (7, {'weight': tensor([1., 1.]), 'epoch': 7})
    """

    def __init__(self, folder: str | Path, *, group: Any = None, keep: int = 2) -> None:
        self.folder, self._keep = Path(folder), require_whole("keep", keep)
        self._group = group
        self._ranks = ranks_of(group) if dist.is_available() and dist.is_initialized() else None
        self._first = self._ranks is None or self._ranks.rank == 0

    def steps(self) -> list[int]:
        """Return the steps whose checkpoints are complete, increasing."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir())

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write a state as that of a step; it counts once every rank has written its part.

        Raises:
            RankError: a rank is lost, or saves another step; what was complete stays so.
        """
        from torch.distributed.checkpoint.state_dict_saver import save

        step = require_whole("step", step, 0)
        part = self.folder / f"{step}.part"
        if self._first:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob("*.part"):  # of a training that was killed
                shutil.rmtree(left)
        self._meet(f"distributed checkpoint of step {step}, before it is written")
        self._run(save, step, state, part)
        self._meet(f"distributed checkpoint of step {step}, after it was written")
        if self._first:
            _settled(part)
            shutil.rmtree(self.folder / str(step), ignore_errors=True)
            os.replace(part, self.folder / str(step))
            _settled(self.folder)
            for old in self.steps()[: -self._keep]:
                shutil.rmtree(self.folder / str(old))
        self._meet(f"distributed checkpoint of step {step}, after it was named")

    def load(self, state: dict[str, Any]) -> int | None:
        """Read the last complete checkpoint into a state of the same kind, in place; return its step, if there is one.

        torch keeps a part of it as pickle: load only what you trust.

        Raises:
            RankError: a rank is lost, or sees another checkpoint as the last.
        """
        from torch.distributed.checkpoint.state_dict_loader import load

        steps = self.steps()
        last = steps[-1] if steps else None
        self._meet(f"distributed checkpoint, to be loaded: {'none' if last is None else f'step {last}'}")
        if last is None:
            return None
        self._run(load, last, state, self.folder / str(last))
        return last

    def _run(self, work: Callable[..., Any], step: int, state: dict[str, Any], folder: Path) -> None:
        """Have torch save or load; what goes wrong there on another rank is a :class:`RankError` here."""
        from torch.distributed.checkpoint.api import CheckpointException

        alone = self._ranks is None
        try:
            with warnings.catch_warnings():
                if alone:  # torch says so, each time
                    warnings.simplefilter("ignore", UserWarning)
                work(state, checkpoint_id=folder, process_group=self._group, no_dist=alone)
        except (RuntimeError, CheckpointException) as error:
            if alone:
                raise
            raise RankError(f"distributed checkpoint of step {step}: {_line(error)}") from error

    def _meet(self, what: str) -> None:
        """Wait for all ranks, and see that they do the same."""
        if self._ranks is not None:
            prefix(self._ranks, what, [0.0])


def _settled(folder: Path) -> None:
    """Have the names in a folder reach the disk."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"
