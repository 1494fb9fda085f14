"""The forecast of one series by whatever forecasts it best: understanding, contenders, a rolling origin, a choice."""
