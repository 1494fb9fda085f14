"""One rule for every picture: colours, curves, axes."""
