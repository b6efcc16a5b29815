"""Attention modules of a model: their sites, the interface and the implementations that they run on."""
