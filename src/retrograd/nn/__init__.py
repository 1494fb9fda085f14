"""Layers: the scan inside a ``torch.nn.Module``, one layer a file."""

from retrograd.nn.cell import LinearRNNCell
from retrograd.nn.linear_rnn import LinearRNN

__all__ = ["LinearRNN", "LinearRNNCell"]
