"""The smallest case of the lesson: one state, one weight, three steps, with numbers to check in the head."""

from __future__ import annotations

import numpy as np

from retrograd.report.explain.blocks import number
from retrograd.report.explain.lesson import Lesson
from retrograd.report.explain.tables import INDENT, Line
from retrograd.report.explain.texts import Texts

__all__ = ["smallest"]

# Learning rate of the update, and how far w is moved to check its slope.
RATE, MOVED = 0.05, 0.1


def smallest(texts: Texts) -> list[Line]:
    """Return the case as text: forward, back, the sum, the update, the check.

    Args:
        texts: the language.

    Examples:
        >>> from retrograd.report.explain.texts import LANGUAGES
        >>> print(smallest(LANGUAGES["en"])[6].text)
          ∂L/∂w = δ_3 h_2 + δ_2 h_1 + δ_1 h_0
                = 1 · 1 + 0.5 · 2 + 0.25 · 0 = 2
    """
    arrays = {"x": np.array([[2.0], [0.0], [0.0]]), "weight_hh": np.array([[0.5]]), "weight_ih": np.array([[1.0]])}
    lesson = Lesson.of_arrays(arrays, "smallest", learning_rate=RATE)
    walk = lesson.walk()
    h, before, delta = walk.states[:, 0], walk.previous[:, 0], walk.delta[:, 0]
    x, w, slope = lesson.x[0, 0], float(lesson.weight_hh[0, 0]), float(walk.gradients["weight_hh"][0, 0])
    after = float(w - RATE * slope)
    losses = [(w + sign * MOVED) ** 2 * x for sign in (1, -1)]
    forward = [f"h_1 = x_1 = {number(h[0])}"]
    forward += [f"h_{t} = w h_{t - 1} = {number(w)} · {number(before[t - 1])} = {number(h[t - 1])}" for t in (2, 3)]
    forward[-1] += " = L"
    back = [f"δ_3 = {number(delta[2])}"]
    back += [f"δ_{t} = w δ_{t + 1} = {number(w)} · {number(delta[t])} = {number(delta[t - 1])}" for t in (2, 1)]
    terms = " + ".join(f"{number(delta[t])} · {number(before[t])}" for t in (2, 1, 0))
    total = ["∂L/∂w = δ_3 h_2 + δ_2 h_1 + δ_1 h_0", f"      = {terms} = {number(slope)}"]
    update = [f"w ← {number(w)} − {number(RATE)} · {number(slope)} = {number(after)}"]
    update.append(f"L = {number(after)} · {number(after)} · {number(x)} = {number(after * after * x)}")
    gap = 2 * MOVED
    check = [
        f"(L({number(w + MOVED)}) − L({number(w - MOVED)})) / {number(gap)}",
        f"= ({number(losses[0])} − {number(losses[1])}) / {number(gap)} = {number((losses[0] - losses[1]) / gap)}",
    ]
    parts = (
        (texts.smallest_note, forward),
        (texts.smallest_back, back),
        (texts.smallest_sum, total),
        (texts.smallest_update, update),
        (texts.smallest_check, check),
    )
    found = [Line("heading", texts.smallest)]
    for words, formulas in parts:
        found += [Line("prose", words), Line("formula", "\n".join(INDENT + line for line in formulas))]
    return [*found, Line("prose", texts.smallest_end)]
