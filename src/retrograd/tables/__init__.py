"""Tables in: columns by name, the time axis, the scale."""
