"""The words of the lesson in English."""

from __future__ import annotations

from retrograd.report.explain.words import Texts

__all__ = ["ENGLISH"]

ENGLISH = Texts(
    tag="en",
    comma=", ",
    between=" ",
    title="Backpropagation through time (BPTT), step by step",
    network="A linear recurrent network reads a sequence x_1 … x_T one step at a time. Its state h_t is all that it "
    "keeps of the past:",
    symbols="W_hh, W_ih and b are its weights, the same at every step: W_hh acts on the previous state, W_ih on the "
    "input, and the bias b is added.",
    output="Its output at each step, y_t, is computed from the state with two more weights, C and c:",
    output_unused="The loss below does not depend on the outputs: y_t, C and c play no part in it.",
    closed="The loop is closed at t = {steps}: there the input is the network's own output of the step before, x_t = "
    "y_{t-1}.",
    question="The loss L rates the result in one number. For every weight the question is: how fast does L change, "
    "per unit of the weight? That is the weight's gradient. The same weights act at every step, so each gradient is a "
    "sum over time; one walk back through the sequence gives all of it.",
    notation="∂L/∂W_hh is the gradient of W_hh, with one entry for each of its entries. δ_t is short for ∂L/∂h_t, and "
    "ᵀ swaps rows and columns.",
    numbers="Everything is computed in double precision and shown to 4 significant digits, from these numbers:",
    loss_final_state="The loss is the sum of the final state's entries.",
    loss_all_states="The loss is the sum of all entries of all states.",
    loss_squared_error="The loss is half the sum of the squared differences between the outputs y_t and the targets "
    "y*_t.",
    loss_given="The loss is given by its gradients g_t with respect to the states: L = Σ_t g_tᵀ h_t.",
    forward="Forward: each state from the one before",
    forward_note="Every step multiplies the previous state and the current input by their weights and adds the bias.",
    forward_closed="Where the loop is closed, the output of the step before is the input.",
    loss="The loss",
    initialise="1. Initialise: where the gradient starts",
    initialise_note="g_t is what the loss sends straight into the state h_t: how L changes with h_t when all later "
    "states are held fixed.",
    initialise_final_state="The loss depends on the final state alone, as a plain sum: raising one of its entries by "
    "ε raises L by ε. So the gradient is 1 for each entry there, 0 at every other step.",
    initialise_all_states="The loss is a plain sum over all states: raising one entry by ε, with all others held "
    "fixed, raises L by ε. So the gradient is 1 at every step.",
    initialise_squared_error="The loss depends on the states through the outputs. The error e_t is what it sends "
    "straight into y_t; as h_t acts on y_t through C, the error comes back to h_t through Cᵀ.",
    initialise_given="The g_t are those given in the file.",
    propagate="2. Propagate: back through time",
    propagate_note="δ_t is the whole gradient of h_t: g_t, which the loss sends straight in, and what comes back from "
    "the next state. As h_{t+1} = W_hh h_t + …, a change ε of h_t changes h_{t+1} by W_hh ε, and L by δ_{t+1}ᵀ W_hh ε "
    "= (W_hhᵀ δ_{t+1})ᵀ ε: so W_hhᵀ δ_{t+1} comes back. It is the recurrence of the states, transposed and run "
    "backward.",
    propagate_closed="Where the loop is closed at the next step, y_t = C h_t + c became that input too: what arrived "
    "there joins the gradient of y_t, and comes back to h_t through Cᵀ.",
    propagate_last="Nothing follows the last state: its gradient is what the loss sends straight in.",
    propagate_input="The input has its gradient too. It came in through W_ih, so its gradient comes back through "
    "W_ihᵀ:",
    propagate_fed="Where the input was the output y_{t-1}, its gradient goes on to y_{t-1} and h_{t-1}.",
    propagate_first="Before the first step stands h_0; its gradient is what comes back from h_1:",
    propagate_powers="At every step, what comes back is multiplied by W_hhᵀ once more: over k steps, by its k-th "
    "power. If that shrinks it, hardly anything of a late loss reaches the early steps: the gradient vanishes. If "
    "that makes it grow, the gradient explodes.",
    propagate_powers_closed="Around the closed loop, W_hh + W_ih C takes the place of W_hh.",
    propagate_sizes="The size of δ_t, written ‖δ_t‖, is the square root of the sum of its squared entries; on the way "
    "back:",
    accumulate="3. Accumulate: sum over time",
    accumulate_note="At every step a weight multiplies something; the bias multiplies 1. Its gradient at that step is "
    "the gradient of the product times that factor; the whole gradient is the sum over all steps.",
    accumulate_error="C and c make y_t, whose gradient ∂L/∂y_t is the error e_t.",
    accumulate_fed="C and c make y_t, whose gradient ∂L/∂y_t is what comes back from the input that it became.",
    accumulate_both="C and c make y_t, whose gradient ∂L/∂y_t is the error e_t and, where y_t became an input, what "
    "comes back from there.",
    accumulate_nothing="The loss does not depend on C and c here: their gradients are 0.",
    update="4. Update: a step downhill",
    update_note="Each weight moves against its gradient: W ← W − lr ∂L/∂W, with the learning rate lr = {rate}.",
    before_after="L before: {before}. L after: {after}.",
    fell="The loss fell.",
    rose="The loss rose: the step was too long. The gradient is the slope at one point only; a smaller learning rate "
    "stays where that slope still holds.",
    level="The loss stayed the same.",
    update_broken="The loss is no longer a finite number: the step was far too long.",
    no_minimum="This loss only adds up states and has no lowest value: the step shows the rule, no more. The squared "
    "error has one.",
    lags="Where ∂L/∂W_hh comes from",
    lags_note="The same sum, sorted by lag k. Lag 0 is the use of W_hh that made the very state that the loss looks "
    "at; lag k is k steps earlier. The size is the square root of the sum of a part's squared entries (its Frobenius "
    "norm). The share is the length of the part along the gradient, divided by the length of the gradient: shares add "
    "up to 1, and a part that points the other way has a negative one.",
    lag="lag k",
    size="size",
    share="share",
    lags_start="Lag {lag} is 0 because h_0 is 0 here, not because the gradient has vanished.",
    lags_sum="The parts add up to ∂L/∂W_hh: they differ from it by less than {error}.",
    lags_none="∂L/∂W_hh is 0, so there are no shares.",
    lags_broken="∂L/∂W_hh is not finite, so there are no shares.",
    check="Check: finite differences",
    check_note="No backpropagation is used here: move one number θ by ±s, run the network forward twice, and take the "
    "slope (L(θ + s) − L(θ − s)) / 2s. The tolerance is what a finite difference itself may be off by: from the "
    "rounding of L, and from its curvature.",
    entry="entry",
    by_backpropagation="backpropagation",
    by_differences="finite difference",
    tolerance="tolerance",
    outcome="result",
    agrees="agrees",
    differs="differs",
    unchecked="cannot tell",
    agree="All {count} entries agree; a finite difference is accurate to about {allowed} here.",
    agree_some="{count} of {total} entries agree; a finite difference is accurate to about {allowed} there.",
    disagree="{count} of {total} entries differ by more than a finite difference's own error: by up to {largest}, "
    "where it is accurate to about {allowed}.",
    cannot_check="{count} of {total} entries cannot be checked: there the error of a finite difference is too large "
    "beside the number itself, or L is not finite.",
    x_replaced="Where the loop is closed, x_t was replaced by y_{t-1}; the number given there is not used.",
    what_next="What next",
    next_squared="a loss to learn from: outputs against targets",
    next_closed="the loop closed: outputs become inputs",
    next_rate="a longer step",
    next_page="all of this as a page, with numbers to change",
    next_file="your own numbers; docs/explain.md says how to write the file",
    written="Written: {page}. Open it in a browser.",
    overflow="Some numbers are no longer finite: the recurrence grows too fast for these weights.",
    walk="Walk through time",
    walk_keys="Keys: ← and → walk, Home and End jump, the space bar plays.",
    position="Position {position} of {count}",
    overview="The question",
    first="To the start",
    back="Back",
    play="Play",
    pause="Pause",
    next="Next",
    last="To the end",
    drawing="The network, unrolled over time",
    drawing_label="The network unrolled over time; the formulas below the drawing give the same numbers as text.",
    legend_forward="forward: values",
    legend_backward="backward: gradients",
    legend_closed="closed loop: an output becomes the next input",
    legend_loss="what the loss sends straight in",
    legend_unknown="not known yet",
    results="All gradients",
    results_note="These follow every change that you make above.",
    weight="name",
    value="value",
    gradient="gradient",
    updated="after the update",
    map_note="Each cell is one part of ∂L/∂W_hh: what the loss sent into step t, carried k steps back, met there by "
    "the state before. Its colour shows its size, by the scale below. The cells add up to the gradient.",
    map_row="step t where the loss enters",
    map_column="lag k, in steps back",
    map_scale="size",
    map_zero="exactly 0",
    map_nothing="before the start",
    map_broken="not finite",
    map_cell="step {t}, lag {k}: size {size}",
    map_pick="Tap a cell or point at it to read its matrix; with the keyboard, Tab to the map and use the arrow keys.",
    check_entries="Show every entry",
    panel="Change the numbers",
    panel_note="Everything on this page follows at once.",
    panel_loss="Loss",
    choice_final_state="sum of the final state",
    choice_all_states="sum of all states",
    choice_squared_error="squared error of the outputs",
    choice_given="given gradients",
    panel_closed="Closed loop from the second step on: x_t = y_{t-1}",
    panel_closed_step="closed",
    panel_rate="Learning rate lr",
    panel_target="Target",
    unused_loss="Not used: another loss is chosen.",
    reset="Reset",
    invalid="{name} is not a number: the page keeps the last numbers that could be used.",
    rate_invalid="The learning rate must be above 0: the page keeps the last numbers that could be used.",
    valid="All numbers are used.",
    same="This page computes with its own small script. For the numbers it was made with, its results and the "
    "library's differ by at most {error}, relative to the largest of each.",
    different="This page's own script does not give the library's results: they differ by {error}. Do not trust this "
    "page.",
    no_script="Allow scripts on this page to see the walk. Here is the same as plain text:",
)
