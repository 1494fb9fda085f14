"""The training of one model over ranks that torchrun has started: of one series' time, or of many series."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
import typer
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from retrograd.distributed import RankError

__all__ = ["Joined", "joined"]

# Who trains in the run folder: torchrun starts all ranks again under the same name, and those go on.
MARK = ".torchrun"
# Seconds after which a rank that says nothing counts as lost.
LOST = 600.0


class Joined:
    """The ranks of one training, seen from this one.

    Attributes:
        group: as :func:`retrograd.distributed.scan` takes it.
        first: whether this rank writes the run folder.
    """

    def __init__(self) -> None:
        group = dist.group.WORLD
        assert group is not None
        self.group, self.first = group, dist.get_rank() == 0
        # The agent lives on while its workers are started again; of another node's workers the first rank's word holds.
        self._name = f"{os.environ.get('TORCHELASTIC_RUN_ID', '')} {os.getppid()}"

    def plan(self, out: Path, checkpoint: Path, resume: bool, overwrite: bool) -> tuple[bool, bool]:
        """Return whether to resume and whether to overwrite, as the first rank sees it.

        A training that torchrun starts again after a rank was lost goes on from its checkpoint, whatever was asked for.
        """
        found = [resume, overwrite]
        mark = out / MARK
        if self.first and mark.is_file() and mark.read_text() == self._name:
            found = [checkpoint.is_file(), not checkpoint.is_file()]
        dist.broadcast_object_list(found, 0)
        return found[0], found[1]

    def begin(self, out: Path) -> None:
        """Note in the run folder that this training writes it."""
        (out / MARK).write_text(self._name)

    def wait(self) -> None:
        """Wait for the first rank, which writes what there is to write."""
        dist.barrier()

    def end(self, out: Path) -> None:
        """Wait for the first rank, which writes the results, and take the note away."""
        self.wait()
        if self.first:
            (out / MARK).unlink(missing_ok=True)


@contextmanager
def joined(count: int) -> Iterator[Joined]:
    """Join the ranks, so many; one that is lost ends the others with one line."""
    # Workers that torchrun starts again may meet the addresses of those before them: each start has its own names.
    store, rank, _ = next(rendezvous("env://", timeout=timedelta(seconds=LOST)))
    own = PrefixStore(f"retrograd {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("gloo", store=own, rank=rank, world_size=count, timeout=timedelta(seconds=LOST))
    try:
        yield Joined()
    except RankError as error:
        print(f"retrograd: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    dist.destroy_process_group()
