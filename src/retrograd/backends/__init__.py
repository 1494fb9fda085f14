"""Devices: one file each, raw kernels without autograd (:class:`retrograd.core.backend.Backend`).

Importing this package registers what this machine has, in order of preference. Where the native module is missing or
broken, the reference loop serves and :func:`retrograd.show_config` says why; where it refuses an environment variable,
nothing is computed before that is mended.
"""

from __future__ import annotations

from importlib.util import find_spec

from retrograd.backends.reference import ReferenceBackend
from retrograd.backends.triton.backend import TritonBackend
from retrograd.core.backend import refuse, register, register_missing

try:
    from retrograd.backends.native import NativeBackend
except ImportError as error:
    if "RETROGRAD_" in str(error):  # the module is there, and refuses an environment variable
        refuse(str(error))
    register_missing("native", str(error) if find_spec("retrograd._native") else "retrograd._native was not built")
else:
    register(NativeBackend())
register(TritonBackend())
register(ReferenceBackend())
