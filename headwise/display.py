"""Drawers of notebook cells for values that stand below the viewer and do not know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DRAWERS: dict[str, Callable[[Any], Any]] = {}
"""What draws the cell of a "trace" (HTML) and of a "result" (MIME type -> content); `headwise/__init__` fills it."""
