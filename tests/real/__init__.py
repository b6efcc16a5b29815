"""Models trained by others, as ordinary transformers folders, and what is known of their heads."""
