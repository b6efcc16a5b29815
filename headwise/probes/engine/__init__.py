"""Sessions, hooks and the forward of an attention call under a capture or a fix."""
