"""`retrograd explain`: the four steps of backpropagation through time, with the numbers put in."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retrograd.cli.grad import read_arrays
from retrograd.cli.outputs import require_new_file, write_new
from retrograd.errors import InputError, require_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retrograd.report.explain.plain import Line
    from retrograd.report.explain.texts import Texts

__all__ = ["explain"]

PAGE, LR = Path("explain.html"), 0.05
# Of a file's arrays: those few steps need far less, and a message about them is better than one about bytes.
MOST_BYTES = 1 << 26


def explain(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE.npz",
            help="NumPy archive of one sequence: x (T, I), weight_hh (H, H), weight_ih (H, I) and, if wanted, bias, "
            "h0, weight_out (O, H), bias_out, feedback (bool, T), and where the gradient starts: target (T, O), or "
            "grad_states, grad_final. At most 12 steps and 4 states, inputs and outputs. Default: a built-in example.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write one page that walks through it instead; it opens with no network.")
    ] = False,
    lang: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            help="final-state, all-states (sums of their entries) or squared-error (of the outputs). "
            "Default: as the file says (squared-error with target), else final-state; of the example squared-error.",
        ),
    ] = None,
    closed_loop: Annotated[
        bool, typer.Option("--closed-loop", help="From the second step on, the previous output is the input.")
    ] = False,
    lr: Annotated[float, typer.Option("--lr", help="Learning rate of the update.")] = LR,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.html", help="Where to write the page. Default: explain.html.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page if it exists.")] = False,
) -> None:
    """Walk through backpropagation through time, step by step, on a few numbers.

    Initialise, propagate, accumulate, update; then the check against finite differences.
    """
    from retrograd.report.explain import LANGUAGES, Lesson, render, tell
    from retrograd.report.explain.plain import Line
    from retrograd.report.explain.smallest import smallest
    from retrograd.report.explain.tables import verdict
    from retrograd.report.explain.texts import fill

    require_choice("--lang", lang, list(LANGUAGES))
    if not html and (out is not None or overwrite):
        raise InputError(f"{'--out' if out is not None else '--overwrite'} is for the page: add --html")
    page = PAGE if out is None else out
    if html:
        require_new_file(page, overwrite=overwrite)
    if file is None:
        lesson = Lesson.example(loss=loss or "squared-error", closed_loop=closed_loop, learning_rate=lr)
    else:
        arrays = read_arrays(file, also=("target",), most=MOST_BYTES)
        lesson = Lesson.of_arrays(arrays, str(file), loss=loss, closed_loop=closed_loop, learning_rate=lr)
    walk, texts = lesson.walk(), LANGUAGES[lang]
    opening = smallest(texts) if file is None else []
    differences = list(lesson.differences(walk))
    failed = any(one.checked and not one.agrees for one in differences)
    if html:
        said = [fill(texts.written, page=page), *([verdict(differences, texts)] if failed else [])]
        lines = _laid_out([Line("prose", text) for text in said])
        write_new(page, render(lesson, walk, differences, texts, opening).encode())
    else:
        told = tell(lesson, walk, differences, texts, _console_width())
        options = [*(["--lang", lang] if lang != "en" else []), *([] if loss is None else ["--loss", loss])]
        options += [*(["--closed-loop"] if closed_loop else []), *(["--lr", f"{lr:g}"] if lr != LR else [])]
        lines = _laid_out(
            [*opening, *told, *_what_next(texts, None if file is None else shlex.quote(str(file)), options)]
        )
    _show(lines)
    if failed:
        raise typer.Exit(1)


def _what_next(texts: Texts, file: str | None, options: Sequence[str]) -> list[Line]:
    """Return the commands that show what this one, with its options, has not."""
    from retrograd.report.explain.plain import Line
    from retrograd.report.explain.tables import INDENT

    language = list(options[options.index("--lang") :][:2]) if "--lang" in options else []
    rows: list[tuple[list[str], str]] = []
    if file is None:
        closed = ["--closed-loop"]
        if {"final-state", "all-states"} & set(options):
            rows.append(([], texts.next_squared))
        if "--closed-loop" not in options:
            rows.append((closed, texts.next_closed))
        elif "--lr" not in options:
            rows.append(([*closed, "--lr", "0.1"], texts.next_rate))
        rows = [([*language, *more], said) for more, said in rows]
    rows.append(([*([] if file is None else [file]), *options, "--html"], texts.next_page))
    if file is None:
        rows.append(([*language, "FILE.npz"], texts.next_file))
    lines = [f"{INDENT}{' '.join(['retrograd explain', *words])}\n{INDENT * 2}{said}" for words, said in rows]
    return [Line("heading", texts.what_next), *(Line("formula", line) for line in lines)]


def _console_width() -> int:
    from rich.console import Console

    return Console().width


def _laid_out(lines: list[Line]) -> list[Line]:
    """Return lines as they will stand in the terminal.

    Raises:
        InputError: its encoding lacks one of their characters.
    """
    from rich.console import Console

    from retrograd.report.explain.wrap import wrap

    console = Console()
    # A formula was broken where it can be; prose is broken here.
    laid_out = [
        line if line.kind == "formula" else replace(line, text="\n".join(wrap(line.text, console.width)))
        for line in lines
    ]
    try:
        "".join(line.text for line in laid_out).encode(console.encoding)
    except UnicodeEncodeError as error:
        raise InputError(
            f"the output's encoding is {error.encoding}, which lacks {error.object[error.start]!a}: "
            "set PYTHONIOENCODING=utf-8"
        ) from None
    return laid_out


def _show(lines: list[Line]) -> None:
    from rich.console import Console

    console = Console()
    for k, line in enumerate(lines):
        if line.kind == "heading" and k > 0:
            console.print()
        style = "bold" if line.kind == "heading" else None
        console.print(line.text, style=style, markup=False, highlight=False, soft_wrap=True)
