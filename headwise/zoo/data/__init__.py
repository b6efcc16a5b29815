"""Generators of the data that the zoo is trained and tested on, with exact ground truth."""
