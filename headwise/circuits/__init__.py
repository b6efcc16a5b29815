"""Circuits: which heads, MLPs and edges between them carry a task, found by replacing what they write."""
