"""Every number on docs/gallery.md is one that an example found: the page against figures.json."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from gallery import NAMES, PICTURES, ROOT

PAGE = (ROOT / "docs" / "gallery.md").read_text()
SHOWN = "images/gallery"


def written(number: float) -> str:
    """Return a whole number as the page writes it."""
    return f"{number:,.0f}"


# By example: what the page says, each with its numbers from figures.json (f) and from the script (m); where a number is
# rounded down to be safe, with the condition that makes it true.
CLAIMS: dict[str, Callable[[dict[str, float], Any], list[str | tuple[str, bool]]]] = {
    "airline": lambda f, m: [
        "the months of 1949 to 1958",
        f"the next {m.HELD_OUT}",
        f"error is {f['error']:.1f} (thousand",
        f"repeating the last year {f['error of the seasonal naive']:.1f}",
        f"{100 * (1 - f['error'] / f['error of the seasonal naive']):.0f} % less",
        *(f"{f[f'in {100 * level:g} %']:.0f} % " for level in m.LEVELS),
        *(f"the {100 * level:g} % " for level in m.LEVELS),
    ],
    "cosine": lambda f, m: [
        f"in the end only the first {m.GIVEN} (blue)",
        f"Trained on {m.STEPS} steps (white)",
        ("within 0.001 of the truth", f["within"] < 0.001 and f["beyond"] < 0.001),
        f"over the next {m.BEYOND} (grey)",
        f"period of {f['period']:.3f} steps",
        f"From {f['arrived']:.0f} of {f['seeds']:.0f} starts the free run ends within {m.GOOD:g} of the truth",
        f"closed from the beginning, from {f['arrived, closed at once']:.0f}",
        "`x_{t+1} = y_t`",
    ],
    "random_walk": lambda f, m: [
        "`y_t = y_{t−1} + drift + noise`",
        f"on {written(m.STEPS)} steps",
        f"({f['error one step ahead']:.3f} of {m.NOISE:g})",
        ("has to learn the eigenvalue 1", abs(f["smallest eigenvalue"] - 1) < 2e-3),
        f"Over {f['walks']:.0f} walks, its forecast {m.HORIZON} steps ahead",
        f"is off the best one by {f['off, learned']:.1f} (root",
        f"the noise to come makes {f['noise ahead']:.1f} of any",
        f"against {f['off, last value + mean step']:.1f} for the last value",
        f"only the drift learned, it is {f['off, eigenvalue 1 given']:.1f} too",
        "The 95 % intervals",
        f"at {m.HORIZON} steps they hold {f['covered, learned']:.0f} % of true continuations",
        f"in the worst of the walks {f['least covered, learned']:.0f} %",
        f"given {f['covered, eigenvalue 1 given']:.0f} % and {f['least covered, eigenvalue 1 given']:.0f} %",
    ],
    "vanishing_exploding": lambda f, m: [
        f"for {m.STEPS} steps of noise",
        (f"radius of {m.RADII[0]}, less than a 10⁻⁹th of the gradient arrives", f["arrives of 0.9"] < 1e-9),
        (f"with {m.RADII[1]}, some 10⁸ times", 0.3e8 < f["arrives of 1.1"] < 3e8),
        f"Of {f['seeds']:.0f} starts",
        (f"none learns it (a mean squared error below {m.LEARNED:g})", f["learned, 0.9 W"] + f["learned, 1.1 W"] == 0),
        f"vanished ({f['learned, 0.9 W, cut']:.0f} learn); where it explodes, {f['learned, 1.1 W, cut']:.0f} learn",
        ("is healthy in every case", f["scaled and healthy"] == 2 * f["seeds"]),
        f"yet {f['learned, 0.9 W × s']:.0f} learn where it vanished",
        f"and {f['learned, 1.1 W × s']:.0f} where it exploded",
        f"(with cutting, {f['learned, 0.9 W × s, cut']:.0f} and {f['learned, 1.1 W × s, cut']:.0f})",
        (
            f"all {f['seeds']:.0f} learn, from either radius, with cutting and without",
            all(f[f"learned, {r:g} orthogonal{cut}"] == f["seeds"] for r in m.RADII for cut in ("", ", cut")),
        ),
        f"(between {f['least threshold']:.1f} and {f['largest threshold']:.1f})",
        ("above 10¹⁴", f["least threshold, exploding"] > 1e14),
    ],
    "truncation_bias": lambda f, m: [
        f"`1 / (1 − λ)` = {f['best memory']:.0f} steps, a mean of {f['data sets']:.0f} data sets",
        f"stops at {f['memory, k = 1']:.0f} steps for k = 1, {f['memory, k = 8']:.0f} for k = 8",
        f"and {f['memory, k = 16']:.0f} for k = 16",
    ],
    "binary_addition": lambda f, m: [
        "`c_t = p_t c_{t−1} + g_t`",
        f"sums of numbers of {m.BITS} bits",
        f"keeps {f['p of 10']:.2f} of a carry",
        f"here {f['v of 10']:.2f}, whether it was a 1 (`11…1 + 1`) or none (`11…1 + 0`)",
        "along `11…1`",
        ("one of the two sums goes wrong. Here it is the first", f["soft, + 1"] > f["soft, + 0"] == 0),
        f"right at {f['last right length']:.0f} bits",
        f"wrong at {m.LENGTHS[m.LENGTHS.index(f['last right length']) + 1]}",
        f"at {written(m.LENGTHS[-1])} {100 * max(f['soft, + 1'], f['soft, + 0']):.0f} % of its bits are",
        "Rounded to the 0 and 1 that they have learned",
        f"from {f['exact adders']:.0f} of {f['seeds']:.0f} seeds",
        f"on {written(m.PAIRS)} random pairs of {written(m.LENGTHS[-1])} bits: {f['rounded, random']:.0f} wrong",
    ],
    "chirp": lambda f, m: [
        "`h_t = a_t h_{t−1} + x_t`",
        "`α + β (t/N − 1)`",
        f"ends {f['short of the matched filter, dB']:.2f} dB short",
        f"After 150 epochs it is {f['short after 150 epochs, dB']:.2f} dB short",
        f"by {f['turned after 150 epochs']:.0f} degrees",
        f"up to 0.37 cycles a step from {f['found, end 0.37']:.0f} of {f['starts']:.0f} starts",
        f"at 0.42 from {f['found, end 0.42']:.0f}.",
    ],
}


@pytest.mark.parametrize("name", NAMES)
def test_every_number_on_the_page_is_what_the_script_found(example: Any, name: str) -> None:
    section = next(
        part for part in PAGE.split("\n## ") if f"`examples/{name}.py" in part and f"({SHOWN}/{name}.png)" in part
    )
    # Its text, without title and picture; the claims taken out, no digit may be left.
    text = " ".join(section.split("\n", 3)[3].split())
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    figures = json.loads((PICTURES / "figures.json").read_text())[name]
    for claim in CLAIMS[name](figures, example(name)):
        claimed, true = (claim, True) if isinstance(claim, str) else claim
        assert true, claimed
        assert claimed in text, claimed
        text = text.replace(claimed, " ")
    assert not re.search(r"k?[\d⁰¹²³⁴⁵⁶⁷⁸⁹]", text), text


def test_the_page_shows_every_example() -> None:
    made = (ROOT / "Makefile").read_text()
    assert sorted(CLAIMS) == NAMES
    assert "--overwrite" in made
    assert "--figures $(GALLERY)/figures.json" in made
    assert sorted(json.loads((PICTURES / "figures.json").read_text())) == NAMES
    for name in NAMES:
        # The picture, and itself in full size.
        assert PAGE.count(f"({SHOWN}/{name}.png)") == 2
        assert f"[`examples/{name}.py`](../examples/{name}.py)" in PAGE
        assert re.search(rf"^EXAMPLES := .*\b{name}\b", made, re.M)
