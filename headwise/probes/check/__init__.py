"""Checks of a model against its own unhooked outputs, before a capture is believed."""
