"""Specs: fixes as a small file, bound to the model they were made for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headwise._version import __version__
from headwise.errors import FixError
from headwise.files import check_suffix, replacing
from headwise.fixes.binding import bound
from headwise.fixes.spec.file import SCHEMA, Envelope, parse, read
from headwise.fixes.spec.parameters import from_entry, to_entry
from headwise.fixes.spec.written_model import WrittenModel, check_fits, written_model
from headwise.probes.fix_plan import plan_fix
from headwise.readers.checksum import KEY, checksum
from headwise.subject import unwrap
from headwise.text import visible

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject


@dataclass(frozen=True)
class Spec:
    """Fixes that were read from a file, and the model they were made for."""

    fixes: tuple[Any, ...]
    """In the order in which they act."""
    model: WrittenModel
    versions: Mapping[str, str]
    """What the file was written with: headwise, torch, transformers."""
    source: str = ""
    """The file."""
    schema: int = SCHEMA

    def check(self, subject: Subject | PreTrainedModel, *, force: bool = False) -> None:
        """Refuse a model that is not the one the spec was written for.

        Class, family, vocabulary and weights must be the same, and the towers that the fixes act on must have the
        same layers, heads and width. The type that weights are held in does not matter: float32 and bfloat16 of one
        checkpoint are one model. Quantised weights are others.

        Args:
            subject: a `Subject` or a bare transformers model.
            force: accept a model that differs in everything but the shape of these towers.

        Raises:
            FixError: the model differs; both values of everything that does are named.
        """
        described = [(tower.tower, tower.kind) for tower in self.model.towers]
        active = [fix for fix in self.fixes if not plan_fix(fix).neutral]
        check_fits(self.model, written_model(subject, [*described, *_places(active)]), force=force)

    def __repr__(self) -> str:
        named = ", ".join(type(fix).__name__ for fix in self.fixes)
        return visible(f"Spec({named}; for {self.model.name or self.model.architecture}; {self.source})")


def save_spec(path: str | Path, fixes: Any | Iterable[Any], subject: Subject | PreTrainedModel) -> None:
    """Write fixes to a JSON file that patches this model anywhere: `hw.patch(subject, "winner.json")`.

    What a fix leaves to the model is filled in first, so the file is explicit.

    Args:
        path: a `.json` file; one that is there is replaced.
        fixes: one fix or several, in the order in which they act.
        subject: the model they are for.

    Raises:
        FixError: a fix does not fit the model, or cannot be written: it holds a tensor, is not registered.
        NotFitted: constants of a fix are missing.
        InputError: the path cannot be written to.

    Example:
        >>> import tempfile, headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_spec(f"{folder}/winner.json", hw.fixes.ZeroHeads(heads=((0, 1),)), model)
        ...     load_spec(f"{folder}/winner.json").fixes
        (ZeroHeads(heads=((0, 1),), tower=None, kind='self'),)
    """
    target = Path(path)
    check_suffix(target, (".json",), what="a spec")
    text = spec_text(fixes, subject)
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8")


def spec_text(fixes: Any | Iterable[Any], subject: Subject | PreTrainedModel) -> str:
    """What `save_spec` writes.

    Raises:
        FixError: a fix does not fit the model, or cannot be written.
        NotFitted: constants of a fix are missing.
    """
    model, _ = unwrap(subject)
    ready = bound(fixes, model)
    active = [fix for fix in ready if not plan_fix(fix).neutral]
    places = _places(active or ready)
    envelope = Envelope(
        versions={
            "headwise": __version__,
            "torch": torch.__version__,
            "transformers": version("transformers"),
        },
        model=written_model(subject, places),
        fixes=tuple(map(to_entry, ready)),
    )
    text = _text(envelope)
    _check_whole(text, ready)
    return text


def load_spec(path: str | Path) -> Spec:
    """Read the fixes in a file. Everything in it is checked; nothing in it is run.

    Fixes are found by their registered names alone, and their parameters go through the checks of their classes.

    Raises:
        InputError: there is no such file, it is too large, or it names a fix that does not exist.
        FixError: it is not a spec, a newer one, or holds a value that a fix does not take.
    """
    envelope = read(path)
    fixes = tuple(map(from_entry, envelope.fixes))
    return Spec(fixes, envelope.model, dict(envelope.versions), str(path), envelope.version)


def fixes_of(path: str | Path, subject: Subject | PreTrainedModel, *, force: bool = False) -> tuple[Any, ...]:
    """The fixes in a file that was written for this model.

    Raises:
        InputError: as `load_spec`.
        FixError: as `load_spec`, and where the model is another one (see `Spec.check`).
    """
    spec = load_spec(path)
    spec.check(subject, force=force)
    return spec.fixes


def _places(fixes: Iterable[Any]) -> list[tuple[str | None, str]]:
    """Tower and kind that every fix acts on; None is the language (or decoder) tower."""
    return [(plan.tower, plan.kind) for plan in map(plan_fix, fixes)]


def _text(envelope: Envelope) -> str:
    """JSON with its checksum, to be read by people too: a list of numbers, or of such lists, stays on one line."""
    content = envelope.model_dump(by_alias=True, mode="json")
    content[KEY] = checksum(content)
    text = json.dumps(content, indent=1, allow_nan=False)
    numbers = r"\[\n[\s\d.,eE+nul\[\]-]*\]"  # no string holds a line break
    flat = re.sub(numbers, lambda match: "".join(match[0].split()).replace(",", ", "), text)
    return f"{flat}\n"


def _check_whole(text: str, fixes: tuple[Any, ...]) -> None:
    """Refuse to write what would not come back as it is."""
    again = parse(text.encode("utf-8"), where="what would be written")
    for entry, fix in zip(again.fixes, fixes, strict=True):
        returned = from_entry(entry)
        if returned != fix:
            raise FixError(
                f"{type(fix).__name__} cannot be in a spec.",
                evidence=f"it comes back as {visible(repr(returned), limit=200)}",
                remedy="Install it from Python with hw.patch.",
            )
