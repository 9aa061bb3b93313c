"""Forecast of GPU memory for transformer training and generation."""
