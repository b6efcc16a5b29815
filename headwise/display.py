"""Drawers of notebook cells for values that stand below the viewer and do not import it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_DRAWERS = {
    "trace": ("headwise.reports.notebook.static", "trace_cell"),
    "result": ("headwise.reports.notebook", "live_view"),
}


def cell_of(kind: str, value: Any) -> Any:
    """The cell of a "trace" (HTML) or of a "result" (MIME type -> content)."""
    module, name = _DRAWERS[kind]
    return getattr(import_module(module), name)(value)
