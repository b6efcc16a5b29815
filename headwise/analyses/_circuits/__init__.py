"""Analyses of circuits: what a model's parts are worth to a task given as pairs."""
