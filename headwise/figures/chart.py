"""Tables that know what they are: which columns name a row, which one is drawn, and along which axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, isfinite, log10
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.errors import InputError
from headwise.figures.cell import Map
from headwise.figures.labels import counted, model_name, said
from headwise.figures.numbers import check_numbers
from headwise.text import head_name
from headwise.units import range_of

if TYPE_CHECKING:
    import pandas as pd

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "heads": ("layer", "head"),
        "classes": ("layer", "head"),
        "layers": ("layer",),
        "positions": ("position",),
        "matrix": (),
        "curve": (),
        "edges": ("sender", "receiver"),
        "rows": (),
        "difference": ("metric", "arm"),
    }
)
"""Kind -> the columns that are its axes; a matrix and a curve name theirs.

`heads`: one number per head, layers down and heads across. `classes`: one word per head. `layers`: one number per
layer. `positions`: one number per token. `matrix`: two columns as rows and columns of a map. `curve`: a number over
another one. `edges`: from a sender to a receiver. `rows`: one number per named thing. `difference`: arms of a
comparison.
"""
AXES = {"matrix": 2, "curve": 1}
"""How many columns such a kind names."""
AVERAGED = ("heads", "classes", "layers", "curve")
"""Kinds whose rows mean the same in every example, so that examples are averaged where they are drawn."""
EXAMPLE = ("example", "id")
"""Columns that name an example, by its number and by the user's own name."""
MOST = 10_000
"""Layers, or heads of a layer, that no model has; a map has room for every number up to its largest."""


