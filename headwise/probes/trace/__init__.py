"""Traces: what was recorded of every example, its views, tables and files."""
