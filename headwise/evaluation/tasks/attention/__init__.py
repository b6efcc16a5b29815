"""Tasks about attention itself."""
