"""Readers of files, and the validation split of what they hold."""
