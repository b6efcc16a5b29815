"""The keys that a head of each type looks at, for every row of an input."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

WORDS = ("first", "punctuation", "content", "generated")
"""Roles of tokens that can be said again; those that stand for a picture are all the same."""

TYPES: Mapping[str, str] = MappingProxyType(
    {
        "previous": "the token before",
        "next": "the token behind, where rows see it",
        "current": "itself",
        "first": "the first token: a sink",
        "duplicate": "another occurrence of its own token, an earlier one where rows see nothing else",
        "induction": "the token behind such an occurrence",
        "separator": "tokens that end a text, such as [SEP]",
        "punctuation": "punctuation",
        "image": "image positions",
        "audio": "sound positions",
    }
)
"""Type of head -> what it looks at."""
_OWN = ("previous", "next", "current", "duplicate", "induction")
"""Types whose keys are told from the row, so that keys of another tower are none."""
_ROLES = {
    "separator": ("eos", "special"),
    "punctuation": ("punctuation",),
    "image": ("image",),
    "audio": ("audio",),
}


def targets_of(
    tokens: np.ndarray,
    roles: np.ndarray,
    *,
    rows: np.ndarray,
    visible: Bool[Tensor, "query key"],
    cross: bool = False,
) -> dict[str, Bool[Tensor, "query key"]]:
    """For every type, the visible keys that a head of the type looks at; types without a key are left out.

    Args:
        tokens: what stands at every key position, as text or ids; None where it is no token.
        roles: roles of the key positions, padding included.
        rows: absolute position of every row.
        visible: keys that each row may see.
        cross: keys are positions of another tower.

    Example:
        >>> tokens, roles = np.array(["<s>", "a", "b", "a"]), np.array(["bos", "content", "content", "content"])
        >>> seen = torch.ones(4, 4, dtype=torch.bool).tril()
        >>> found = targets_of(tokens, roles, rows=np.arange(4), visible=seen)
        >>> {name: target.nonzero().tolist() for name, target in found.items() if name in ("duplicate", "induction")}
        {'duplicate': [[3, 1]], 'induction': [[3, 2]]}
    """
    real = roles != "padding"
    key = np.arange(len(roles))
    first = int(real.argmax())
    found = {"first": np.broadcast_to(key == first, visible.shape) & (cross | (rows[:, None] != first))}
    for name, wanted in _ROLES.items():
        found[name] = np.broadcast_to(np.isin(roles, wanted), visible.shape)
    if not cross:
        itself = rows[:, None] == key
        found |= {
            "previous": rows[:, None] - 1 == key,
            "next": rows[:, None] + 1 == key,
            "current": itself & (rows[:, None] != first),
        }
        word = np.isin(roles, WORDS) & np.array([token is not None for token in tokens])
        again = word[rows][:, None] & word & (tokens[rows][:, None] == tokens) & ~itself
        behind = np.pad(again & visible.numpy(), ((0, 0), (1, 0)))[:, :-1] & ~itself & real
        found |= {"duplicate": again, "induction": behind}
    seen = {name: torch.from_numpy(np.array(found[name])) & visible for name in TYPES if name in found}
    return {name: target for name, target in seen.items() if target.any()}
