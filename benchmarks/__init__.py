"""Time, side by side in one run: retrograd, its peers and the machine's limits."""
