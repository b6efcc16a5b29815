"""Writing specs: fixes of other packages by their registered names, and nothing of what cannot be written."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import headwise as hw
from headwise import fixes
from headwise.fixes.spec.specs import load_spec, save_spec
from tests.fixes.spec.test_specs import LLAVA, ZERO


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "winner.json"


@dataclass(frozen=True, kw_only=True)
class Halve:
    """Halves some heads; registered by a test."""

    heads: tuple[tuple[int, int], ...]
    note: Any = None
    by: float = field(default=0.5, init=False)

    def scale(self, z: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        """Half of the heads' outputs."""
        return z * 0.5


class Bare:
    """A fix that is no dataclass."""

    def scale(self, z: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        """As it is."""
        return z


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halve and Bare, as if a package had registered them."""
    from importlib.metadata import EntryPoint

    module = types.ModuleType("their_fixes")
    vars(module).update(Halve=Halve, Bare=Bare)
    monkeypatch.setitem(sys.modules, "their_fixes", module)
    points = [
        EntryPoint("bare", "their_fixes:Bare", "headwise.fixes"),
        EntryPoint("broken", "no_such_package:Fix", "headwise.fixes"),
        EntryPoint("halve", "their_fixes:Halve", "headwise.fixes"),
    ]
    monkeypatch.setattr(
        "headwise.plugins.entry_points", lambda group: points if group == "headwise.fixes" else []
    )


def test_fixes_of_other_packages_are_written_by_their_registered_name(path: Path, registered: None) -> None:
    fix = Halve(heads=((0, 1),))
    save_spec(path, fix, LLAVA)
    assert json.loads(path.read_text())["fixes"] == [
        {"fix": "halve", "parameters": {"heads": [[0, 1]], "note": None}}
    ]
    assert load_spec(path).fixes == (fix,)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        (fixes.Replace(quantity="z", layer=0, value=torch.zeros(1, 1, 4, 4)), "Tensor"),
        (Halve(heads=((0, 1),), note={1, 2}), "set"),
        (Halve(heads=((0, 1),), note=float("nan")), "nan"),
        (Halve(heads=((0, 1),), note={0: "a"}), "holds a dict"),
        (Halve(heads=((0, 1),), note=(1, 2)), "comes back as"),
        (Halve(heads=((0, 1),), note=2**60), "out of range"),
        (Halve(heads=((0, 1),), note="\ud800"), "half of a character"),
        (Halve(heads=((0, 1),), note=[0] * 100_000), "more than 100,000 values"),
        (Bare(), "not a dataclass"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_written_is_refused_with_the_reason(
    fix: Any, said: str, path: Path, registered: None
) -> None:
    with pytest.raises(hw.FixError, match=said):
        save_spec(path, fix, LLAVA)
    assert not path.exists()


def test_a_fix_that_nobody_registered_is_refused(path: Path) -> None:
    with pytest.raises(hw.FixError, match="no fix is registered with this class"):
        save_spec(path, Halve(heads=((0, 1),)), LLAVA)


def test_fixes_that_do_not_fit_the_model_are_not_written(path: Path) -> None:
    for fix in (fixes.ZeroHeads(heads=((9, 0),)), fixes.ZeroHeads(heads=((0, 99),)), object(), []):
        with pytest.raises(hw.FixError):
            save_spec(path, fix, LLAVA)
    with pytest.raises(hw.InputError, match=r"\.json"):
        save_spec(path.with_suffix(".txt"), ZERO, LLAVA)
    with pytest.raises(hw.InputError, match="folder to write into"):
        save_spec(path.parent / "none" / "fix.json", ZERO, LLAVA)
    assert not list(path.parent.iterdir())


def test_a_failed_write_leaves_the_old_spec(path: Path) -> None:
    save_spec(path, ZERO, LLAVA)
    before = path.read_bytes()
    with pytest.raises(hw.FixError):
        save_spec(path, fixes.Replace(quantity="z", layer=0, value=torch.zeros(1, 1, 4, 4)), LLAVA)
    assert path.read_bytes() == before
