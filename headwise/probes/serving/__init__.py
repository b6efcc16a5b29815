"""Prompts and requests of servers: scopes, packed batches, continuous batching."""
