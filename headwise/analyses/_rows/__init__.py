"""Analyses of rows: what a token looked at when it was written or read."""
