"""Both readings of a question, and how far apart they are: per head, at every position that predicts the reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from headwise.analyses._divergence.parts import Without
from headwise.analyses._divergence.removal import How, Reading, without
from headwise.analyses.inputs import as_examples, as_subject
from headwise.errors import InputError
from headwise.fixes.patching import patch
from headwise.functional.divergence import (
    Deviation,
    head_divergence,
    jensen_shannon,
    total_variation,
    without_outliers,
    written_divergence,
)
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.capture import capture
from headwise.probes.projection import Projection, output_projections
from headwise.probes.reply import Question, question
from headwise.subject.languages import in_languages

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

PatternDistance = Literal["jensen_shannon", "total_variation"]
OutputDistance = Literal["plain", "relative", "cosine"]
Distance = Literal["plain", "relative", "cosine", "written", "jensen_shannon", "total_variation"]
PATTERNS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "jensen_shannon": jensen_shannon,
    "total_variation": total_variation,
}
_EXTRA = ("instead", "context")
"""What an example may say beside the keywords of `Subject.prepare` and its reply."""


@dataclass(frozen=True)
class Settings:
    """What is taken away, and how the difference is measured."""

    without: Without | None
    how: How | None
    distance: Distance
    generate: int
    zero_outliers: bool = False
    deviation: Deviation = "sample"

    def check(self) -> None:
        """Refuse what cannot be measured.

        Raises:
            InputError: outliers of patterns, of which the paper's rule says nothing.
        """
        if self.zero_outliers and self.distance in PATTERNS:
            raise InputError(
                "Outliers are told by the outputs of heads, not by their patterns.",
                evidence=f"distance={self.distance!r}",
                remedy="Leave zero_outliers out, or use another distance.",
            )


@dataclass(frozen=True, eq=False)
class Divergences:
    """Divergences of an example."""

    question: Question
    reading: Reading
    by_site: Mapping[Site, Float[Tensor, "token head"]]
    meta: Mapping[str, Any]


def divergences(name: str, subject: Any, data: Any, settings: Settings) -> Iterator[Divergences]:
    """The divergences of every example, one after the other, for the analysis of that name.

    Raises:
        InputError: there are no examples, or one lacks what is to be taken away.
    """
    settings.check()
    subject = as_subject(subject, name)
    projections: dict[Site, Projection] | None = None
    for example in as_examples(data, name):
        own, given = in_languages(subject, example)
        extra = {name: given.pop(name) for name in _EXTRA if name in given}
        asked = question(own, given, generate=settings.generate)
        reading = without(asked, extra, settings.without, settings.how)
        if settings.distance == "written" and projections is None:
            projections = output_projections(own, asked.inputs)[0]
        yield _measured(asked, reading, settings, projections)


def _measured(
    asked: Question, reading: Reading, settings: Settings, projections: Mapping[Site, Projection] | None
) -> Divergences:
    field = "maps" if settings.distance in PATTERNS else "z"
    first = _captured(asked, asked.inputs, (), field)
    second = _captured(asked, reading.inputs, reading.fixes, field)
    sites = [site for site in first.sites if field in first.records[site]]
    gone = [str(site) for site in sites if field not in second.records.get(site, {})]
    if gone or not sites:
        raise InputError(
            f"Without its {reading.what} the model does not run all of its attention.",
            evidence=", ".join(gone) or f"no {field} was seen",
            remedy='Use how="blank".',
        )
    values = {}
    for site in sites:
        one, two = (trace.records[site][field] for trace in (first, second))
        if field == "maps":
            source = key_tower(site.tower, site.kind, asked.layout.axes)
            values[site] = PATTERNS[settings.distance](one[0], _on_keys_of(one, two, reading, source)[0]).T
        else:
            rows = len(asked.reply)
            values[site] = _of_outputs(one[0, -rows:], two[0, -rows:], site, settings, projections or {})
    meta = dict(first.meta)
    meta["warnings"] = list(dict.fromkeys((*asked.notes, *first.warnings, *second.warnings)))
    return Divergences(asked, reading, values, meta)


def _captured(asked: Question, inputs: Mapping[str, Any], fixes: Sequence[Any], field: str) -> Trace:
    """One reading: the rows that predict the reply are the last."""
    model: Any = asked.subject.model
    keep: dict[str, Any] = {"heads": True} if field == "z" else {"rows": list(range(-len(asked.reply), 0))}
    with (
        patch(asked.subject, fixes) if fixes else nullcontext(),
        capture(asked.subject, stats=False, sites={"tower": asked.tower}, **keep) as trace,
        torch.no_grad(),
    ):
        model(**inputs)
    return trace


def _of_outputs(
    seeing: Float[Tensor, "token head width"],
    blind: Float[Tensor, "token head width"],
    site: Site,
    settings: Settings,
    projections: Mapping[Site, Projection],
) -> Float[Tensor, "token head"]:
    if settings.distance == "written":
        if site not in projections:
            raise InputError(
                f"No output projection takes the head outputs of {site} as they are.",
                remedy='Use distance="plain".',
            )
        found = written_divergence(seeing, blind, projections[site].weight)
    else:
        distance: Any = settings.distance
        found = head_divergence(seeing, blind, distance=distance)
    if settings.zero_outliers:
        found = without_outliers(found, blind.float().square().sum(-1), deviation=settings.deviation)
    return found


def _on_keys_of(pattern: Tensor, other: Tensor, reading: Reading, source: str) -> Tensor:
    """The pattern of the second reading on the keys of the first, 0 on those that it does not have."""
    if reading.kept is not None and source == reading.tower:
        if not reading.kept:
            raise InputError(
                f"Without its {reading.what} there is no pattern to compare with.",
                remedy='Compare the outputs of heads: distance="plain".',
            )
        wide = torch.zeros_like(pattern)
        wide[..., list(reading.kept)] = other
        return wide
    if pattern.shape != other.shape:
        raise InputError(
            "The two readings do not have the same keys.",
            evidence=f"{pattern.shape[-1]} and {other.shape[-1]}",
            remedy='Compare the outputs of heads: distance="plain".',
        )
    return other
