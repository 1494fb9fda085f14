"""The plain linear RNN: backpropagation through time in four named steps.

    1. initialise   where the gradient starts: 1 at the final state, a given gradient, or a loss    (steps.py)
    2. propagate    back through time by the same scan, transposed: δ_t, ∂L/∂x_t, ∂L/∂h_0            (steps.py)
    3. accumulate   every weight's gradient, summed over all steps, or step by step                 (steps.py)
    4. update       the plain rule or any optimizer                                                 (update.py)

`bptt.py` runs them over a whole sequence, `chunked.py` over input too long for memory, `stream.py` over input that is
still coming in. `agreement.py` checks that the gradients agree with three other ways to compute them.
"""
