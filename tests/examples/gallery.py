"""Where the examples and their pictures are, and what every picture of theirs must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PICTURES = ROOT / "docs" / "images" / "gallery"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "pictures")


def draws(module: Any, result: Any, out: Path, expected: list[tuple[str, str, str, str]]) -> Any:
    """The picture is made, with the labels and scales that its subject wants; return its axes."""
    drawn = module.draw(result)
    axes = drawn.axes
    found = [(one.get_xlabel(), one.get_ylabel(), one.get_xscale(), one.get_yscale()) for one in axes]
    assert found == expected
    module.pictures.save(drawn, out)
    assert 10_000 < out.stat().st_size < 150_000
    with Image.open(out) as made, Image.open(PICTURES / out.name) as shown:
        assert made.format == "PNG"
        # What the page shows is this picture, whatever its numbers: as large, and as much of it drawn on.
        assert shown.size == made.size
        inks = [1 - np.asarray(picture.convert("L")).mean() / 255 for picture in (made, shown)]
        assert inks[0] == pytest.approx(inks[1], abs=0.05)
        assert inks[1] > 0.01
    return axes


def lines(axis: Any) -> dict[str, Any]:
    """Return an axis' curves by label."""
    return {line.get_label(): line for line in axis.lines}
