"""The analyses of headwise by what they take."""

from __future__ import annotations

from headwise import analyses

NAMES = {
    inputs: tuple(
        name
        for name in analyses.names()
        if (analyses.get(name).inputs, analyses.get(name).sees) == (inputs, False)
    )
    for inputs in ("trace", "pair", "subject")
}
"""What an analysis takes -> the names of those that take it, of any model."""
SEEING = tuple(name for name in analyses.names() if analyses.get(name).sees)
"""The names of those that are about pictures."""
