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
from retrograd.distributed.exchange import prefix, tell_failure
from retrograd.distributed.handing import told
from retrograd.distributed.ranks import ranks_of

__all__ = ["PATIENCE", "Joined", "joined"]

# Who trains in the run folder: torchrun starts all ranks again under the same name, and those go on.
MARK = ".torchrun"
# Seconds after which a rank that says nothing counts as lost.
LOST = 600.0
# For so many time limits the others wait for the first rank, which reads and checks, starts the model, and writes what
# was found: an hour or two.
PATIENCE = 12.0


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
        text = "".join("+" if one else "-" for one in found) if self.first else None
        resume, overwrite = (one == "+" for one in told(ranks_of(self.group), "fit, how it begins", text, PATIENCE))
        return resume, overwrite

    def begin(self, out: Path) -> None:
        """Note in the run folder that this training writes it."""
        (out / MARK).write_text(self._name)

    def wait(self) -> None:
        """Wait for the first rank, which writes what there is to write."""
        prefix(ranks_of(self.group), "fit, its end", [0.0], PATIENCE)

    def end(self, out: Path) -> None:
        """Wait for the first rank, which writes the results, and take the note away."""
        self.wait()
        if self.first:
            (out / MARK).unlink(missing_ok=True)


@contextmanager
def joined(count: int) -> Iterator[Joined]:
    """Join the ranks, so many; one that is lost or fails ends the others, with one line at most."""
    # Workers that torchrun starts again may meet the addresses of those before them: each start has its own names.
    store, rank, _ = next(rendezvous("env://", timeout=timedelta(seconds=LOST)))
    own = PrefixStore(f"retrograd {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group("gloo", store=own, rank=rank, world_size=count, timeout=timedelta(seconds=LOST))
    ranks = Joined()
    try:
        yield ranks
    except typer.Exit:
        raise
    except RankError as error:
        if ranks.first or not str(error).startswith("rank 0 fails"):  # which says so itself
            print(f"retrograd: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except Exception as error:
        tell_failure(ranks_of(ranks.group), "fit", error, False)
        raise
    dist.destroy_process_group()
