"""What a language has words for. Formulas and names are the same in all.

A text is one field of :class:`Texts`, so neither language can lack one. Names in braces are filled in by :func:`fill`;
``_{t-1}`` is a subscript.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Texts", "fill"]


def fill(text: str, **values: object) -> str:
    """Put values in the place of their names in braces; other braces stay, as in subscripts.

    >>> fill("x_{t-1} of {count}", count=3)
    'x_{t-1} of 3'
    """
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


@dataclass(frozen=True)
class Texts:
    """All words of the terminal and the page, in one language."""

    tag: str
    comma: str
    between: str

    title: str
    network: str
    symbols: str
    output: str
    output_unused: str
    closed: str
    question: str
    notation: str
    numbers: str

    loss_final_state: str
    loss_all_states: str
    loss_squared_error: str
    loss_given: str

    forward: str
    forward_note: str
    forward_closed: str
    loss: str
    initialise: str
    initialise_note: str
    initialise_final_state: str
    initialise_all_states: str
    initialise_squared_error: str
    initialise_given: str
    propagate: str
    propagate_note: str
    propagate_closed: str
    propagate_last: str
    propagate_input: str
    propagate_fed: str
    propagate_first: str
    propagate_powers: str
    propagate_powers_closed: str
    propagate_sizes: str
    accumulate: str
    accumulate_note: str
    accumulate_error: str
    accumulate_fed: str
    accumulate_both: str
    accumulate_nothing: str
    update: str
    update_note: str
    before_after: str
    fell: str
    rose: str
    level: str
    update_broken: str
    no_minimum: str

    lags: str
    lags_note: str
    lag: str
    size: str
    share: str
    lags_start: str
    lags_sum: str
    lags_none: str
    lags_broken: str

    check: str
    check_note: str
    entry: str
    by_backpropagation: str
    by_differences: str
    tolerance: str
    outcome: str
    agrees: str
    differs: str
    unchecked: str
    agree: str
    agree_some: str
    disagree: str
    cannot_check: str
    x_replaced: str
    what_next: str
    next_squared: str
    next_closed: str
    next_rate: str
    next_page: str
    next_file: str
    written: str

    overflow: str

    # The page alone.
    walk: str
    walk_keys: str
    position: str
    overview: str
    first: str
    back: str
    play: str
    pause: str
    next: str
    last: str
    drawing: str
    drawing_label: str
    legend_forward: str
    legend_backward: str
    legend_closed: str
    legend_loss: str
    legend_unknown: str
    results: str
    results_note: str
    weight: str
    value: str
    gradient: str
    updated: str
    map_note: str
    map_row: str
    map_column: str
    map_scale: str
    map_zero: str
    map_nothing: str
    map_broken: str
    map_cell: str
    map_pick: str
    check_entries: str
    panel: str
    panel_note: str
    panel_loss: str
    choice_final_state: str
    choice_all_states: str
    choice_squared_error: str
    choice_given: str
    panel_closed: str
    panel_closed_step: str
    panel_rate: str
    panel_target: str
    unused_loss: str
    reset: str
    invalid: str
    rate_invalid: str
    valid: str
    same: str
    different: str
    no_script: str
