"""Formulas on tensors. They import torch and nothing of headwise but each other; every one stands here once."""