@dataclass(frozen=True)
class Panel(Map):
    """One map of a chart: the values of one tower and kind, or of one example."""

    names: tuple[str, ...]
    """What tells this panel from the others, in the order of the key columns."""
    part: pd.DataFrame = field(repr=False)
    """The rows behind it, examples apart."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A table with what is needed to draw it.

    Raises:
        InputError: an unknown kind, a column that the frame does not have, or two rows with one name.

    Example:
        >>> import pandas as pd
        >>> frame = pd.DataFrame({"layer": [0, 0], "head": [0, 1], "rank": [3, 1]})
        >>> chart = Chart(name="rank", kind="heads", keys=("layer", "head"), value="rank", unit="rank", frame=frame)
        >>> chart.panels()[0].grid.to_numpy().tolist()
        [[3.0, 1.0]]
    """

    name: str
    """Name of what was found."""
    kind: str
    """One of `KINDS`."""
    keys: tuple[str, ...]
    """The columns that together name a row; all others say something about it."""
    value: str
    """The column that carries the finding, and is drawn."""
    unit: str
    """Unit of `value`."""
    frame: pd.DataFrame
    """Tidy table; without rows where nothing was found."""
    axes: tuple[str, ...] = ()
    """The key columns along which it is drawn; those of the kind unless it leaves them open."""
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Where it comes from."""

    def __post_init__(self) -> None:
        """Check that the table is of its kind."""
        import pandas as pd

        if not isinstance(self.frame, pd.DataFrame):
            raise InputError(
                f"{self.name}: there is no table, but {type(self.frame).__name__}.",
                remedy="The table of a result is a pandas.DataFrame.",
            )
        if self.kind not in KINDS:
            raise InputError(
                f"{self.name}: there is no kind of result {self.kind!r}.",
                remedy=f"Use one of {', '.join(KINDS)}.",
            )
        object.__setattr__(self, "keys", tuple(self.keys))
        object.__setattr__(self, "axes", KINDS[self.kind] or tuple(self.axes))
        if len(self.axes) != AXES.get(self.kind, len(self.axes)):
            raise InputError(
                f"{self.name}: a {self.kind} names {counted(AXES[self.kind], 'column')} as axes.",
                evidence=f"axes={self.axes}",
                remedy='Name key columns, such as axes=("query", "key").',
            )
        missing = [
            name for name in dict.fromkeys((*self.keys, *self.axes, self.value)) if name not in self.frame
        ]
        if missing or not set(self.axes) <= set(self.keys):
            lacking = missing or [name for name in self.axes if name not in self.keys]
            raise InputError(
                f"{self.name}: {'the table has no column' if missing else 'the keys leave out the axis'} "
                f"{', '.join(map(repr, lacking))}.",
                evidence=f"columns: {', '.join(map(str, self.frame))}; keys: {', '.join(self.keys)}",
                remedy=f"A result of kind {self.kind!r} has the key columns {', '.join(self.axes) or 'of its rows'}; "
                "`value` names one of the others.",
            )
        if self.kind != "classes" and len(self.frame) and not self.numeric:
            raise InputError(
                f"{self.name}: {self.value!r} holds no numbers.", remedy='Words per head are kind="classes".'
            )
        if self.numeric:
            facts = {"kind": self.kind, "value": self.value, "unit": self.unit}
            check_numbers(self.frame, name=self.name, **facts)
        nameless = [name for name in self.keys if self.frame[name].isna().any()]
        if nameless:
            raise InputError(
                f"{self.name}: {counted(int(self.frame[nameless[0]].isna().sum()), 'row')} without a name.",
                evidence=f"the key column {nameless[0]!r} has missing values",
                remedy="Drop these rows, or give them a name.",
            )
        for name in {"layer", "head"} & set(self.axes) if len(self.frame) else ():
            numbers = self.frame[name]
            if numbers.dtype.kind not in "iu" or not 0 <= numbers.min() <= numbers.max() < MOST:
                raise InputError(
                    f"{self.name}: the column {name!r} holds no numbers of {name}s.",
                    evidence=f"{numbers.iloc[0]!r} to {numbers.iloc[-1]!r} of {numbers.dtype}",
                    remedy=f"Number {name}s from 0; rows with other names are kind='rows' or kind='matrix'.",
                )
        double = self.frame.duplicated(list(self.keys)) if self.keys else None
        if double is not None and double.any():
            row = self.frame.loc[double, list(self.keys)].iloc[0].to_dict()
            raise InputError(
                f"{self.name}: two rows have the same name.",
                evidence=", ".join(f"{name} {value}" for name, value in row.items()),
                remedy="Add the column that tells them apart to `keys`.",
            )

    @property
    def numeric(self) -> bool:
        """True when the values are numbers, and there is one."""
        return len(self.frame) > 0 and self.frame[self.value].dtype.kind in "iufb"

    @property
    def examples(self) -> int:
        """Examples behind the table; 0 where its rows belong to none."""
        return self.frame["example"].nunique() if "example" in self.keys else 0

    @property
    def groups(self) -> list[str]:
        """Key columns that are neither axes nor examples that are averaged: one panel for each of their values."""
        left_out = {*self.axes, *(EXAMPLE if self.kind in AVERAGED else ())}
        if "layer" in self.axes:
            left_out.add("call")
        return [name for name in self.keys if name not in left_out]

    def mean(self) -> pd.DataFrame:
        """The numbers averaged over examples, whole ones too; words are left out.

        Raises:
            InputError: when the rows are positions, cells or edges, which differ from example to example.
        """
        if self.kind not in AVERAGED and "example" in self.keys:
            what = {"positions": "positions", "matrix": "cells of a matrix", "edges": "edges"}.get(
                self.kind, "rows"
            )
            raise InputError(
                f"The rows of {self.name} are {what}, not heads: no mean over examples makes sense.",
                remedy="Use .frame.",
            )
        keys = [name for name in self.keys if name not in EXAMPLE]
        values = [name for name in self.frame.select_dtypes(["number", "bool"]) if name not in self.keys]
        numbers = self.frame[[*keys, *values]].astype(dict.fromkeys(values, float))
        return numbers.groupby(keys, sort=False, dropna=False)[values].mean().reset_index()

    def panels(self) -> list[Panel]:
        """The maps of a table whose kind is drawn as such: one per tower and kind, and per what else names its rows."""
        frame = _classes(self) if self.kind == "classes" else self.frame
        groups = [*self.groups, *([self.value] if self.kind == "classes" else [])]
        down, across = self.axes
        frame = frame.assign(**{down: layer_names(frame)}) if down == "layer" else frame
        value = SHARE if self.kind == "classes" else self.value
        found = []
        for names, part in frame.groupby(groups, sort=False, dropna=False) if groups else [((), frame)]:
            grid = part.pivot_table(index=down, columns=across, values=value, sort=False, dropna=False)
            grid = grid.astype(float)
            if across == "head":  # those that were not kept have their place
                grid = grid.reindex(columns=range(int(max(grid.columns)) + 1))
            elif all(isinstance(column, int | float | np.number) for column in grid.columns):
                grid = grid[sorted(grid.columns)]
            named = tuple(map(str, names))
            found.append(Panel(_title(groups, named), grid, named, part))
        return found

    def scale(self) -> tuple[float, float]:
        """The ends of the scale: the whole range of the unit, else 0 to a round number, or about 0."""
        if self.kind == "classes":
            return 0.0, 1.0
        if isfinite(range_of(self.unit)[1]):
            return range_of(self.unit)
        shown = self.mean() if self.kind in AVERAGED and len(self.frame) else self.frame
        values = shown[self.value].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        high = round_up(float(np.abs(values).max(initial=0.0)))
        return (-high if (values < 0).any() else 0.0), high

    def title(self) -> str:
        """Name, value and unit; what says the same is said once."""
        name, value = said(self.name), said(self.value)
        whole = name if value in name else value if name in value else f"{name}: {value}"
        return f"{whole[:1].upper()}{whole[1:]} ({self.unit})"

    def about(self) -> str:
        """The model and the number of examples, for below the title."""
        known = [model_name(self.provenance)]
        if self.examples:
            mean = self.kind in AVERAGED and self.examples > 1
            known.append(f"{'mean over ' if mean else ''}{counted(self.examples, 'example')}")
        if "triples" in self.frame and len(self.frame):
            low, high = self.frame["triples"].min(), self.frame["triples"].max()
            per = f"{low}" if low == high else f"{low} to {high}"
            known.append(f"n = {per} (example, head) pairs per cell")
        return ", ".join(filter(None, known))


SHARE = "share of examples"
"""The value that maps of classes show."""


def layer_names(frame: pd.DataFrame) -> pd.Series:
    """The layer of every row, with its call where a layer is called more than once."""
    layer = frame["layer"].astype(str)
    if "call" in frame and frame["call"].any():
        return layer + "." + frame["call"].astype(str)
    return layer


def round_up(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 6, 8 times a power of ten; 1 for 0.

    Example:
        >>> round_up(0.037), round_up(7.2), round_up(0.0)
        (0.04, 8.0, 1.0)
    """
    if not value > 0 or not isfinite(value):
        return 1.0
    power = 10.0 ** floor(log10(value))
    rounded = (step * power for step in (1, 2, 3, 4, 5, 6, 8, 10))
    return next((end for end in rounded if value <= end * (1 + 1e-9) and isfinite(end)), value)


