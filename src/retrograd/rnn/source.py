"""Inputs that are read chunk by chunk: an array, in memory or mapped into it, or an iterable of chunks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrograd.rnn.arguments import as_tensor

__all__ = ["ArraySource", "IterableSource", "Source"]


class ArraySource:
    """An array ``(batch, time, inputs)`` or ``(time, inputs)``, possibly a ``numpy.memmap``."""

    def __init__(self, x: Any) -> None:
        if len(x.shape) not in (2, 3) or x.shape[-2] == 0:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (batch, time, inputs) or (time, inputs) with time ≥ 1"
            )
        self._x = x
        self.shape: tuple[int, ...] = tuple(x.shape)
        self.itemsize: int = x.dtype.itemsize

    def read(self, at: slice) -> Any:
        """Return the inputs of the steps ``at``, in memory."""
        part = self._x[..., at, :]
        return np.array(part) if isinstance(part, np.ndarray) else part

    def close(self) -> None:
        """Do nothing: the array is the caller's."""


class IterableSource:
    """Chunks ``(steps, inputs)`` as they come, in a temporary file: they are wanted again, backward.

    Raises:
        TypeError: an item is no floating or complex array.
        ValueError: the chunks do not fit one another, or there is no step.
    """

    def __init__(self, chunks: Iterable[Any]) -> None:
        self._tensors = False
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  (open until close)
        try:
            self.shape = self._write(chunks)
        except BaseException:
            self.close()
            raise
        self.itemsize: int = self._dtype.itemsize

    def _write(self, chunks: Iterable[Any]) -> tuple[int, int]:
        time, inputs, first = 0, 0, ""
        for i, chunk in enumerate(chunks):
            if not isinstance(chunk, np.ndarray | Tensor):
                raise TypeError(
                    f"x is {type(chunks).__name__}, expected a floating or complex tensor or NumPy array, or an "
                    f"iterable of such chunks (steps, inputs); its item {i} is {type(chunk).__name__}"
                )
            if chunk.ndim != 2:
                raise ValueError(f"chunk {i} of x has shape {tuple(chunk.shape)}, expected (steps, inputs)")
            self._tensors = isinstance(chunk, Tensor)
            array = as_tensor(f"chunk {i} of x", chunk).resolve_conj()
            kind = f"{array.shape[1]} inputs of {str(array.dtype).removeprefix('torch.')} on {array.device}"
            if i == 0:
                inputs, self._dtype, self._device, first = array.shape[1], array.dtype, array.device, kind
            if kind != first:
                raise ValueError(f"chunk {i} of x has {kind}, the first one {first}")
            # As bytes: NumPy has no bfloat16.
            array.contiguous().cpu().view(torch.uint8).numpy().tofile(self._file)
            time += array.shape[0]
        if time == 0:
            raise ValueError("x is an iterable without a step, expected chunks of (steps, inputs)")
        return time, inputs

    def read(self, at: slice) -> Any:
        """Return the inputs of the steps ``at``, in memory."""
        steps, inputs = at.stop - at.start, self.shape[1]
        self._file.seek(at.start * inputs * self._dtype.itemsize)
        stored = np.fromfile(self._file, np.uint8, steps * inputs * self._dtype.itemsize)
        array = torch.from_numpy(stored).view(self._dtype).view(steps, inputs)
        return array.to(self._device) if self._tensors else array.numpy()

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()


Source = ArraySource | IterableSource
