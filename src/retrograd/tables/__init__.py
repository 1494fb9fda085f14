"""Tables in: columns by name, the time axis, the scale."""

from retrograd.tables.read import Table, read_inputs, read_table, split_index
from retrograd.tables.scale import Scaling

__all__ = ["Scaling", "Table", "read_inputs", "read_table", "split_index"]
