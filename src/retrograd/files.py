"""Files that are whole: one file by a rename, a folder of files by one commit.

A folder's new files are written into :data:`STAGED` beside the old ones. One rename, that of :data:`COMMIT`, the list
of their SHA-256 digests, makes them the folder's; only then are they moved into place, one by one. Whoever opens the
folder next finishes a move that was cut short (:func:`settle`), and whoever writes next sweeps what was never
committed: at any moment the folder is the old one or the new one.

A lock keeps a second writer out. It is the kernel's (``flock``): a process that ends, in whatever way, gives it up.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from retrograd.errors import InputError

__all__ = ["digest_of", "replaced_together", "settle", "sole_writer", "write_whole"]

# What a writer that was killed may leave: nobody else's files have this ending.
_ENDING = ".retrograd"
STAGED, COMMIT = f".staged{_ENDING}", f"commit{_ENDING}"
# Seconds that a reader waits for a writer to move its files into place.
PATIENCE = 10.0


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; whoever reads ``path`` sees the old file or the new one, never a part.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.txt", b"whole")
    ...     (Path(folder) / "a.txt").read_bytes()
    b'whole'
    """
    with suppress(OSError):
        _sweep(path.parent, f".{path.name}.")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_ENDING)
    try:
        with os.fdopen(handle, "wb") as file:
            _lock(file.fileno())  # until it is renamed, nobody takes it for a stray one
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # mkstemp makes files private; a result has the permissions that any new file would get.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
            os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other writers out of a folder, which is made if it is not there; what a killed one left is cleared away.

    A folder that was made here and stays empty is taken away again.

    Raises:
        InputError: another process writes there, or the folder cannot be written.
    """
    made: list[Path] = []
    handle = -1
    try:
        with _said_of(folder):
            handle = _hold(folder, made)
            _roll_forward(folder)
            _sweep(folder)
        yield
    finally:
        if handle >= 0:
            for path in made[::-1]:
                with suppress(OSError):  # it is not empty
                    path.rmdir()
            os.close(handle)


@contextmanager
def replaced_together(folder: Path, *, removed: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder to write files into; at the end of ``with`` all of them take their places in ``folder`` at once.

    To be used by the :func:`sole_writer`. If anything is raised, ``folder`` stays what it was.

    Args:
        folder: that will hold the files.
        removed: names of files there that go.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     folder = Path(name)
    ...     with sole_writer(folder), replaced_together(folder) as new:
    ...         write_whole(new / "a.txt", b"a")
    ...         write_whole(new / "b.txt", b"b")
    ...     sorted(path.name for path in folder.iterdir())
    ['a.txt', 'b.txt']
    """
    staged = folder / STAGED
    with _said_of(folder):
        try:
            staged.mkdir()
            yield staged
            digests = {path.name: digest_of(path.read_bytes()) for path in sorted(staged.iterdir())}
            record = {"files": digests, "removed": sorted(set(removed) - set(digests))}
            write_whole(staged / COMMIT, json.dumps(record).encode())
            _sync(staged)
        except BaseException:
            # Interrupted right after the rename, it is committed.
            if not (staged / COMMIT).exists():
                shutil.rmtree(staged, ignore_errors=True)
            raise
        _roll_forward(folder)


def settle(folder: Path) -> None:
    """Finish the move of committed files into place, if one was cut short; to be called before a folder is read.

    Raises:
        InputError: what is there cannot be moved, or is damaged.
    """
    until = time.monotonic() + PATIENCE
    while (folder / STAGED / COMMIT).exists():
        try:
            handle = os.open(folder, os.O_RDONLY)
            try:
                if _lock(handle):
                    _roll_forward(folder)
                    return
            finally:
                os.close(handle)
        except OSError as error:
            raise InputError(
                f"the last run of {folder} was cut short when it was done, and cannot be moved into place: "
                f"{error.strerror or error}"
            ) from None
        if time.monotonic() > until:
            raise InputError(f"folder {folder} is being written by another process: wait until it is done")
        time.sleep(0.02)


def digest_of(content: bytes) -> str:
    """Return the SHA-256 digest of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _roll_forward(folder: Path) -> None:
    """Move committed files into place. What was moved before an interruption is seen by its digest."""
    staged = folder / STAGED
    marker = staged / COMMIT
    if not marker.exists():
        return
    damaged = InputError(f"folder {folder} is not whole: {STAGED} in it is damaged; remove that, and fit again")
    try:
        record = json.loads(marker.read_bytes())
        digests, removed = dict(record["files"]), list(record["removed"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise damaged from None
    for name in (*digests, *removed):
        if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
            raise damaged
    # Everything is looked at before anything is moved.
    for name, digest in digests.items():
        found = staged / name if (staged / name).exists() else folder / name
        if not found.is_file() or digest_of(found.read_bytes()) != digest:
            raise damaged
    for name in digests:
        with suppress(FileNotFoundError):
            os.replace(staged / name, folder / name)
    for name in removed:
        (folder / name).unlink(missing_ok=True)
    _sync(folder)
    marker.unlink()
    shutil.rmtree(staged, ignore_errors=True)


def _sweep(folder: Path, beginning: str = ".") -> None:
    """Take away what writers left that were killed: their temporary files, and what they never committed."""
    for name in os.listdir(folder):
        if not (name.startswith(beginning) and name.endswith(_ENDING)):
            continue
        path = folder / name
        if path.is_dir():
            if name == STAGED and beginning == ".":
                shutil.rmtree(path)
            continue
        with suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY)
            try:
                if _lock(handle):
                    os.unlink(path)
            finally:
                os.close(handle)


def _hold(folder: Path, made: list[Path]) -> int:
    """Return the handle of a folder whose lock was taken; note the folders that had to be made, outermost first.

    Raises:
        InputError: another process has the lock.
    """
    while True:
        made += [path for path in (folder, *folder.parents) if not path.exists()][::-1]
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
        if not _lock(handle):
            os.close(handle)
            raise InputError(
                f"folder {folder} is being written by another process: wait until it is done, or take another folder",
                "folder",
            )
        # Another writer may have taken its empty folder away in between.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(folder)):
                return handle
        os.close(handle)


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Raise what the system says as :class:`InputError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"folder {folder} cannot be written: {reason}", "folder") from None


def _lock(handle: int) -> bool:
    """Take the lock of an open file or folder, and return whether nobody else has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _sync(folder: Path) -> None:
    """Bring a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some file systems have no such thing
            os.fsync(handle)
    finally:
        os.close(handle)
