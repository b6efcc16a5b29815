"""Attention on tensors: dense, streamed and statistics of the pattern."""
