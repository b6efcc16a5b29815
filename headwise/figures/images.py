"""Figures as files for print: SVG and PNG, drawn by kaleido in a browser without network."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

SCALE = 3
"""Pixels of a PNG per pixel of the figure: about 325 to the inch at the width of a paper."""
SECONDS = 60
"""How long a browser may take for one figure."""
_NOWHERE = "http://127.0.0.1:9"
"""A proxy that does not answer: Chromium calls its maker when it starts, and this keeps it from that."""


def image(figure: go.Figure, kind: str) -> bytes:
    """The figure as the bytes of a file.

    The browser loads the script of the plotly package, no MathJax, and nothing from the network, and is closed again.

    Args:
        figure: what is drawn, in the size its layout states.
        kind: "svg" or "png".

    Raises:
        InputError: kaleido or a browser is missing, or the browser failed.
    """
    kaleido = kaleido_for(kind)
    page = kaleido.PageGenerator(mathjax=False)
    browser = {"page_generator": page, "proxy_server": _NOWHERE, "timeout": SECONDS}
    options = {"format": kind, "scale": SCALE if kind == "png" else 1}
    try:
        with ThreadPoolExecutor(1) as pool:  # a notebook has a running event loop of its own
            return pool.submit(
                lambda: asyncio.run(kaleido.calc_fig(figure.to_dict(), opts=options, kopts=browser))
            ).result()
    except kaleido.errors.ChromeNotFoundError as error:
        raise InputError(
            f"A figure is written as .{kind} by a browser, and none was found.",
            evidence="Chrome, Chromium, Edge and Brave were looked for",
            remedy="Install Chrome or Chromium (BROWSER_PATH may name it), or save as .html.",
        ) from error
    except (OSError, RuntimeError, TimeoutError, kaleido.errors.KaleidoError) as error:
        raise InputError(
            f"The browser could not draw the figure as .{kind}.",
            evidence=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            remedy="Save as .html, or check that Chrome or Chromium starts.",
        ) from error


def kaleido_for(kind: str) -> Any:
    """The package, in a version that draws with the browser of the system.

    Raises:
        InputError: it is not installed, or too old.
    """
    try:
        import_module("kaleido.errors")  # not there before 1.0
        return import_module("kaleido")
    except ImportError as error:
        raise InputError(
            f"A figure is written as .{kind} by kaleido 1.0 or newer, which is not installed.",
            remedy='pip install "headwise[figures]", or save as .html.',
        ) from error
