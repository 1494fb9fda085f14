"""The size of the gradient at every step of the layers of any model, while it trains."""
