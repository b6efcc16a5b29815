"""Generation under a capture or a fix: forward inputs, caches, beams, positions of every call."""
