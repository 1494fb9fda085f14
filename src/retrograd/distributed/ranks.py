"""What a sharded scan needs of the ranks that take part: one message to one of them, one from another, in a time limit.

:class:`GroupRanks` sends over a process group of torch.distributed, :class:`retrograd.distributed.simulated.LocalRanks`
between threads of one process. A message is a line of text, which says what the sender does, and float64 numbers. The
text comes first and has one length, so that a rank that does something else is found before its numbers are read.
"""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from retrograd.errors import require_number

__all__ = ["GroupRanks", "LostRankError", "Message", "RankError", "Ranks", "Traffic", "ranks_of", "traffic"]

# Bytes of a message before its numbers: whether it reports a failure, how many numbers follow, the text.
HEADER = 512
_COUNT = 8


class RankError(RuntimeError):
    """A rank died, hangs, or does something else than the others; the message names it and the operation."""


class LostRankError(Exception):
    """A message could not be sent to a rank or did not come from it in time."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(reason)
        self.rank, self.reason = rank, reason


class Traffic(NamedTuple):
    """What this rank's sharded scans have sent so far."""

    messages: int = 0
    bytes: int = 0


class Message(NamedTuple):
    """What one rank tells another: what it does (or what failed), and numbers."""

    text: str
    numbers: Tensor
    failed: bool = False


class Ranks(ABC):
    """The ranks that hold the stretches of one time axis, seen from one of them.

    Attributes:
        rank: this one.
        size: how many there are.
        timeout: seconds after which a rank that sends nothing counts as lost, in the operation that runs.
        sent: messages and bytes so far.
        calls: operations so far, which all ranks run in one order.
        place: of the last scan that had to know it, this rank's steps, those before it, and those of all ranks.
    """

    rank: int
    size: int

    def __init__(self, timeout: float) -> None:
        self.timeout = self.own_timeout = timeout
        self.sent, self.calls = Traffic(), 0
        self.place: tuple[int, int, int] | None = None

    def count(self, message: Message) -> None:
        """Count a message that is sent."""
        self.sent = Traffic(self.sent.messages + 1, self.sent.bytes + HEADER + message.numbers.nbytes)

    @abstractmethod
    def swap(self, to: int | None, message: Message, source: int | None, seconds: float) -> Message | None:
        """Send ``message`` to rank ``to`` and return the one from rank ``source``; None stands for no rank.

        Raises:
            LostRankError: either rank is gone, or took longer than ``seconds``.
        """

    @abstractmethod
    def finish(self, seconds: float) -> None:
        """Wait until what was sent has left."""


class GroupRanks(Ranks):
    """The ranks of a process group."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        # NCCL reads and writes a GPU's memory alone, and a send meets its receive only where both are posted at once.
        self._together = "gloo" not in str(dist.get_backend_config(group))
        self._device = torch.device("cuda", torch.cuda.current_device()) if self._together else torch.device("cpu")
        super().__init__(_timeout_of(group, self._device))
        self._leaving: list[tuple[int, Any, Tensor]] = []

    def swap(self, to: int | None, message: Message, source: int | None, seconds: float) -> Message | None:
        """Send and receive over the group."""
        header = torch.empty(HEADER, dtype=torch.uint8, device=self._device)
        out = [] if to is None else [_written(message).to(self._device), message.numbers.to(self._device)]
        if to is not None:
            self.count(message)
        if self._together:
            self._post(to, out[:1], source, header, seconds)
        else:
            self._post(to, out, source, header, seconds)
        numbers = torch.empty(0, dtype=torch.float64, device=self._device)
        text, count, failed = _read(header) if source is not None else ("", 0, False)
        if count:
            numbers = numbers.new_empty(count)
        if self._together:
            self._post(to, out[1:], source, numbers, seconds)
        else:
            self._post(None, [], source, numbers, seconds)
        return None if source is None else Message(text, numbers, failed)

    def _post(self, to: int | None, out: list[Tensor], source: int | None, into: Tensor, seconds: float) -> None:
        """Start sending what is not empty, and wait for ``into``, if it is not."""
        sent = [dist.P2POp(dist.isend, x, group=self._group, group_peer=to) for x in out if x.numel()]
        received = []
        if source is not None and into.numel():
            received = [dist.P2POp(dist.irecv, into, group=self._group, group_peer=source)]
        if not sent and not received:
            return
        try:
            works = dist.batch_isend_irecv(sent + received)
        except RuntimeError as error:
            raise LostRankError(_known(source, to), _reason(error)) from error
        if self._together:
            for work in works:
                work.wait()
            return
        assert to is not None or not sent
        self._leaving += [(to or 0, work, op.tensor) for op, work in zip(sent, works, strict=False)]
        if received:
            _wait(works[-1], _known(source, to), seconds)

    def finish(self, seconds: float) -> None:
        """Wait until what was sent has left."""
        leaving, self._leaving = self._leaving, []
        for to, work, _ in leaving:
            _wait(work, to, seconds)


def _wait(work: Any, rank: int, seconds: float) -> None:
    try:
        work.wait(timedelta(seconds=max(seconds, 0.001)))
    except RuntimeError as error:
        raise LostRankError(rank, _reason(error)) from error


def _known(source: int | None, to: int | None) -> int:
    rank = to if source is None else source
    return -1 if rank is None else rank


def _reason(error: RuntimeError) -> str:
    """Return torch's first line without the place in its source, and without advice."""
    line = str(error).partition("\n")[0].partition(". This is typically")[0]
    return line.rpartition("] ")[2] if line.startswith("[") else line


