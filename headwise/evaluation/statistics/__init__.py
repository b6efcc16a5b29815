"""Intervals and paired tests over examples."""
