"""Clusters of profiles: planted families are found, chance is chance, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from headwise import analyses
from headwise.analyses import HEAD, Result, profile_clusters
from headwise.errors import InputError
from headwise.functional.clustering import adjusted_rand


def profiles(values: np.ndarray, name: str = "peak") -> Result:
    """A result with a row of heads for every example."""
    rows = [(e, "text", "self", 0, 0, h, v) for e, row in enumerate(values) for h, v in enumerate(row)]
    frame = pd.DataFrame(rows, columns=[*HEAD, name])
    return Result(
        name=name,
        kind="heads",
        keys=HEAD,
        value=name,
        unit="anything",
        frame=frame,
        description="",
        summary="",
        provenance={},
    )


def planted(apart: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 0.05, (9, 6))
    return noise + apart * np.repeat(np.eye(3, 6), 3, axis=0)


LABELS = [label for label in "abc" for _ in range(3)]


def test_planted_families_are_found() -> None:
    found = profile_clusters(profiles(planted(1.0)), LABELS, trials=199)
    groups = found.frame.groupby("label")["cluster"].unique()
    assert sorted(int(group[0]) for group in groups if len(group) == 1) == [0, 1, 2]
    assert "adjusted Rand index with the labels 1.00, p = 0.0" in found.summary
    within = found.frame[(found.frame["item"] == "0") & (found.frame["other"] == "1")]
    values = planted(1.0)
    assert within["distance"].item() == pytest.approx(np.linalg.norm(values[0] - values[1]))
    found.plot()


def test_labels_that_mean_nothing_are_chance() -> None:
    found = profile_clusters(profiles(planted(0.0)), LABELS, trials=199).summary
    p = [float(part.split(" ")[0]) for part in found.split("p = ")[1:]]
    assert min(p) > 0.05


def test_one_result_for_each_item_is_the_mean_of_its_examples() -> None:
    values = planted(1.0)
    several = {f"item {n}": profiles(values[[n, n]]) for n in range(9)}
    one, other = profile_clusters(profiles(values)), profile_clusters(several)
    np.testing.assert_allclose(one.frame["distance"], other.frame["distance"])
    assert other.frame["item"].str.startswith("item").all()


def test_adjusted_rand_by_hand() -> None:
    """Pairs together in both: 1; expected 2 x 1 / 6 of the pairs; the largest (2 + 1) / 2."""
    one, other = torch.tensor([0, 0, 1, 1]), torch.tensor([1, 1, 0, 2])
    assert adjusted_rand(one, other) == pytest.approx((1 - 2 / 6) / (1.5 - 2 / 6))
    assert adjusted_rand(one, torch.tensor([5, 5, 2, 2])) == 1.0
    assert adjusted_rand(one, torch.tensor([0, 1, 0, 1])) == pytest.approx(-0.5)


def test_refused() -> None:
    good = profiles(planted(1.0))
    wrong = [
        (({},), "one number per head"),
        (({"a": good, "b": profiles(planted(1.0), "other")},), "of one analysis"),
        ((profiles(planted(1.0)[:2]),), "three items or more"),
        ((good, ["a"] * 9), "not all the same"),
        ((good, ["a", "b"]), "9 items, 2 labels"),
    ]
    for given, message in wrong:
        with pytest.raises(InputError, match=message):
            profile_clusters(*given)
    for options in ({"clusters": 1}, {"clusters": 10}, {"trials": 0}):
        with pytest.raises(InputError, match="clusters="):
            profile_clusters(good, LABELS, **options)
    assert "profile_clusters" not in analyses.names()
