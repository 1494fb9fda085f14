"""What the examples share: how their pictures look, and where they go."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from PIL import Image

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


def arguments(description: str, name: str, **options: Any) -> argparse.Namespace:
    """Read ``--out``, and further switches given by name with their help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(name), help=f"where the picture goes (default: {name})")
    for option, text in options.items():
        parser.add_argument(f"--{option}", action="store_true", help=text)
    return parser.parse_args()


def figure(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (9.0, 3.6), **options: Any) -> Any:
    """Return a figure and its axes in the examples' style."""
    plt.rcParams.update(STYLE)
    return plt.subplots(rows, columns, figsize=size, **options)


def save(drawn: Any, out: Path) -> None:
    """Write a figure as PNG of 256 colours: a picture of lines needs no more."""
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    plt.close(drawn)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, format="png", optimize=True)
    print(f"Written: {out}")


def has_display() -> bool:
    """Whether matplotlib can open a window."""
    return matplotlib.get_backend().lower() not in ("agg", "pdf", "svg", "ps", "cairo", "template")
