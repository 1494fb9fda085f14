"""Texts, also compressed, as the bytes that they hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from retrograd.errors import InputError

__all__ = ["DAMAGED", "PACKED", "Counted", "opened"]

PACKED = (".gz", ".bz2", ".xz", ".zip")
# What reading a damaged file raises.
DAMAGED = (ValueError, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, KeyError, OverflowError)

# Bytes of text that are read at most.
_MOST_BYTES = 4 << 30


class Counted(io.RawIOBase):
    """Bytes of a text as they are read: counted, so that progress can be told and a bomb stops."""

    def __init__(self, file: IO[bytes], size: int, progress: Callable[[float], None] | None) -> None:
        self._file, self._size, self._progress = file, max(size, 1), progress
        self._read = 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes; raise where they are too many."""
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        if self._read > _MOST_BYTES:
            raise InputError(f"the text is longer than {_MOST_BYTES >> 30} GiB unpacked: split it")
        return len(data)

    def report(self) -> None:
        """Tell the part that has been read; of packed text, which unpacks to an unknown length, nothing."""
        if self._progress is not None and self._read <= self._size:
            self._progress(self._read / self._size)


def opened(path: Path) -> Any:
    """Open a text, unpacked as its name says."""
    openers: dict[str, Callable[[Any], Any]] = {
        ".gz": gzip.GzipFile,
        ".bz2": bz2.BZ2File,
        ".xz": lzma.LZMAFile,
        ".zip": _only_member,
    }
    opener = openers.get(path.suffixes[-1].lower())
    return path.open("rb") if opener is None else opener(path)


def _only_member(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    members = [info for info in archive.infolist() if not info.is_dir()]
    if len(members) != 1:
        raise InputError(f"{path} holds {len(members)} files, expected one table: unpack it, and name one")
    return archive.open(members[0])
