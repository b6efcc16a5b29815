"""Tasks about recorded speech."""
