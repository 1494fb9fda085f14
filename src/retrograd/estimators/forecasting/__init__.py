"""What a Forecaster is made of: tables in, states that remember, read-outs in closed form, files."""
