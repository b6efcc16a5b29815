"""Observe and edit attention inside a running model."""
