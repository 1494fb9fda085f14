"""THE SCAN: what A_t is, which steps follow one another, the operator and its rules of differentiation."""
