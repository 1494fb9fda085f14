"""What exchanges messages is not traced: a compiled function breaks its graph there, and the call runs as it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ["untraced"]

P = ParamSpec("P")
R = TypeVar("R")


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function, which TorchDynamo leaves alone: ``torch.compiler.disable`` without importing Dynamo."""

    @wraps(function)
    def call(*args: P.args, **given: P.kwargs) -> R:
        dynamo: Any = sys.modules.get("torch._dynamo")
        run = function if dynamo is None else dynamo.disable(function)
        return run(*args, **given)

    # What torch.compiler.disable sets: Dynamo reads it before it enters a call.
    marks: dict[str, Any] = {
        "_torchdynamo_disable": True,
        "_torchdynamo_disable_msg": f"retrograd.distributed.{function.__name__} exchanges messages with other ranks",
    }
    call.__dict__.update(marks)
    return call
