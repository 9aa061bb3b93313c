"""Forecasts set beside published measurements: `python -m validation`."""
