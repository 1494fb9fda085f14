"""An identified system as other libraries have it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from retrograd.errors import InputError
from retrograd.estimators.identification.identified import Identified

__all__ = ["Conversions"]


class Conversions:
    """The part of :class:`retrograd.estimators.StateSpace` that takes a system elsewhere."""

    @abstractmethod
    def _found(self) -> Identified:
        """Return the identified system."""

    def to_scipy(self) -> Any:
        """Return a ``scipy.signal.StateSpace`` (discrete; the offset is not part of it)."""
        from scipy.signal import StateSpace as Discrete

        found = self._found()
        s = found.system
        return Discrete(s.A, s.B, s.C, s.D, dt=found.sample_time)

    def to_control(self) -> Any:
        """Return a ``control.StateSpace`` of python-control (discrete, with signal names; without the offset)."""
        found = self._found()
        try:
            import control
        except ModuleNotFoundError:
            raise InputError("to_control needs python-control: pip install control") from None
        s, names = found.system, {"inputs": list(found.input_names), "outputs": list(found.output_names)}
        return control.ss(s.A, s.B, s.C, s.D, found.sample_time, **names)

    def to_torch(self) -> Any:
        """Return a :class:`retrograd.nn.StateSpace` with the same numbers, float64, to train on or to build in."""
        from retrograd.nn import StateSpace as Module

        s = self._found().system
        return Module.from_matrices(s.A, s.B, s.C, s.D, s.K, s.offset, s.x0[-1])
