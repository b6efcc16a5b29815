"""The page: one HTML file that holds its text, style, figures and scripts, and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.files import replacing
from headwise.reports.content import Content, show, tick
from headwise.reports.figures import gradient, head_map
from headwise.text import token_text, visible

if TYPE_CHECKING:
    from jinja2 import Environment


def render(content: Content) -> str:
    """The content as one self-contained HTML document.

    All text is escaped by the template; a content security policy lets only the page's own two scripts run
    and forbids every connection.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = (get_plotlyjs(), asset("report.js")) if content.metrics else ()
    figures = {
        f"map-{outer}-{inner}": head_map(panel, metric)
        for outer, metric in enumerate(content.metrics)
        for inner, panel in enumerate(metric.panels)
    }
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            sections=_sections(content),
            gradient=gradient(),
            policy=_policy(scripts),
            style=Markup(asset("report.css")),
            figures=Markup(json_for_script(figures)),
            scripts=[Markup(script) for script in scripts],
        )
    )


def write_page(content: Content, path: str | Path) -> Path:
    """Write the page whole or not at all.

    Raises:
        InputError: when the folder of `path` does not exist.
    """
    with replacing(path) as part:
        part.write_text(render(content), encoding="utf-8")
    return Path(path)


def json_for_script(value: Any) -> str:
    r"""JSON that can stand inside a `<script>` element: `<`, `>` and `&` are written as escapes.

    Example:
        >>> json_for_script("</script>")
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def environment() -> Environment:
    """The templates, with everything escaped that is not markup, and the filters that show values."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("headwise.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        show=show,
        tick=tick,
        visible=visible,
        token=token_text,
        percent=lambda share: f"{100 * min(max(share, 0.0), 1.0):.1f}%",
        lines=lambda text: "\n".join(visible(line) for line in text.split("\n")),
    )
    return environment


def _sections(content: Content) -> list[tuple[str, str]]:
    sections = [("verdict", "Verdict"), ("warnings", "Warnings")]
    sections += [("maps", "Maps")] if content.metrics else []
    sections += [(table.key, table.title) for table in content.tables]
    sections += [("input", "Input")] if content.examples else []
    return [*sections, ("provenance", "Provenance")]


def _policy(scripts: tuple[str, ...]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return files("headwise.reports").joinpath("templates", name).read_text(encoding="utf-8")
