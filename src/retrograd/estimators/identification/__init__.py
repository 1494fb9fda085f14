"""What a StateSpace is made of: experiments in, a subspace start, prediction errors brought down, what it then says."""
