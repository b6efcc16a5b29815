"""The analyses of headwise by what they take."""

from __future__ import annotations

from headwise import analyses

NAMES = {
    inputs: tuple(name for name in analyses.names() if analyses.get(name).inputs == inputs)
    for inputs in ("trace", "pair", "subject")
}
"""What an analysis takes -> the names of those that take it."""