def _title(groups: list[str], names: tuple[str, ...]) -> str:
    """Tower and kind, then what else names a panel; numbers behind the name of their column."""
    known = dict(zip(groups, names, strict=True))
    site = " ".join(known.pop(group) for group in ("tower", "kind") if group in known)
    heads = [head_name(known.pop("layer"), known.pop("head"))] if {"layer", "head"} <= known.keys() else []
    others = [
        f"{said(group)} {name}" if name.lstrip("-").isdigit() else name for group, name in known.items()
    ]
    return ": ".join(filter(None, (site, ", ".join([*heads, *others]))))


def _classes(chart: Chart) -> pd.DataFrame:
    """Per head and class, the share of examples in which the head is of that class."""
    keys = [name for name in chart.keys if name not in EXAMPLE]
    counts = chart.frame.groupby([*keys, chart.value], sort=False).size().rename("of").reset_index()
    whole = counts.groupby(keys, sort=False)["of"].transform("sum")
    shares = counts.assign(**{SHARE: counts["of"] / whole}).drop(columns="of")
    every = shares[chart.value].unique()
    heads = shares[keys].drop_duplicates().merge(shares[[chart.value]].drop_duplicates(), how="cross")
    full = heads.merge(shares, how="left").fillna({SHARE: 0.0})
    order = {word: place for place, word in enumerate(every)}
    return full.sort_values(chart.value, key=lambda words: words.map(order), kind="stable")
