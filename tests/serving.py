"""Backends that serve the CPU here: of those registered, some want another device."""

from __future__ import annotations

import torch

from retrograd.core.backend import BACKENDS, Spec
from retrograd.core.transition import Dense

_PLAIN = Spec.of(Dense(torch.eye(2)), torch.zeros(1, 1, 2))
SERVING = tuple(name for name, backend in BACKENDS.items() if backend.why_not(_PLAIN) is None)
