"""Saliency: how much every position that a model reads counts for every token that it writes.

A method is a function from an `Explained` example to a `Maps`; `methods` knows all of them by name.
"""
