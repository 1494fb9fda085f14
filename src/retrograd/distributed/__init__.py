"""Time over the ranks of torch.distributed: each holds a stretch of it; what crosses the borders is exchanged."""

from retrograd.distributed.bptt import bptt
from retrograd.distributed.checkpoints import Checkpoints
from retrograd.distributed.ranks import RankError, Ranks, Traffic, traffic
from retrograd.distributed.scan import previous, scan
from retrograd.distributed.simulated import simulate

__all__ = ["Checkpoints", "RankError", "Ranks", "Traffic", "bptt", "previous", "scan", "simulate", "traffic"]
