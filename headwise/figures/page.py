"""A figure as one HTML file: it loads nothing, and says below what it shows and where that comes from."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwise.figures.tables import table
from headwise.text import visible

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    from jinja2 import Environment

_DRAW = """
const figure = JSON.parse(document.getElementById("data").textContent);
Plotly.newPlot("figure", figure.data, figure.layout, {displaylogo: false, typesetMath: false});
"""


def figure_page(
    figure: go.Figure,
    *,
    title: str,
    summary: str,
    tables: Sequence[tuple[str, pd.DataFrame]],
    provenance: Mapping[str, Any],
    description: str = "",
    static: str = "",
) -> str:
    """The page.

    All text is escaped; a content security policy lets only the page's own two scripts run and forbids every
    connection.

    Args:
        figure: drawn when the page opens.
        title: of the page.
        summary: the finding.
        tables: what each shows, and the rows, all of which are written.
        provenance: where the finding comes from.
        description: how to read the numbers.
        static: HTML without scripts that stands in for the figure where none run.
    """
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    scripts = (get_plotlyjs(), _DRAW)
    return (
        templates("headwise.figures")
        .get_template("figure.html.j2")
        .render(
            policy=policy(scripts),
            title=visible(title),
            summary=visible(summary),
            description=visible(description),
            alt=f"{visible(title, limit=200)}: the numbers are in the table below",
            static=Markup(static),
            tables=[(name, Markup(table(frame))) for name, frame in tables],
            provenance=[(visible(name), visible(_text(value))) for name, value in provenance.items()],
            figure=Markup(json_for_script(json.loads(figure.to_json()))),
            plotly=Markup(scripts[0]),
            draw=Markup(scripts[1]),
        )
    )


def templates(package: str) -> Environment:
    """The templates of a package; everything that is not markup is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def json_for_script(value: Any) -> str:
    r"""JSON that can stand inside a `<script>` element: `<`, `>` and `&` are written as escapes.

    Example:
        >>> json_for_script("</script>")
        '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def policy(scripts: Sequence[str], *, also: Sequence[str] = ()) -> str:
    """A content security policy that lets these scripts run, styles and pictures of the page, and nothing else.

    Args:
        scripts: the texts of the page's own scripts.
        also: other sources of scripts, as a policy names them.

    Example:
        >>> policy(["1"])
        "default-src 'none'; script-src 'sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s='; ... img-src data:"
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join([*(f"'sha256-{digest}'" for digest in hashes), *also]) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
