"""Circuits: pairs of prompts, methods, and what they find."""
