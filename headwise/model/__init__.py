"""A model on its own: where it lies, how it is loaded, what it is, and where its inputs belong."""
