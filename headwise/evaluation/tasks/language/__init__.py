"""Tasks for models of text."""
