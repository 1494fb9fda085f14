"""Layers: the scan inside a ``torch.nn.Module``, one layer a file."""

from retrograd.nn.bidirectional import Bidirectional
from retrograd.nn.cell import LinearRNNCell
from retrograd.nn.hgrn import HGRN, LowerBounds
from retrograd.nn.linear_rnn import LinearRNN
from retrograd.nn.lru import LRU
from retrograd.nn.min_gru import MinGRU
from retrograd.nn.min_lstm import MinLSTM
from retrograd.nn.model import SequenceBlock, SequenceModel
from retrograd.nn.qrnn import QRNN
from retrograd.nn.rg_lru import RGLRU
from retrograd.nn.s4d import S4D
from retrograd.nn.s5 import S5
from retrograd.nn.sharded import shard_time
from retrograd.nn.sru import SRU
from retrograd.nn.state_space import StateSpace

__all__ = [
    "HGRN",
    "LRU",
    "QRNN",
    "RGLRU",
    "S4D",
    "S5",
    "SRU",
    "Bidirectional",
    "LinearRNN",
    "LinearRNNCell",
    "LowerBounds",
    "MinGRU",
    "MinLSTM",
    "SequenceBlock",
    "SequenceModel",
    "StateSpace",
    "shard_time",
]
