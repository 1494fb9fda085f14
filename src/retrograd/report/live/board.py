"""What is shown right now, between one thread that trains and any number that send.

The training thread writes and never waits for a reader: an older entry is overwritten, not queued. A reader that was
slow finds the newest entries, and nothing of what it missed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Board", "Entry"]


@dataclass(frozen=True)
class Entry:
    """The newest content of one kind, and when it was put there, in puts of the whole board."""

    kind: str
    content: Any
    number: int


@dataclass
class Board:
    """Holds the newest content of every kind; readers wait for what they have not seen.

    Examples:
        >>> board = Board()
        >>> board.put("status", 1)
        >>> board.put("status", 2)
        >>> [(entry.kind, entry.content) for entry in board.newer(0, timeout=1.0)]
        [('status', 2)]
    """

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _entries: dict[str, Entry] = field(default_factory=dict)
    _puts: int = 0
    _watchers: int = 0
    _closed: bool = False

    def put(self, kind: str, content: Any) -> None:
        """Replace the content of a kind. Content is never changed after it was put."""
        with self._changed:
            self._puts += 1
            self._entries[kind] = Entry(kind, content, self._puts)
            self._changed.notify_all()

    def newer(self, seen: int, *, timeout: float) -> list[Entry]:
        """Wait for entries put after number ``seen``; return them in their order, none when the time is up.

        Once the board is closed, what is there is returned at once.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._puts > seen, timeout)
            found = [entry for entry in self._entries.values() if entry.number > seen]
        return sorted(found, key=lambda entry: entry.number)

    def join(self, most: int) -> bool:
        """Count one more watcher; refuse beyond ``most`` and on a closed board."""
        with self._changed:
            if self._watchers >= most or self._closed:
                return False
            self._watchers += 1
            self._changed.notify_all()
            return True

    def leave(self) -> None:
        """Count one watcher less."""
        with self._changed:
            self._watchers -= 1
            self._changed.notify_all()

    @property
    def watchers(self) -> int:
        """How many there are."""
        return self._watchers

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self._closed

    def wait_for_watcher(self, timeout: float) -> bool:
        """Wait until somebody watches, or the board is closed; return whether somebody does."""
        with self._changed:
            self._changed.wait_for(lambda: self._watchers > 0 or self._closed, timeout)
            return self._watchers > 0

    def close(self, timeout: float) -> bool:
        """Say that nothing more comes, and wait for the watchers to leave; return whether all did in time."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._watchers == 0, timeout)
