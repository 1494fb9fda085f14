"""Tables in: columns by name, the time axis, the scale."""

from retrograd.tables.later import Later, read_later
from retrograd.tables.read import Inputs, Table, TimeOptions, read_inputs, read_series, read_table, split_index
from retrograd.tables.scale import Scaling
from retrograd.tables.source import ReadOptions
from retrograd.tables.step import Step
from retrograd.tables.time_axis import TimeAxis

__all__ = [
    "Inputs",
    "Later",
    "ReadOptions",
    "Scaling",
    "Step",
    "Table",
    "TimeAxis",
    "TimeOptions",
    "read_inputs",
    "read_later",
    "read_series",
    "read_table",
    "split_index",
]
