"""Tasks about pictures."""
