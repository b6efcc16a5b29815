"""Fixes as arms: fitted, compared and searched on a task."""
