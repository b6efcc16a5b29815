"""Specs: fixes as a small file, bound to the model they were made for."""
