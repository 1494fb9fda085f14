"""The words of the lesson, in English; another language replaces every one. Formulas and names are the same in all.

Names in braces are filled in by :func:`fill`; ``_{t-1}`` is a subscript.
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


# What several texts say.
_OUTPUT = "C and c make y_t, whose gradient ∂L/∂y_t is"
_KEPT = "the page keeps the last numbers that could be used."


@dataclass(frozen=True)
class Texts:
    """All words of the terminal and the page, in one language; here in English."""

    tag: str = "en"
    comma: str = ", "
    between: str = " "

    title: str = "Backpropagation through time (BPTT), step by step"
    network: str = (
        "A linear recurrent network reads a sequence x_1 … x_T one step at a time. Its state h_t is all that it "
        "keeps of the past:"
    )
    symbols: str = (
        "W_hh, W_ih and b are its weights, the same at every step: W_hh acts on the previous state, W_ih on the "
        "input, and the bias b is added."
    )
    output: str = "Its output at each step, y_t, is computed from the state with two more weights, C and c:"
    output_unused: str = "The loss below does not depend on the outputs: y_t, C and c play no part in it."
    closed: str = (
        "The loop is closed at t = {steps}: there the input is the network's own output of the step before, x_t ="
        " y_{t-1}."
    )
    smallest: str = "The smallest case: one state, one weight, three steps"
    smallest_note: str = (
        "h_t = w h_{t-1} + x_t, with w = 0.5, the inputs 2, 0, 0 and h_0 = 0. The loss is the last state, L = h_3. "
        "Forward:"
    )
    smallest_back: str = (
        "Backward: δ_t says how fast L changes with h_t. It is 1 at the end, and each step back multiplies it by w:"
    )
    smallest_sum: str = "At each step w multiplied the state before. Its gradient is the sum of δ_t times that state:"
    smallest_update: str = "Downhill with the learning rate 0.05; the loss falls:"
    smallest_check: str = "Check, with L = w w x_1, a little above and a little below w:"
    smallest_end: str = "The same follows with matrices in the place of w."

    question: str = (
        "The loss L rates the result in one number. For every weight the question is: how fast does L change, per"
        " unit of the weight? That is the weight's gradient. The same weights act at every step, so each gradient"
        " is a sum over time; one walk back through the sequence gives all of it."
    )
    notation: str = (
        "∂L/∂W_hh is the gradient of W_hh, with one entry for each of its entries. δ_t is short for ∂L/∂h_t, and "
        "ᵀ swaps rows and columns."
    )
    numbers: str = "Everything is computed in double precision and shown to 4 significant digits, from these numbers:"

    loss_final_state: str = "The loss is the sum of the final state's entries."
    loss_all_states: str = "The loss is the sum of all entries of all states."
    loss_squared_error: str = (
        "The loss is half the sum of the squared differences between the outputs y_t and the targets y*_t."
    )
    loss_given: str = "The loss is given by its gradients g_t with respect to the states: L = Σ_t g_tᵀ h_t."

    forward: str = "Forward: each state from the one before"
    forward_note: str = (
        "Every step multiplies the previous state and the current input by their weights and adds the bias."
    )
    forward_closed: str = "Where the loop is closed, the output of the step before is the input."
    loss: str = "The loss"
    initialise: str = "1. Initialise: where the gradient starts"
    initialise_note: str = (
        "g_t is what the loss sends straight into the state h_t: how L changes with h_t when all later states are"
        " held fixed."
    )
    initialise_final_state: str = (
        "The loss depends on the final state alone, as a plain sum: raising one of its entries by ε raises L by "
        "ε. So the gradient is 1 for each entry there, 0 at every other step."
    )
    initialise_all_states: str = (
        "The loss is a plain sum over all states: raising one entry by ε, with all others held fixed, raises L by"
        " ε. So the gradient is 1 at every step."
    )
    initialise_squared_error: str = (
        "The loss depends on the states through the outputs. The error e_t is what it sends straight into y_t; as"
        " h_t acts on y_t through C, the error comes back to h_t through Cᵀ."
    )
    initialise_waits: str = (
        "Where y_t becomes the next input, more comes back to it from there: its e_t waits until that is known."
    )
    initialise_given: str = "The g_t are those given in the file."
    propagate: str = "2. Propagate: back through time"
    propagate_note: str = (
        "δ_t is the whole gradient of h_t: g_t, which the loss sends straight in, and what comes back from the "
        "next state. As h_{t+1} = W_hh h_t + …, a change ε of h_t changes h_{t+1} by W_hh ε, and L by δ_{t+1}ᵀ "
        "W_hh ε = (W_hhᵀ δ_{t+1})ᵀ ε: so W_hhᵀ δ_{t+1} comes back. It is the recurrence of the states, transposed"
        " and run backward."
    )
    propagate_closed: str = (
        "Where the loop is closed at the next step, y_t = C h_t + c became that input too: what arrived there "
        "joins the gradient of y_t, and comes back to h_t through Cᵀ."
    )
    propagate_last: str = "Nothing follows the last state: its gradient is what the loss sends straight in."
    propagate_input: str = (
        "The input has its gradient too. It came in through W_ih, so its gradient comes back through W_ihᵀ:"
    )
    propagate_fed: str = "Where the input was the output y_{t-1}, its gradient goes on to y_{t-1} and h_{t-1}."
    propagate_first: str = "Before the first step stands h_0; its gradient is what comes back from h_1:"
    propagate_powers: str = (
        "At every step, what comes back is multiplied by W_hhᵀ once more: over k steps, by its k-th power. If "
        "that shrinks it, hardly anything of a late loss reaches the early steps: the gradient vanishes. If that "
        "makes it grow, the gradient explodes."
    )
    propagate_powers_closed: str = "Around the closed loop, W_hh + W_ih C takes the place of W_hh."
    propagate_sizes: str = (
        "The size of δ_t, written ‖δ_t‖, is the square root of the sum of its squared entries; on the way back:"
    )
    accumulate: str = "3. Accumulate: sum over time"
    accumulate_note: str = (
        "At every step a weight multiplies something; the bias multiplies 1. Its gradient at that step is the "
        "gradient of the product times that factor; the whole gradient is the sum over all steps."
    )
    accumulate_error: str = f"{_OUTPUT} the error e_t."
    accumulate_fed: str = f"{_OUTPUT} what comes back from the input that it became."
    accumulate_both: str = f"{_OUTPUT} the error e_t and, where y_t became an input, what comes back from there."
    accumulate_nothing: str = "The loss does not depend on C and c here: their gradients are 0."
    update: str = "4. Update: a step downhill"
    update_note: str = "Each weight moves against its gradient: W ← W − lr ∂L/∂W, with the learning rate lr = {rate}."
    before_after: str = "L before: {before}. L after: {after}."
    fell: str = "The loss fell."
    rose: str = (
        "The loss rose: the step was too long. The gradient is the slope at one point only; a smaller learning "
        "rate stays where that slope still holds."
    )
    level: str = "The loss stayed the same."
    update_broken: str = "The loss is no longer a finite number: the step was far too long."
    no_minimum: str = (
        "This loss only adds up states and has no lowest value: the step shows the rule, no more. The squared "
        "error has one."
    )

    lags: str = "Where ∂L/∂W_hh comes from"
    lags_note: str = (
        "The same sum, sorted by lag k. Lag 0 is the use of W_hh that made the very state that the loss looks at;"
        " lag k is k steps earlier. The size is the square root of the sum of a part's squared entries (its "
        "Frobenius norm). The share is the length of the part along the gradient, divided by the length of the "
        "gradient: shares add up to 1, and a part that points the other way has a negative one."
    )
    lag: str = "lag k"
    size: str = "size"
    share: str = "share"
    lags_start: str = "Lag {lag} is 0 because h_0 is 0 here, not because the gradient has vanished."
    lags_sum: str = "The parts add up to ∂L/∂W_hh: they differ from it by less than {error}."
    lags_none: str = "∂L/∂W_hh is 0, so there are no shares."
    lags_broken: str = "∂L/∂W_hh is not finite, so there are no shares."

    check: str = "Check: finite differences"
    check_note: str = (
        "No backpropagation is used here: move one number θ by ±s, run the network forward twice, and take the "
        "slope (L(θ + s) − L(θ − s)) / 2s. The tolerance is what a finite difference itself may be off by: from "
        "the rounding of L, and from its curvature."
    )
    entry: str = "entry"
    by_backpropagation: str = "backpropagation"
    by_differences: str = "finite difference"
    tolerance: str = "tolerance"
    outcome: str = "result"
    agrees: str = "agrees"
    differs: str = "differs"
    unchecked: str = "cannot tell"
    agree: str = "All {count} entries agree; a finite difference is accurate to about {allowed} here."
    agree_some: str = "{count} of {total} entries agree; a finite difference is accurate to about {allowed} there."
    disagree: str = (
        "{count} of {total} entries differ by more than a finite difference's own error: by up to {largest}, "
        "where it is accurate to about {allowed}."
    )
    cannot_check: str = (
        "{count} of {total} entries cannot be checked: there the error of a finite difference is too large beside"
        " the number itself, or L is not finite."
    )
    x_replaced: str = "Where the loop is closed, x_t was replaced by y_{t-1}; the number given there is not used."
    what_next: str = "What next"
    next_squared: str = "a loss to learn from: outputs against targets"
    next_closed: str = "the loop closed: outputs become inputs"
    next_rate: str = "a longer step"
    next_page: str = "all of this as a page, with numbers to change"
    next_file: str = "your own numbers; docs/explain.md says how to write the file"
    written: str = "Written: {page}. Open it in a browser."

    overflow: str = "Some numbers are no longer finite: the recurrence grows too fast for these weights."

    # The page alone.
    walk: str = "Walk through time"
    walk_keys: str = "Keys: ← and → walk, Home and End jump, the space bar plays."
    position: str = "Position {position} of {count}"
    overview: str = "The question"
    first: str = "To the start"
    back: str = "Back"
    play: str = "Play"
    pause: str = "Pause"
    next: str = "Next"
    last: str = "To the end"
    drawing: str = "The network, unrolled over time"
    drawing_label: str = "The network unrolled over time; the formulas below the drawing give the same numbers as text."
    legend_forward: str = "forward: values"
    legend_backward: str = "backward: gradients"
    legend_closed: str = "closed loop: an output becomes the next input"
    legend_loss: str = "what the loss sends straight in"
    legend_unknown: str = "not known yet"
    results: str = "All gradients"
    results_note: str = "These follow every change that you make above."
    weight: str = "name"
    value: str = "value"
    gradient: str = "gradient"
    updated: str = "after the update"
    map_note: str = (
        "Each cell is one part of ∂L/∂W_hh: what the loss sent into step t, carried k steps back, met there by "
        "the state before. Its colour shows its size, by the scale below. The cells add up to the gradient."
    )
    map_row: str = "step t where the loss enters"
    map_column: str = "lag k, in steps back"
    map_scale: str = "size"
    map_zero: str = "exactly 0"
    map_nothing: str = "before the start"
    map_broken: str = "not finite"
    map_cell: str = "step {t}, lag {k}: size {size}"
    map_pick: str = (
        "Tap a cell or point at it to read its matrix; with the keyboard, Tab to the map and use the arrow keys."
    )
    check_entries: str = "Show every entry"
    panel: str = "Change the numbers"
    panel_note: str = "Everything on this page follows at once."
    panel_loss: str = "Loss"
    choice_final_state: str = "sum of the final state"
    choice_all_states: str = "sum of all states"
    choice_squared_error: str = "squared error of the outputs"
    choice_given: str = "given gradients"
    panel_closed: str = "Closed loop from the second step on: x_t = y_{t-1}"
    panel_closed_step: str = "closed"
    panel_rate: str = "Learning rate lr"
    panel_target: str = "Target"
    unused_loss: str = "Not used: another loss is chosen."
    reset: str = "Reset"
    invalid: str = f"{{name}} is not a number: {_KEPT}"
    rate_invalid: str = f"The learning rate must be above 0: {_KEPT}"
    valid: str = "All numbers are used."
    same: str = (
        "This page computes with its own small script. For the numbers it was made with, its results and the "
        "library's differ by at most {error}, relative to the largest of each."
    )
    different: str = (
        "This page's own script does not give the library's results: they differ by {error}. Do not trust this page."
    )
    no_script: str = "Allow scripts on this page to see the walk. Here is the same as plain text:"
