"""The lesson as plain text: each step's formula with the numbers put in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from retrograd.norms import norm
from retrograd.report.explain.blocks import Block, bracketed, matrix, number, set_side_by_side, word
from retrograd.report.explain.difference import Difference
from retrograd.report.explain.lesson import Lesson, Walk
from retrograd.report.explain.tables import INDENT, LETTERS, Line, check_table, lag_table
from retrograd.report.explain.texts import Texts, fill

__all__ = ["Line", "tell"]

Array = np.ndarray[Any, Any]

PLUS, EQUALS = word("+"), word("=")
TRANSITION = ("weight_hh", "weight_ih", "bias")


@np.errstate(all="ignore")  # what is not finite is said to be
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
        # Number of inputs that an output takes the place of.
        self.outputs = 0 if lesson.weight_out is None else len(lesson.weight_out)
        some = "[1]" if self.outputs == 1 else f"[1…{self.outputs}]"
        self.head = "" if self.outputs == lesson.x.shape[1] else some

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
        yield Line("prose", texts.symbols)
        if lesson.weight_out is not None:
            yield Line("prose", texts.output)
            yield Line("formula", f"{INDENT}y_t = C h_t + c")
        if lesson.feedback.any():
            closed = texts.comma.join(str(t + 1) for t in np.flatnonzero(lesson.feedback))
            yield Line("prose", fill(texts.closed, steps=closed))
        elif lesson.weight_out is not None and lesson.loss != "squared-error":
            yield Line("prose", texts.output_unused)
        yield Line("prose", texts.question)
        yield Line("prose", texts.notation)
        yield Line("prose", texts.numbers)
        yield from self.listed([(LETTERS[name], matrix(getattr(lesson, name))) for name in TRANSITION])
        if lesson.weight_out is not None and lesson.bias_out is not None:
            yield from self.listed([("C", matrix(lesson.weight_out)), ("c", matrix(lesson.bias_out))])
        yield from self.listed([("h_0", matrix(lesson.h0)), *self.given_inputs()])
        if lesson.loss == "squared-error":
            assert lesson.target is not None
            yield from self.listed([(f"y*_{k + 1}", matrix(target)) for k, target in enumerate(lesson.target)])

    def given_inputs(self) -> Iterator[tuple[str, Block]]:
        """The inputs that are used as they were given; a dash for a feature that an output takes the place of."""
        for k, given in enumerate(self.lesson.x):
            cells = ["–" if self.lesson.is_fed(k, i) else number(value) for i, value in enumerate(given)]
            if set(cells) != {"–"}:
                yield f"x_{k + 1}", bracketed([[cell] for cell in cells])

    def listed(self, named: Sequence[tuple[str, Block]]) -> Iterator[Line]:
        """Names and their values beside each other."""
        (first, block), *others = named
        pieces = [[EQUALS, block], *([word(f"  {name}"), EQUALS, one] for name, one in others)]
        yield from self.formula(first, pieces)

    def forward(self) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        yield Line("heading", texts.forward)
        yield Line("prose", texts.forward_note)
        for k in range(self.steps):
            t = k + 1
            if lesson.feedback[k]:
                if not lesson.feedback[:k].any():
                    yield Line("prose", texts.forward_closed)
                fed = walk.inputs[k, : self.outputs]
                name = f"x_{t}{self.head}"
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
        """Return the pieces of a sum of numbers and its value, once where that is all of it."""
        words = [f"{before if k == 0 else ''}{term}" for k, term in enumerate(terms)]
        words[-1] += after
        pieces = [[EQUALS if k == 0 else PLUS, word(term)] for k, term in enumerate(words)]
        return [*(pieces if len(terms) > 1 or before else []), [EQUALS, word(number(self.walk.loss))]]

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
                    f"e_{t}",
                    [
                        [EQUALS, word(f"y_{t} − y*_{t}")],
                        [EQUALS, matrix(walk.outputs[k]), word("−"), matrix(lesson.target[k])],
                        [EQUALS, matrix(walk.output_gradient[k])],
                    ],
                )
                back = [EQUALS, matrix(lesson.weight_out.T), matrix(walk.output_gradient[k])]
                pieces = [[EQUALS, word(f"Cᵀ e_{t}")], back, *pieces]
            if not self.waits(t):
                yield from self.formula(f"g_{t}", pieces)
        if self.lesson.loss == "squared-error" and self.lesson.feedback[1:].any():
            yield Line("prose", texts.initialise_waits)

    def propagate(self) -> Iterator[Line]:
        walk, texts = self.walk, self.texts
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
        if self.steps > 1:
            yield from self.sizes()

    def sizes(self) -> Iterator[Line]:
        """How δ_t shrinks or grows on the way back."""
        lesson, texts = self.lesson, self.texts
        said = [texts.propagate_powers]
        if lesson.feedback.any() and not self.head:
            said.append(texts.propagate_powers_closed)
        yield Line("prose", texts.between.join([*said, texts.propagate_sizes]))
        sizes = norm(torch.from_numpy(self.walk.delta)).tolist()
        yield from self.listed([(f"‖δ_{k + 1}‖", word(number(sizes[k]))) for k in reversed(range(self.steps))])

    def carried(self, name: str, own: str, direct: Array | None, t: int, result: Array) -> Iterator[Line]:
        """The gradient of h_t from that of h_{t+1}, and from the input x_{t+1} that y_t became."""
        lesson, walk = self.lesson, self.walk
        symbols, pieces = [f"W_hhᵀ δ_{t + 1}"], [[EQUALS, matrix(lesson.weight_hh.T), matrix(walk.delta[t])]]
        # In ∂L/∂y_t the error e_t is already there, of which g_t is what C brings back.
        if direct is not None and not self.waits(t):
            symbols.insert(0, own)
            pieces[0][0] = PLUS
            pieces.insert(0, [EQUALS, matrix(direct)])
        if lesson.feedback[t]:
            assert lesson.weight_out is not None
            if not lesson.feedback[t + 1 :].any():
                yield Line("prose", self.texts.propagate_closed)
            into = f"∂L/∂x_{t + 1}{self.head}"
            yield from self.of_output(t, into)
            assert walk.output_total is not None
            symbols.append(f"Cᵀ ∂L/∂y_{t}")
            pieces.append([PLUS, matrix(lesson.weight_out.T), matrix(walk.output_total[t])])
        yield from self.formula(name, [[EQUALS, word(" + ".join(symbols))], *pieces, [EQUALS, matrix(result)]])

    def waits(self, t: int) -> bool:
        """Whether the error e_t waits at y_t for what comes back from the input that y_t became."""
        return self.lesson.loss == "squared-error" and t < self.steps and bool(self.lesson.feedback[t])

    def of_output(self, t: int, into: str) -> Iterator[Line]:
        """The whole gradient of an output that became an input."""
        walk = self.walk
        assert walk.output_total is not None
        assert walk.output_gradient is not None
        back = matrix(walk.input_gradient[t, : self.outputs])
        pieces = [[EQUALS, word(into)], [EQUALS, back]]
        if t > 0 and self.lesson.loss == "squared-error":
            own = matrix(walk.output_gradient[t - 1])
            pieces = [[EQUALS, word(f"e_{t} + {into}")], [EQUALS, own], [PLUS, back]]
            pieces.append([EQUALS, matrix(walk.output_total[t])])
        yield from self.formula(f"∂L/∂y_{t}", pieces)

    def of_input(self, k: int) -> Iterator[Line]:
        lesson, walk, texts = self.lesson, self.walk, self.texts
        # The last step comes first: the sentence is said there, once.
        if k == self.steps - 1:
            yield Line("prose", texts.propagate_input)
        yield from self.formula(
            f"∂L/∂x_{k + 1}",
            [
                [EQUALS, word(f"W_ihᵀ δ_{k + 1}")],
                [EQUALS, matrix(lesson.weight_ih.T), matrix(walk.delta[k])],
                [EQUALS, matrix(walk.input_gradient[k])],
            ],
        )
        if lesson.feedback[k] and not lesson.feedback[k + 1 :].any():
            yield Line("prose", texts.propagate_fed)

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
        made = ""
        if walk.output_total is not None:
            squared, closed = lesson.loss == "squared-error", bool(lesson.feedback.any())
            kind = "both" if squared and closed else "error" if squared else "fed" if closed else "nothing"
            made = getattr(texts, f"accumulate_{kind}")
            states = [lesson.h0, *walk.states]
            # y_0, which only the first input can be, to y_T.
            used = [t for t in range(self.steps + 1) if (squared and t > 0) or lesson.feedback[t : t + 1].any()]
            pairs["weight_out"] = ("Σ_t ∂L/∂y_t h_tᵀ", [(walk.output_total[t], states[t]) for t in used])
            pairs["bias_out"] = ("Σ_t ∂L/∂y_t", [(walk.output_total[t], None) for t in used])
        for name, (formula, terms) in pairs.items():
            if name == "weight_out":
                yield Line("prose", made)
            symbol = f"∂L/∂{LETTERS[name]}"
            if not terms:
                yield from self.formula(symbol, [[EQUALS, matrix(walk.gradients[name])]])
                continue
            pieces = [
                [EQUALS if k == 0 else PLUS, matrix(left), *([] if right is None else [matrix(right[None])])]
                for k, (left, right) in enumerate(terms)
            ]
            if len(terms) > 1 or terms[0][1] is not None:  # else that term is the result
                pieces.append([EQUALS, matrix(walk.gradients[name])])
            yield from self.formula(symbol, [[EQUALS, word(formula)], *pieces])

    def lags(self) -> Iterator[Line]:
        walk, texts = self.walk, self.texts
        yield Line("heading", texts.lags)
        yield Line("prose", texts.lags_note)
        yield from lag_table(walk.lags, walk.gradients["weight_hh"], self.lesson.h0, texts)

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
        said = [fill(texts.before_after, before=number(walk.loss), after=number(walk.updated_loss))]
        change = walk.updated_loss - walk.loss
        if np.isfinite(change):
            said.append(texts.level if change == 0 else texts.fell if change < 0 else texts.rose)
            if lesson.loss != "squared-error":
                said.append(texts.no_minimum)
        elif np.isfinite(walk.loss):
            said.append(texts.update_broken)
        yield Line("prose", texts.between.join(said))

    def check(self) -> Iterator[Line]:
        texts = self.texts
        yield Line("heading", texts.check)
        yield Line("prose", texts.check_note)
        yield from check_table(self.differences, texts)
        if any(self.lesson.is_fed(*index) for index in np.ndindex(*self.lesson.x.shape)):
            yield Line("prose", texts.x_replaced)

    def of_loss(self, what: str) -> str:
        text: str = getattr(self.texts, f"{what}_{self.lesson.loss.replace('-', '_')}")
        return text

    def formula(self, name: str, pieces: Sequence[Sequence[Block]]) -> Iterator[Line]:
        yield Line("formula", "\n".join(set_side_by_side(INDENT + name, pieces, self.width)))


def _term(value: float) -> str:
    """Return a number as it stands in a sum."""
    return f"({number(value)})" if value < 0 else number(value)
