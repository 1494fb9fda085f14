"""The GPU: kernels in Triton, and the backend that launches them.

Importing this package imports no Triton: :mod:`retrograd.backends.triton.backend` loads the kernels at the first scan
of a GPU's tensors.
"""
