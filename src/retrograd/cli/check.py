"""`retrograd check`: do the gradients agree on this machine, whichever way they are computed?"""

from __future__ import annotations

from typing import Annotated

import typer

from retrograd.rnn.agreement import QUANTITIES, Row, agreement, tolerance

__all__ = ["check"]

# Column headings in the letters of the formulas, in the order of QUANTITIES.
LETTERS = ("h", "δ", "x", "h0", "W_hh", "W_ih", "b", "C", "c")


def check(
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random problem.")] = 0,
    time: Annotated[int, typer.Option("--time", help="Number of steps T.")] = 48,
    hidden: Annotated[int, typer.Option("--hidden", help="Width of the state H.")] = 16,
    batch: Annotated[int, typer.Option("--batch", help="Number of sequences B.")] = 4,
    dtype: Annotated[str, typer.Option("--dtype", help="float64 or float32.")] = "float64",
) -> None:
    """Compare the ways of computing the gradients, here.

    bptt, autograd through scan, finite differences and the plain loop.
    """
    rows = agreement(seed=seed, time=time, hidden=hidden, batch=batch, dtype=dtype)
    _show(rows, dtype, hidden)
    if not all(row.passed for row in rows):
        raise typer.Exit(1)


def _show(rows: list[Row], dtype: str, hidden: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("", ""):
        table.add_column(heading, no_wrap=True)
    for heading in (*LETTERS, "≤"):
        table.add_column(heading, justify="right", no_wrap=True)
    methods: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        methods.setdefault((row.loop, row.method), []).append(row)
    loop_before = ""
    for (loop, method), group in methods.items():
        if loop != loop_before:
            table.add_row(f"[bold]{loop}[/bold]")
            loop_before = loop
        errors = {row.quantity: row for row in group}
        cells = [_cell(errors.get(quantity)) for quantity in QUANTITIES]
        mark = "[green]pass[/green]" if all(row.passed for row in group) else "[red]FAIL[/red]"
        table.add_row(f" {method}", mark, *cells, _short(max(row.tolerance for row in group)))
    console = Console()
    console.print(
        "Error of states (h), of δ = ∂L/∂h and of each gradient against the plain loop with autograd in float64, in "
        f"units of eps of {dtype} (finite differences: of float64). autograd: through retrograd.scan."
    )
    console.print(table)
    failed = sum(not row.passed for row in rows)
    console.print(
        f"Allowed (≤): {tolerance(hidden):.0f} eps for every way of computing the same sums, one for each term that a "
        "step adds up; for central differences 8 times the error that they have themselves (shown: the most). "
        "–: not given by this way."
    )
    console.print(
        f"[red]{failed} of {len(rows)} comparisons are out of tolerance.[/red]"
        if failed
        else f"[green]All {len(rows)} comparisons agree.[/green]"
    )


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    return _short(row.error) if row.passed else f"[red]{_short(row.error)}[/red]"


def _short(value: float) -> str:
    """Write a number of units in at most five characters.

    >>> [_short(x) for x in (0.0, 0.04, 1.26, 84.0, 31234.0, float("nan"))]
    ['0', '<0.1', '1.3', '84', '3e4', 'nan']
    """
    if 0 < value < 0.1:
        return "<0.1"
    return f"{value:.2g}" if not value >= 99.5 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
