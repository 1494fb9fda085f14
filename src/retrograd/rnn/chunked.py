"""Input too long for the machine's memory, read chunk by chunk: a memory-mapped array, or an iterable of chunks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.core.saving import Memory, chunk_steps

__all__ = ["LongInput", "add_in_double", "like"]


class LongInput:
    """Inputs of ``time`` steps that are to be read in chunks of ``steps``."""

    def __init__(self, source: Any, time: int, steps: int) -> None:
        self._source, self.time, self.steps = source, time, steps

    @classmethod
    def of(cls, x: Any, memory: Memory, weight_hh: Any) -> LongInput | None:
        """Return x as chunks, or None where it is an array and all of it fits what ``memory`` allows.

        Raises:
            TypeError: x is neither an array nor an iterable of them.
            ValueError: chunks do not fit one another, or memory is too little for x.
        """
        if isinstance(x, Iterable) and not isinstance(x, np.ndarray | Tensor):
            if memory == "all":
                raise ValueError(
                    "memory is 'all' with x an iterable of chunks; use 'sqrt', 'auto' or a number of bytes"
                )
            x = _Spool(x)
            memory = "sqrt" if memory == "auto" else memory
        shape: tuple[int, ...] = tuple(getattr(x, "shape", ()))
        if len(shape) not in (2, 3) or getattr(weight_hh, "ndim", 0) != 2:
            return None  # for the checks of the arguments to name
        batch, time = shape[0] if len(shape) == 3 else 1, shape[-2]
        itemsize = max(x.dtype.itemsize, weight_hh.dtype.itemsize)
        steps = chunk_steps(memory, batch, time, weight_hh.shape[0], itemsize)
        return None if steps >= time and not isinstance(x, _Spool) else cls(x, time, steps)

    def read(self, at: slice) -> Any:
        """Return the inputs of the steps ``at``, in memory."""
        if isinstance(self._source, _Spool):
            return self._source.read(at)
        part = self._source[..., at, :]
        return np.array(part) if isinstance(part, np.ndarray) else part

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if isinstance(self._source, _Spool):
            self._source.close()


class _Spool:
    """Chunks ``(steps, inputs)`` in a temporary file, as they come: they are wanted again, backward."""

    def __init__(self, chunks: Iterable[Any]) -> None:
        self.tensors = False
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open until close)
        try:
            self.shape = self._write(chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def _write(self, chunks: Iterable[Any]) -> tuple[int, int]:
        time, inputs = 0, None
        for i, chunk in enumerate(chunks):
            if not isinstance(chunk, np.ndarray | Tensor):
                raise TypeError(
                    f"x is {type(chunks).__name__}, expected a floating or complex tensor or NumPy array, or an "
                    f"iterable of such chunks (steps, inputs); its item {i} is {type(chunk).__name__}"
                )
            if chunk.ndim != 2:
                raise ValueError(f"chunk {i} of x has shape {tuple(chunk.shape)}, expected (steps, inputs)")
            self.tensors = isinstance(chunk, Tensor)
            array = np.ascontiguousarray(chunk.detach().cpu().numpy() if isinstance(chunk, Tensor) else chunk)
            if inputs is None:
                inputs, self.dtype = array.shape[1], array.dtype
            if array.shape[1] != inputs or array.dtype != self.dtype:
                has, first = f"{array.shape[1]} inputs of {array.dtype}", f"{inputs} of {self.dtype}"
                raise ValueError(f"chunk {i} of x has {has}, the first one {first}")
            array.tofile(self._file)
            time += array.shape[0]
        if inputs is None or time == 0:
            raise ValueError("x is an iterable without a step, expected chunks of (steps, inputs)")
        return time, inputs

    def read(self, at: slice) -> Any:
        inputs = self.shape[1]
        self._file.seek(at.start * inputs * self.dtype.itemsize)
        array = np.fromfile(self._file, self.dtype, (at.stop - at.start) * inputs).reshape(-1, inputs)
        return torch.from_numpy(array) if self.tensors else array


def add_in_double(total: Any, part: Any) -> Any:
    """Return total + part in double precision; a total of None is nothing yet."""
    if isinstance(part, Tensor):
        part = part.to(torch.complex128 if part.is_complex() else torch.float64)
    else:
        part = np.asarray(part, np.complex128 if np.iscomplexobj(part) else np.float64)
    return part if total is None else total + part


def like(total: Any, part: Any) -> Any:
    """Return the total in the kind and dtype of a part."""
    return total.to(part.dtype) if isinstance(part, Tensor) else total.astype(part.dtype)
