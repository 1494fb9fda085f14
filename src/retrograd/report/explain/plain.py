"""The lesson as plain text: each step's formula with the numbers put in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrograd.report.explain.blocks import Block, matrix, number, set_side_by_side, word
from retrograd.report.explain.lesson import Difference, Lesson, Walk
from retrograd.report.explain.texts import Texts, fill

__all__ = ["LETTERS", "Line", "tell"]

Array = np.ndarray[Any, Any]

LETTERS = {
    "weight_hh": "W_hh",
    "weight_ih": "W_ih",
    "bias": "b",
    "weight_out": "C",
    "bias_out": "c",
    "h0": "h_0",
    "x": "x",
}
INDENT = "  "
PLUS, EQUALS = word("+"), word("=")


@dataclass(frozen=True)
class Line:
    """A piece of the text: ``"heading"``, ``"prose"`` (to be wrapped), or ``"formula"``, lines as they are."""

    kind: str
    text: str = ""


def tell(lesson: Lesson, walk: Walk, differences: Sequence[Difference], texts: Texts, width: int = 80) -> list[Line]:
    """Return the four steps and their check, formulas broken at ``width`` characters where they can be.

    Examples:
        >>> from retrograd.report.explain.texts import LANGUAGES
        >>> lesson = Lesson.example()
        >>> lines = tell(lesson, lesson.walk(), [], LANGUAGES["en"])
        >>> print(*[line.text for line in lines if line.text.startswith("  δ_5")])
          δ_5 = g_5 = ⎡1⎤
                      ⎣1⎦
    """
    return list(_Teller(lesson, walk, differences, texts, width).lines())


class _Teller:
    def __init__(self, lesson: Lesson, walk: Walk, differences: Sequence[Difference], texts: Texts, width: int) -> None:
        self.lesson, self.walk, self.texts, self.width = lesson, walk, texts, width
        self.differences = differences
        self.steps = len(lesson.x)
        # How many inputs an output takes the place of.
        self.outputs = 0 if lesson.weight_out is None else len(lesson.weight_out)

    def lines(self) -> Iterator[Line]:
        yield Line("heading", self.texts.title)
        yield from self.question()
        if not np.isfinite(self.walk.loss) or not all(np.isfinite(g).all() for g in self.walk.gradients.values()):
            yield Line("prose", self.texts.overflow)
        for part in (self.forward, self.loss, self.initialise, self.propagate, self.accumulate, self.lags, self.update):
            yield from part()
        if self.differences:
            yield from self.check()

    def question(self) -> Iterator[Line]:
        lesson, texts = self.lesson, self.texts
        yield Line("prose", texts.network)
        yield Line("formula", f"{INDENT}h_t = W_hh h_{{t-1}} + W_ih x_t + b")
        if lesson.weight_out is not None:
            yield Line("prose", texts.output)
            yield Line("formula", f"{INDENT}y_t = C h_t + c")
        if lesson.feedback.any():
            closed = ", ".join(str(t + 1) for t in np.flatnonzero(lesson.feedback))
            yield Line("prose", fill(texts.closed, steps=closed))
        yield Line("prose", texts.question)
        yield Line("prose", texts.rounded)

    def forward(self) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        yield Line("heading", texts.forward)
        yield Line("prose", texts.forward_note)
        yield from self.formula("h_0", [[EQUALS, matrix(lesson.h0)]])
        for k in range(self.steps):
            t = k + 1
            if lesson.feedback[k]:
                if not lesson.feedback[:k].any():
                    yield Line("prose", texts.forward_closed)
                fed = walk.inputs[k, : self.outputs]
                name = f"x_{t}" if self.outputs == lesson.x.shape[1] else f"x_{t}[1…{self.outputs}]"
                pieces = [[EQUALS, matrix(fed)]]
                if k == 0:  # what comes before the first output is nowhere else
                    assert lesson.weight_out is not None
                    assert lesson.bias_out is not None
                    before = [EQUALS, matrix(lesson.weight_out), matrix(lesson.h0)]
                    pieces = [[EQUALS, word("C h_0 + c")], before, [PLUS, matrix(lesson.bias_out)], *pieces]
                yield from self.formula(f"{name} = y_{k}", pieces)
            yield from self.formula(
                f"h_{t}",
                [
                    [EQUALS, word(f"W_hh h_{k} + W_ih x_{t} + b")],
                    [EQUALS, matrix(lesson.weight_hh), matrix(walk.previous[k])],
                    [PLUS, matrix(lesson.weight_ih), matrix(walk.inputs[k])],
                    [PLUS, matrix(lesson.bias)],
                    [EQUALS, matrix(walk.states[k])],
                ],
            )
            if lesson.weight_out is not None and walk.outputs is not None and lesson.bias_out is not None:
                yield from self.formula(
                    f"y_{t}",
                    [
                        [EQUALS, word(f"C h_{t} + c")],
                        [EQUALS, matrix(lesson.weight_out), matrix(walk.states[k])],
                        [PLUS, matrix(lesson.bias_out)],
                        [EQUALS, matrix(walk.outputs[k])],
                    ],
                )

    def loss(self) -> Iterator[Line]:
        lesson, walk = self.lesson, self.walk
        yield Line("heading", self.texts.loss)
        yield Line("prose", self.of_loss("loss"))
        if lesson.loss == "squared-error":
            assert walk.outputs is not None
            assert lesson.target is not None
            gap = walk.outputs - lesson.target
            terms = [f"({number(value)})²" for value in gap.ravel()]
            yield from self.formula("L", [[EQUALS, word("½ Σ_t ‖y_t − y*_t‖²")], *self.summed("½ (", terms, ")")])
        elif lesson.loss == "given":
            assert lesson.start is not None
            terms = [_term(float(value)) for value in (lesson.start * walk.states).sum(1)]
            yield from self.formula("L", [[EQUALS, word("Σ_t g_tᵀ h_t")], *self.summed("", terms, "")])
        else:
            last = lesson.loss == "final-state"
            terms = [_term(value) for value in (walk.states[-1:] if last else walk.states).ravel()]
            name = f"Σ_i h_{self.steps},i" if last else "Σ_t Σ_i h_t,i"
            yield from self.formula("L", [[EQUALS, word(name)], *self.summed("", terms, "")])

    def summed(self, before: str, terms: Sequence[str], after: str) -> list[list[Block]]:
        """Return the pieces of a sum of numbers and its value."""
        words = [f"{before if k == 0 else ''}{term}" for k, term in enumerate(terms)]
        words[-1] += after
        pieces = [[EQUALS if k == 0 else PLUS, word(term)] for k, term in enumerate(words)]
        return [*pieces, [EQUALS, word(number(self.walk.loss))]]

    def initialise(self) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        yield Line("heading", texts.initialise)
        yield Line("prose", texts.initialise_note)
        yield Line("prose", self.of_loss("initialise"))
        for k in reversed(range(self.steps)):
            t = k + 1
            pieces = [[EQUALS, matrix(walk.direct[k])]]
            if lesson.loss == "squared-error":
                assert lesson.weight_out is not None
                assert walk.output_gradient is not None
                assert walk.outputs is not None
                assert lesson.target is not None
                yield from self.formula(
                    f"∂L/∂y_{t}",
                    [
                        [EQUALS, word(f"y_{t} − y*_{t}")],
                        [EQUALS, matrix(walk.outputs[k]), word("−"), matrix(lesson.target[k])],
                        [EQUALS, matrix(walk.output_gradient[k])],
                    ],
                )
                back = [EQUALS, matrix(lesson.weight_out.T), matrix(walk.output_gradient[k])]
                pieces = [[EQUALS, word(f"Cᵀ ∂L/∂y_{t}")], back, *pieces]
            yield from self.formula(f"g_{t}", pieces)

    def propagate(self) -> Iterator[Line]:
        _lesson, walk, texts = self.lesson, self.walk, self.texts
        yield Line("heading", texts.propagate)
        yield Line("prose", texts.propagate_note)
        for k in reversed(range(self.steps)):
            t = k + 1
            if t == self.steps:
                yield Line("prose", texts.propagate_last)
                yield from self.formula(f"δ_{t}", [[EQUALS, word(f"g_{t}")], [EQUALS, matrix(walk.delta[k])]])
            else:
                yield from self.carried(f"δ_{t}", f"g_{t}", walk.direct[k], t, walk.delta[k])
            yield from self.of_input(k)
        yield Line("prose", texts.propagate_first)
        yield from self.carried("∂L/∂h_0", "", None, 0, walk.gradients["h0"])

    def carried(self, name: str, own: str, direct: Array | None, t: int, result: Array) -> Iterator[Line]:
        """The gradient of h_t from that of h_{t+1}, and from the input x_{t+1} that h_t made."""
        lesson, walk = self.lesson, self.walk
        symbols, pieces = [f"W_hhᵀ δ_{t + 1}"], [[EQUALS, matrix(lesson.weight_hh.T), matrix(walk.delta[t])]]
        if direct is not None:
            symbols.insert(0, own)
            pieces[0][0] = PLUS
            pieces.insert(0, [EQUALS, matrix(direct)])
        if lesson.feedback[t]:
            assert lesson.weight_out is not None
            if not lesson.feedback[t + 1 :].any():
                yield Line("prose", self.texts.propagate_closed)
            part = "" if self.outputs == lesson.x.shape[1] else f"[1…{self.outputs}]"
            symbols.append(f"Cᵀ ∂L/∂x_{t + 1}{part}")
            pieces.append([PLUS, matrix(lesson.weight_out.T), matrix(walk.input_gradient[t, : self.outputs])])
        yield from self.formula(name, [[EQUALS, word(" + ".join(symbols))], *pieces, [EQUALS, matrix(result)]])

    def of_input(self, k: int) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        # Said once of each kind, at the last step of it: the walk goes back.
        fed = lesson.feedback[k]
        if not (lesson.feedback[k + 1 :] == fed).any():
            yield Line("prose", texts.propagate_fed if fed else texts.propagate_input)
        yield from self.formula(
            f"∂L/∂x_{k + 1}",
            [
                [EQUALS, word(f"W_ihᵀ δ_{k + 1}")],
                [EQUALS, matrix(lesson.weight_ih.T), matrix(walk.delta[k])],
                [EQUALS, matrix(walk.input_gradient[k])],
            ],
        )

    def accumulate(self) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        yield Line("heading", texts.accumulate)
        yield Line("prose", texts.accumulate_note)
        steps = range(self.steps)
        pairs: dict[str, tuple[str, list[tuple[Array, Array | None]]]] = {
            "weight_hh": ("Σ_t δ_t h_{t-1}ᵀ", [(walk.delta[k], walk.previous[k]) for k in steps]),
            "weight_ih": ("Σ_t δ_t x_tᵀ", [(walk.delta[k], walk.inputs[k]) for k in steps]),
            "bias": ("Σ_t δ_t", [(walk.delta[k], None) for k in steps]),
        }
        if walk.outputs is not None and walk.output_gradient is not None:
            looked = lesson.loss == "squared-error"
            sources: list[tuple[Array, Array]] = []
            if looked:
                sources += [(walk.output_gradient[k], walk.states[k]) for k in steps]
            closed = np.flatnonzero(lesson.feedback)
            sources += [(walk.input_gradient[k, : self.outputs], walk.previous[k]) for k in closed]
            names = (["∂L/∂y_t"] if looked else []) + (["∂L/∂x_{t+1}"] if len(closed) else [])
            pairs["weight_out"] = (" + ".join(f"Σ_t {name} h_tᵀ" for name in names), list(sources))
            pairs["bias_out"] = (" + ".join(f"Σ_t {name}" for name in names), [(g, None) for g, _ in sources])
        for name, (formula, terms) in pairs.items():
            if name == "weight_out":
                yield Line("prose", texts.accumulate_output if terms else texts.accumulate_nothing)
            symbol = f"∂L/∂{LETTERS[name]}"
            if not terms:
                yield from self.formula(symbol, [[EQUALS, matrix(walk.gradients[name])]])
                continue
            pieces = [
                [EQUALS if k == 0 else PLUS, matrix(left), *([] if right is None else [matrix(right[None])])]
                for k, (left, right) in enumerate(terms)
            ]
            yield from self.formula(symbol, [[EQUALS, word(formula)], *pieces, [EQUALS, matrix(walk.gradients[name])]])

    def lags(self) -> Iterator[Line]:
        walk, texts = self.walk, self.texts
        yield Line("heading", texts.lags)
        yield Line("prose", texts.lags_note)
        by_lag, gradient = walk.lags.sum(0), walk.gradients["weight_hh"]
        squared = float((gradient**2).sum())
        rows = [[str(k), number(float(np.linalg.norm(part)))] for k, part in enumerate(by_lag)]
        for row, part in zip(rows, by_lag, strict=True):
            row.append(number(float((part * gradient).sum()) / squared) if squared > 0 else "–")
        yield from _table([texts.lag, texts.size, texts.share], rows)
        error = float(np.abs(by_lag.sum(0) - gradient).max())
        yield Line("prose", fill(texts.lags_sum, error=number(error)) if squared > 0 else texts.lags_none)

    def update(self) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        yield Line("heading", texts.update)
        yield Line("prose", fill(texts.update_note, rate=number(lesson.learning_rate)))
        for name, after in walk.updated.items():
            yield from self.formula(
                LETTERS[name],
                [
                    [word("←"), matrix(getattr(lesson, name))],
                    [word("−"), word(number(lesson.learning_rate)), matrix(walk.gradients[name])],
                    [EQUALS, matrix(after)],
                ],
            )
        before_after = fill(texts.before_after, before=number(walk.loss), after=number(walk.updated_loss))
        change = walk.updated_loss - walk.loss
        outcome = texts.level if change == 0 else texts.fell if change < 0 else texts.rose
        # Chinese sentences follow each other without a space.
        yield Line("prose", before_after + ("" if texts.tag.startswith("zh") else " ") + outcome)

    def check(self) -> Iterator[Line]:
        texts, found = self.texts, self.differences
        yield Line("heading", texts.check)
        yield Line("prose", texts.check_note)
        rows = [
            [entry(one), number(one.gradient), number(one.difference), number(abs(one.gradient - one.difference))]
            for one in found
        ]
        yield from _table([texts.entry, texts.by_backpropagation, texts.by_differences, texts.apart], rows)
        yield Line("prose", verdict(found, texts))

    def of_loss(self, what: str) -> str:
        text: str = getattr(self.texts, f"{what}_{self.lesson.loss.replace('-', '_')}")
        return text

    def formula(self, name: str, pieces: Sequence[Sequence[Block]]) -> Iterator[Line]:
        yield Line("formula", "\n".join(set_side_by_side(INDENT + name, pieces, self.width)))


def _term(value: float) -> str:
    """Return a number as it stands in a sum."""
    return f"({number(value)})" if value < 0 else number(value)


def entry(one: Difference) -> str:
    """Return the name of an entry, counted from 1: ``W_hh[1,2]``."""
    return f"{LETTERS[one.name]}[{','.join(str(i + 1) for i in one.index)}]"


def verdict(found: Sequence[Difference], texts: Texts) -> str:
    """Say whether all entries agree with their finite differences."""
    failed = [one for one in found if not one.agrees]
    apart = [abs(one.gradient - one.difference) for one in failed or found]
    said = {
        "largest": number(float(np.max(apart))),
        "allowed": number(max(one.allowed for one in failed or found)),
    }
    if failed:
        return fill(texts.disagree, count=len(failed), total=len(found), **said)
    return fill(texts.agree, count=len(found), **said)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Line]:
    """Yield a table's lines: the first column to the left, numbers to the right."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    for row in [header, *rows]:
        padded = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [row[0] + padded[0], *(space + cell for space, cell in zip(padded[1:], row[1:], strict=True))]
        yield Line("formula", INDENT + "  ".join(cells).rstrip())
