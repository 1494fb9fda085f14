"""What the examples share: their options, how their pictures look, and where what they found goes."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from PIL import Image

SUFFIXES = (".png", ".svg", ".pdf")
STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.grid": True,
    "grid.color": "#e3e3e0",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}
# What shades a part of the time axis, and what stands behind the subject.
SHADE, GREY = "#eeeeea", "#8c8c86"


def arguments(
    description: str,
    name: str,
    seed: int = 0,
    values: Mapping[str, tuple[Any, list[str] | None, str]] | None = None,
    **options: str,
) -> argparse.Namespace:
    """Read ``--out``, ``--seed`` and the like, and further switches given by name with their help.

    ``values`` are further options that take one: the default, what is allowed (None: anything) and the help.

    What would stop the writing in the end stops here, before the work.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(name), help=f"where the picture goes (default: {name})")
    parser.add_argument("--seed", type=int, default=seed, help=f"of all that is random (default: {seed})")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--figures", type=Path, help="a JSON file that gets what was found, among that of others")
    for option, text in options.items():
        parser.add_argument(f"--{option}", action="store_true", help=text)
    for option, (default, allowed, text) in (values or {}).items():
        shown = text if default is None else f"{text} (default: {default})"
        parser.add_argument(f"--{option}", default=default, choices=allowed, help=shown)
    wanted = parser.parse_args()
    written = [wanted.out, *([wanted.out.with_suffix(".gif")] if options.get("gif") and wanted.gif else [])]
    for out in written:
        if why := _why_not(out, (*SUFFIXES, ".gif") if out != wanted.out else SUFFIXES, wanted.overwrite):
            parser.error(why)
    return wanted


def _why_not(out: Path, suffixes: tuple[str, ...], overwrite: bool) -> str | None:
    """Return why a file cannot be written, if it cannot."""
    if out.suffix not in suffixes:
        return f"{out}: expected a name that ends in {', '.join(suffixes[:-1])} or {suffixes[-1]}"
    if out.is_dir():
        return f"{out} is a folder; expected a file"
    if out.exists() and not overwrite:
        return f"{out} exists; --overwrite replaces it"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Whoever may do all still cannot write everywhere: so write.
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        return f"{out} cannot be written: {error.strerror}"
    return None if not out.exists() or os.access(out, os.W_OK) else f"{out} cannot be written"


def figure(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (9.0, 3.6), **options: Any) -> Any:
    """Return a figure and its axes in the examples' style."""
    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=size, **options)


def save(drawn: Any, out: Path) -> None:
    """Write a figure in the format that the name says; a PNG in 256 colours: lines need no more."""
    drawn.savefig(out)
    plt.close(drawn)
    if out.suffix == ".png":
        with Image.open(out) as picture:
            small = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        small.save(out, optimize=True)
    print(f"Written: {out}")


def note(numbers: Mapping[str, float], wanted: argparse.Namespace) -> None:
    """Print what was found, and add it to the file of ``--figures`` under the example's name."""
    for name, value in numbers.items():
        print(f"{name}: {value:.4g}")
    if wanted.figures is not None:
        held = json.loads(wanted.figures.read_text()) if wanted.figures.exists() else {}
        # Four digits: of what a machine computes, more are its own.
        held[wanted.out.stem] = {name: float(f"{value:.4g}") for name, value in numbers.items()}
        wanted.figures.write_text(json.dumps(held, indent=2, sort_keys=True) + "\n")


def has_display() -> bool:
    """Whether matplotlib can open a window."""
    return matplotlib.get_backend().lower() not in ("agg", "pdf", "svg", "ps", "cairo", "template")
