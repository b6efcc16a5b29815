"""The one door for files that come in: what is read, and how much of it."""
