"""The recurrent estimator: its training by backpropagation through time, its checkpoints."""
