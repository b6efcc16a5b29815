"""The script that draws figures on pages: plotly.js without its maps and 3-D plots, shipped with headwise.

The partial build `cartesian` holds heat maps, scatter, bars, histograms, boxes and contours. `headwise/reports/assets`
says where it comes from and how it is renewed.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

PLOTLY_VERSION = "4.1.1"
"""Of plotly.js; its first number is that of the plotly.js the Python package writes figures for."""
SHA256 = "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a"
"""Of the shipped file."""
CDN = f"https://cdn.plot.ly/plotly-cartesian-{PLOTLY_VERSION}.min.js"
"""The same build on plotly's own server."""
INTEGRITY = "sha384-zc4SwKObGL/W0M3RUI09UPWjlgIZHfbwMgcZO6713mRh78tfUmIQKhzCyE2LIiUg"
"""For the `integrity` attribute of a script element that loads `CDN`: browsers run the shipped script or none."""
FILE = "plotly-cartesian.min.js"


@cache
def plotly_script() -> str:
    """The script as text, to be written into a page.

    Example:
        >>> plotly_script()[:60].splitlines()[1]
        '* plotly.js (cartesian - minified) v4.1.1'
    """
    return files("headwise.reports").joinpath("assets", FILE).read_text(encoding="utf-8")
