"""The machine that a result was measured on, and result files, which are written from a clean commit alone."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from retrograd.files import write_whole

ROOT = Path(__file__).parent.parent
# What the commands of this folder write themselves: one after another can run on the same commit.
WRITTEN = ("benchmarks/results", "docs", "README.md", "README.zh-CN.md")


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip("\n")


def changes() -> list[str]:
    """Return the files that differ from the commit, without what the commands themselves write."""
    excluded = (f":(exclude){path}" for path in WRITTEN)
    return [line[3:] for line in git("status", "--porcelain", "--no-renames", "--", ".", *excluded).splitlines()]


def require_clean() -> None:
    """Stop unless the files are those of a commit: figures that no commit reproduces are none."""
    if changed := changes():
        raise SystemExit(
            f"changed since the last commit: {', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''}; "
            "commit first, or measure without writing results (--dry-run)"
        )


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the case: the machine, the versions and the commit."""
    from retrograd import _native  # not above: a GPU is measured without it

    cpu = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": _native.isa(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": git("rev-parse", "--short", "HEAD") + ("-dirty" if changes() else ""),
    }


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that every command here has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--dry-run", action="store_true", help="measure and print; write nothing (any tree may do so)")
    return made


def write(path: Path, results: dict[str, Any]) -> None:
    """Write ``results``, which hold ``machine()`` of the run's beginning, unless the tree has changed since."""
    require_clean()
    if results["machine"]["commit"] != machine()["commit"]:
        raise SystemExit(f"measured at {results['machine']['commit']}, and now it is {machine()['commit']}: run again")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(results, indent=1, ensure_ascii=False) + "\n").encode())
    print(f"written to {path}")
