"""The room of formulas: it knows tensors, and nothing of headwise but itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import headwise.functional
from headwise.functional.induction import induction_score

FILES = sorted(Path(str(headwise.functional.__file__)).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_formulas_import_nothing_of_ours(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    ours = {name for name in imported if name.startswith("headwise")}
    assert all(name.startswith("headwise.functional.") for name in ours)
    assert {name.partition(".")[0] for name in imported - ours} <= {
        *("__future__", "collections", "types", "typing", "math", "numpy", "torch", "jaxtyping")
    }


def test_induction_by_hand() -> None:
    """Two copies of a b c behind a start token: b of the second copy looks at c of the first with 0.6."""
    pattern = torch.zeros(2, 7, 7)
    pattern[0, 4, 2] = pattern[0, 5, 3] = pattern[0, 6, 4] = 0.6  # one behind the first occurrence
    pattern[1, 4, 1] = pattern[1, 5, 2] = pattern[1, 6, 3] = 1.0  # the first occurrence itself
    scores = induction_score(pattern, period=3, first=4)
    torch.testing.assert_close(scores, torch.tensor([0.6, 0.0]))
