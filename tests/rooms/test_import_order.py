"""Who imports whom: rooms stand in one order (contracts in pyproject.toml), and modules do not hang in circles."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

grimp = pytest.importorskip("grimp", reason="comes with import-linter")
CONTRACTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["importlinter"]
ABOVE_ALL = {"__main__", "_version"}
ROOM = "probes.engine."
"""The room whose modules are one thing: instrumentation, its hooks and what they call."""

OPEN = ()
"""Circles that are still to be opened: a line goes when its circle goes, and none is added."""


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("headwise")


def circles(graph) -> list[set[str]]:
    """Modules that import one another, at run time, inside functions or for types, by whatever way."""
    names = sorted(graph.modules)
    number = {name: index for index, name in enumerate(names)}
    arrows = [(number[a], number[b]) for a in names for b in graph.find_modules_directly_imported_by(a)]
    rows, columns = np.array(arrows).T
    matrix = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(names), len(names)))
    count, labels = connected_components(matrix, directed=True, connection="strong")
    parts = [{names[index] for index in np.flatnonzero(labels == label)} for label in range(count)]
    return [part for part in parts if len(part) > 1]


def test_circles_stay_within_one_room_of_probes(graph):
    found = [{name.removeprefix("headwise.") for name in part} for part in circles(graph)]
    outside = [part for part in found if not all(name.startswith(ROOM) for name in part)]
    assert [sorted(part) for part in outside if not any(part <= known for known in OPEN)] == []


def test_a_circle_is_found():
    graph = grimp.ImportGraph()
    for one, other in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")):
        graph.add_import(importer=one, imported=other)
    assert circles(graph) == [{"a", "b", "c"}]


def test_every_room_has_its_place_in_the_order(graph):
    (order,) = (one for one in CONTRACTS["contracts"] if one["type"] == "layers" and "containers" not in one)
    listed = {name.strip() for layer in order["layers"] for name in layer.replace(":", "|").split("|")}
    rooms = {f"headwise.{child}" for child in {name.split(".")[1] for name in graph.modules if "." in name}}
    rooms |= set(graph.find_children("headwise.probes"))
    rooms -= {"headwise.probes", *(f"headwise.{name}" for name in ABOVE_ALL)}
    assert rooms == listed
