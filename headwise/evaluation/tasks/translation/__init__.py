"""Tasks about sentences in two languages."""
