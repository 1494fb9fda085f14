"""Layers: the scan inside a ``torch.nn.Module``, one layer a file."""

from retrograd.nn.cell import LinearRNNCell
from retrograd.nn.linear_rnn import LinearRNN
from retrograd.nn.state_space import StateSpace

__all__ = ["LinearRNN", "LinearRNNCell", "StateSpace"]