def _timeout_of(group: dist.ProcessGroup, device: torch.device) -> float:
    """Return the seconds after which the group's own operations give up."""
    try:
        seconds: float = group._get_backend(device).options._timeout.total_seconds()
    except (AttributeError, RuntimeError):  # a backend that does not say
        return 1800.0
    return seconds


def _written(message: Message) -> Tensor:
    text = message.text.encode()[: HEADER - 1 - _COUNT]
    parts = bytes([message.failed]), message.numbers.numel().to_bytes(_COUNT, "little"), text
    return torch.frombuffer(bytearray(b"".join(parts).ljust(HEADER, b"\0")), dtype=torch.uint8)


def _read(header: Tensor) -> tuple[str, int, bool]:
    given = bytes(header.tolist())
    text = given[1 + _COUNT :].rstrip(b"\0").decode(errors="replace")
    return text, int.from_bytes(given[1 : 1 + _COUNT], "little"), bool(given[0])


# One object a group: it counts the calls, in which order the ranks agree.
_GROUPS: weakref.WeakKeyDictionary[Any, GroupRanks] = weakref.WeakKeyDictionary()


def ranks_of(group: Any = None, mesh: Any = None, timeout: float | None = None) -> Ranks:
    """Return the ranks of a process group, of a mesh of one dimension, or by default of all processes.

    ``timeout`` is that of the operation which asks for them; by default it is the group's own.

    Raises:
        TypeError: group or mesh is of another type.
        ValueError: both were given, the mesh has several dimensions, this process is not in the group, or there are no
            processes because ``torch.distributed`` is not initialised.
    """
    if group is not None and mesh is not None:
        raise ValueError("group and mesh were both given: they are two ways to name the ranks")
    if mesh is not None:
        if not hasattr(mesh, "get_group") or not hasattr(mesh, "ndim"):
            raise TypeError(f"mesh is {type(mesh).__name__}, expected a torch.distributed DeviceMesh")
        if mesh.ndim != 1:
            raise ValueError(f"mesh has {mesh.ndim} dimensions, expected the one of time: give mesh['time']")
        group = mesh.get_group()
    if isinstance(group, Ranks):
        found: Ranks = group
    else:
        found = _of_processes(group)
    found.timeout = found.own_timeout if timeout is None else require_number("timeout", timeout, above=0)
    return found


def _of_processes(group: Any) -> GroupRanks:
    if group is not None and not isinstance(group, dist.ProcessGroup) and group != dist.GroupMember.NON_GROUP_MEMBER:
        raise TypeError(f"group is {type(group).__name__}, expected a torch.distributed.ProcessGroup")
    if not dist.is_available() or not dist.is_initialized():
        raise ValueError(
            "torch.distributed is not initialised: start with torchrun and call init_process_group('gloo') first"
        )
    if group is None:
        group = dist.group.WORLD
    if group == dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError("this process is not in group: only the ranks that hold a stretch of the time take part")
    if group not in _GROUPS:
        _GROUPS[group] = GroupRanks(group)
    return _GROUPS[group]


def traffic(group: Any = None, mesh: Any = None) -> Traffic:
    """Return how many messages and bytes this rank's sharded scans over a group have sent so far."""
    return ranks_of(group, mesh).sent
