"""What a long measurement has found so far, on disk: a run that is stopped goes on where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.errors import InputError
from headwise.files import replacing

DIGEST = "sha256"
_AGREE = 1e-3
"""Nats by which rounding on another machine may change what a model says."""
_SHARE = 0.05
"""Share of the time that writing may take."""


@dataclass(eq=False)
class RunState:
    """Rows that were measured, and of what."""

    path: Path | None
    """The file; None keeps nothing."""
    run: Mapping[str, str]
    """All that the rows depend on, by name."""
    unchanged: Float[Tensor, " column"]
    """What the model says without a change, by which another model is told that has the same name and weights."""
    rows: Float[Tensor, "row column"] = field(init=False)
    _next: float = field(init=False, default=0.0)

    def read(self, most: int) -> None:
        """Take up the rows of a stopped run, of which there are so many at most.

        Raises:
            InputError: the file is damaged, or the run was another one.
        """
        self.rows = torch.empty(0, len(self.unchanged))
        if self.path is None or not self.path.exists():
            return
        found, unchanged, rows = _read(self.path)
        other = [
            f"{name} was {found.get(name, 'nothing')} and is {self.run.get(name, 'nothing')}"
            for name in dict.fromkeys((*self.run, *found))
            if found.get(name) != self.run.get(name)
        ]
        if not other and not torch.allclose(unchanged, self.unchanged, atol=_AGREE):
            far = float((unchanged - self.unchanged).abs().max())
            other = [f"without a change the model says something else by {far:.2g} nats, as with a fix"]
        if other:
            raise InputError(
                "The stopped run was another one.",
                evidence=f"{self.path}: {'; '.join(other)}",
                remedy="Run what it was, or give another folder.",
            )
        if len(rows) > most:
            raise _damaged(self.path, f"it has {len(rows)} rows of {most}")
        self.rows = rows

    def add(self, rows: Float[Tensor, "row column"]) -> None:
        """Add rows, and write all where that is cheap."""
        self.rows = torch.cat([self.rows, rows])
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write all rows, whole or not at all."""
        if self.path is None:
            return
        from safetensors.torch import save_file

        start = time.monotonic()
        with replacing(self.path) as part:
            tensors = {"rows": self.rows, "unchanged": self.unchanged}
            save_file(tensors, part, {**self.run, DIGEST: tensor_digest(tensors)})
        end = time.monotonic()
        self._next = end + (end - start) / _SHARE


def _read(path: Path) -> tuple[dict[str, str], Tensor, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            run = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in ("rows", "unchanged")}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error
    rows, unchanged = tensors["rows"], tensors["unchanged"]
    if run.pop(DIGEST, "") != tensor_digest(tensors) or rows.ndim != 2 or unchanged.shape != rows.shape[1:]:
        raise _damaged(path, "its numbers were changed")
    return run, unchanged, rows


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the names, shapes and values of tensors, which are compared as float32 or as integers.

    Example:
        >>> tensor_digest({"a": torch.ones(2)}) == tensor_digest({"a": torch.ones(1, 2)})
        False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu()
        digest.update((plain.float() if plain.is_floating_point() else plain).contiguous().numpy().tobytes())
    return digest.hexdigest()


def _damaged(path: Path, why: str) -> InputError:
    return InputError(
        "The stopped run is damaged.", evidence=f"{path}: {why}", remedy="Delete the file, and start again."
    )
