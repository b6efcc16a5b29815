"""FSMT and XLNet: layers take and give the residual with the queries in front of the examples."""

from headwise.families import Family

FAMILY = Family(queries_first=True)
