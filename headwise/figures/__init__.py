"""What figures share: colours, small pictures, the plotly template and script, and files."""

from headwise.figures.colours import CATEGORIES, CIVIDIS, DIVERGING
from headwise.figures.pixels import data_uri, map_png

__all__ = ["CATEGORIES", "CIVIDIS", "DIVERGING", "data_uri", "map_png"]
