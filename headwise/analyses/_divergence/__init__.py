"""How much heads change: without part of an input, between two captures, and how much they look across modalities."""
