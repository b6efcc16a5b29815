"""The widget: its small state, and the texts that it sends when they are asked for. Imports anywidget."""

from __future__ import annotations

import json
from functools import cached_property
from importlib import resources
from typing import Any

import anywidget
import traitlets

from headwise.reports.content.content import Content
from headwise.reports.page.page import asset, render_example
from headwise.reports.page.serialize import deflated, page_blobs, page_data
from headwise.text import shortened, visible

MOST_STATE = 90_000
"""Bytes of JSON that the state, which is written into the notebook, may hold; more is sent when it is asked for."""
SHARED = ("data.js", "grid.js", "maps.js", "head.js", "examples.js")
OWN = ("kernel.js", "sheet.js", "viewer.js")


def _own(name: str) -> str:
    return resources.files("headwise.reports.notebook").joinpath("scripts", name).read_text(encoding="utf-8")


def script() -> str:
    """The module that draws the viewer: what it shares with the report page, and its own."""
    return "\n".join([*(asset("scripts", name) for name in SHARED), *map(_own, OWN)])


def style() -> str:
    """Its style sheet; nothing in it reaches beyond the viewer."""
    return f".headwise-viewer {{\n{asset('templates', 'parts.css')}}}\n{_own('viewer.css')}"


class Viewer(anywidget.AnyWidget):
    """What `headwise.reports.notebook.view` gives."""

    _esm = script()
    _css = style()
    about = traitlets.Dict(allow_none=True, default_value=None).tag(sync=True)
    """Maps and groups; None where they are too large for the state and are sent like the rest."""

    def __init__(self, content: Content, static: str, *, table: bool = False) -> None:
        """Args:
        content: what is shown.
        static: HTML for hosts without scripts.
        table: whether the viewer, too, has this HTML, below the maps.
        """
        about = {
            **page_data(content),
            "title": shortened(visible(content.title, limit=240)),
            "finding": visible(content.verdict[0], limit=900) if content.verdict else "",
            "table": table,
        }
        self._content, self._static, self._whole = content, static, json.dumps(about, allow_nan=False)
        super().__init__(about=about if len(self._whole.encode()) <= MOST_STATE else None)
        self.on_msg(self._answer)

    def _repr_html_(self) -> str:
        return self._static

    def text(self, name: str) -> str | None:
        """A text that the viewer asks for by its name, deflated and in base64; None if there is none of that name."""
        if name in ("about", "table"):
            return deflated((self._whole if name == "about" else self._static).encode())
        for example in self._content.examples:
            if name == f"example-{example.number}":
                return deflated(render_example(self._content, example).encode())
        return self._numbers.get(name)

    @cached_property
    def _numbers(self) -> dict[str, str]:
        return page_blobs(self._content)

    def _answer(self, widget: object, content: Any, buffers: object) -> None:
        """Answer a message of the viewer; what else comes over the wire is left alone."""
        if (
            isinstance(content, dict)
            and content.get("kind") == "headwise"
            and isinstance(content.get("name"), str)
        ):
            name = content["name"]
            self.send({"kind": "headwise", "name": name, "text": self.text(name)})
