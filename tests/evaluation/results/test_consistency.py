"""A file that is sealed as it should be, and says what no examples could have given, is refused: number by number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation.comparison._compare import compare
from headwise.evaluation.results.methods import check_interval, check_p
from headwise.evaluation.statistics.estimate import Estimate
from headwise.evaluation.statistics.intervals import wilson
from headwise.evaluation.statistics.paired import Difference
from headwise.evaluation.statistics.paired_intervals import bonett_price
from headwise.fixes import ScaleHeads
from tests.kit.comparisons import SILENT, Next, small_subject
from tests.kit.result_files import rewritten
from tests.kit.stored import STORED

Place = tuple[str | int, ...]


def numbers(value: Any, place: Place = ()) -> Iterator[Place]:
    """Where numbers stand in a file."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield place
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in pairs:
        yield from numbers(part, (*place, name))


def put(content: Any, place: Place, change: Callable[[float], float]) -> None:
    for name in place[:-1]:
        content = content[name]
    content[place[-1]] = change(content[place[-1]])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Callable[[Path], object]]]:
    folder = tmp_path_factory.mktemp("consistent")
    subject, fixes = small_subject(), {"silent": SILENT, "half": ScaleHeads(heads=((0, 0),), factor=0.5)}
    return {
        "comparison": (compare(subject, Next(), fixes, n=12).save(folder / "c.json"), hw.load_comparison),
        "evaluation": (hw.evaluate(subject, Next(), n=12).save(folder / "e.json"), hw.load_evaluation),
    }


