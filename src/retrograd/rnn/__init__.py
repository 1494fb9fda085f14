"""The plain linear RNN: backpropagation through time in four named steps, whole, in chunks, or on a stream."""
