"""What a command writes beside a run folder: single files, whole, and its text."""

from __future__ import annotations

from pathlib import Path

from retrograd.errors import InputError
from retrograd.files import write_whole

__all__ = ["require_new_file", "say", "write_new"]


def require_new_file(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot be, or that is there and may not be replaced."""
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"--out {out} is a folder or lies in none, expected a file in a folder that exists")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists: use --overwrite to replace it, or --out to name another")


def write_new(out: Path, content: bytes) -> None:
    """Write a file, whole."""
    try:
        write_whole(out, content)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror or error}") from None


def say(line: str) -> None:
    """Print a sentence, broken between words where a terminal ends."""
    from rich.console import Console

    console = Console()
    console.print(line, soft_wrap=not console.is_terminal, markup=False, emoji=False, highlight=False)
