"""Edits that a user parameterises: masked keys, replaced activations, scaled heads, overwritten rows."""