def bound(kind: str, content: dict[str, Any]) -> list[Place]:
    """Numbers that the rest of a file decides: not the ends of what is drawn again, times, and facts of the call.

    Of p it decides the steps.
    """
    columns = list(content["columns"])
    scored = {columns.index(name) for name in ("right", "wrong_long")}
    found = []
    for place in numbers(content):
        match place:
            case ("arms", arm, "differences" | "estimates" as part, number, "low" | "high"):
                method = content["arms"][arm][part][number]["method"]
            case ("estimates", number, "low" | "high"):
                method = content["estimates"][number]["method"]
            case ("examples", _, column):
                method = "Wilson" if column in scored else ""
            case ("arms", _, "cost", "wall" | "cpu") | ("arms", _, "changed" | "repaired" | "broken"):
                method = "Wilson"
            case ("estimates", _, "value" | "n") | ("arms", *_, "value" | "n" | "p" | "p_holm"):
                method = "Wilson"
            case _:
                method = ""
        if (
            method.startswith(("Wilson", "Bonett", "no example"))
            and "groups" not in method
            and "bound" not in method
        ):
            found.append(place)
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", ["comparison", "evaluation"])
def test_no_number_can_be_changed_alone(files, tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path, load = files[kind]
    load(path)
    place = data.draw(st.sampled_from(bound(kind, json.loads(path.read_text(encoding="utf-8")))))
    steps: list[float] = [1e-5, -1e-5, 0.01, -0.01, *([] if place[-1] == "p" else [0.25, 1, -1, 3])]
    by = data.draw(st.sampled_from(steps))
    with pytest.raises(InputError, match=f"no {kind} that"):
        load(rewritten(path, tmp_path / "x.json", lambda content: put(content, place, lambda old: old + by)))


SAID: dict[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "ids": (
        "evaluation",
        lambda file: file["manifest"]["ids"].reverse(),
        "ids are not those of the examples",
    ),
    "empty": ("evaluation", lambda file: file["manifest"]["empty"].update(replies=0), "empty is"),
    "references": ("comparison", lambda file: file["manifest"]["empty"].update(references=2), "empty is"),
    "empty of an arm": (
        "comparison",
        lambda file: file["manifest"]["empty"]["replies"].update(VAR=3),
        "empty is",
    ),
    "groups": (
        "evaluation",
        lambda file: file["manifest"].update(groups="4 examples about 2 texts"),
        "4 examples in 4",
    ),
    "repeated": ("evaluation", lambda file: file["manifest"].update(repeated=4), "repeated is 4 of 4"),
    "unit": (
        "comparison",
        lambda file: file["arms"][1]["estimates"][0].update(unit="points"),
        "another unit or direction",
    ),
    "direction": (
        "comparison",
        lambda file: file["arms"][1]["differences"][0].update(higher_is_better=False),
        "another unit or direction",
    ),
    "a test of no one": (
        "comparison",
        lambda file: file["arms"][1]["differences"][0].update(method="by eye"),
        "p is 1.0, by 'by eye'",
    ),
    "seconds": (
        "comparison",
        lambda file: file["manifest"].update(seconds={"VAR": 4.0}),
        "took 4.0 and 3.0 s",
    ),
    "scores of no column": (
        "comparison",
        lambda file: file["manifest"].update(scores={"accuracy": {"columns": ["none"]}}),
        "no column",
    ),
    "another best": ("search", lambda file: file["manifest"].update(best_trial=1), "best setting is not"),
    "a better trial": (
        "search",
        lambda file: file["trials"][1].__setitem__(-1, 0.9),
        "trial 2 is not the best",
    ),
    "no gain": ("search", lambda file: file["manifest"].update(smallest_effect=0.5), "no better than"),
    "harness": ("harness result", lambda file: file["differences"][0].update(p=0.4), "p is 0.4"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_a_manifest_says_is_asked_of_the_examples(tmp_path: Path, name: str) -> None:
    kind, change, said = SAID[name]
    stored = STORED[f"{kind} .json"]
    stored.write(tmp_path / "a.json")
    stored.read(tmp_path / "a.json")
    with pytest.raises(InputError, match=said):
        stored.read(rewritten(tmp_path / "a.json", tmp_path / "b.json", change))


@settings(max_examples=50)
@given(n=st.integers(2, 5000), part=st.floats(0, 1))
def test_wilsons_interval_says_of_how_many(n: int, part: float) -> None:
    count = round(part * n)
    low, high = wilson(count, n)
    facts = ("share", True, "Wilson")
    check_interval(Estimate("x", count / n, low, high, n, *facts))
    for value, ends, least in ((count / n, (low, high), n - 1), (count / n + 0.4 / n, (low, high), n)):
        with pytest.raises(ValueError, match=r"value is|it has an interval"):
            check_interval(Estimate("x", value, *ends, least, *facts))


@pytest.mark.parametrize(
    ("test", "n", "good", "bad"),
    [
        ("exact permutation test, 8 exchanges", 3, (0.25, 0.375, 1.0), (0.125, 0.3, 0.0)),
        ("exact permutation test, 2 exchanges", 1, (1.0,), (0.5,)),
        ("exact permutation test, 8 exchanges", 2, (), (0.25, 1.0)),
        ("exact permutation test, 12 exchanges", 9, (), (0.25, 1.0)),
        ("permutation test, 9999 random exchanges", 50, (0.0001, 0.5), (0.0, 0.00015)),
        ("no example differs", 50, (), (0.5, 1.0)),
    ],
)
def test_p_that_a_test_can_give(test: str, n: int, good: tuple[float, ...], bad: tuple[float, ...]) -> None:
    def item(p: float) -> Difference:
        return Difference("x", 0.5, 0.1, 0.9, p, p, n, "share", True, f"BCa; {test}")

    for p in good:
        check_p(item(p))
    for p in bad:
        with pytest.raises(ValueError, match=f"p is {p}"):
            check_p(item(p))


@settings(max_examples=50)
@given(n=st.integers(3, 2000), parts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_bonett_and_prices_interval_is_of_whole_pairs(n: int, parts: tuple[float, float]) -> None:
    up = round(parts[0] * n)
    down = round(parts[1] * (n - up))
    low, high = bonett_price(up, down, n)
    item = Difference("x", (up - down) / n, low, high, 1.0, 1.0, n, "share", True, "Bonett-Price; by hand")
    check_interval(item)
    for name in ("low", "high"):
        if abs(getattr(item, name)) < 1:
            with pytest.raises(ValueError, match="value is"):
                check_interval(
                    replace(item, **{name: getattr(item, name) + (1e-5 if name == "low" else -1e-5)})
                )
