"""Findings in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from headwise.probes.attach.sites import Site


def percent(share: float) -> str:
    """A share as whole percent.

    Example:
        >>> percent(0.276)
        '28 %'
    """
    return f"{100 * share:.0f} %"


def kinds_of(sites: Iterable[Site]) -> str:
    """Towers and kinds of attention, each once.

    Example:
        >>> kinds_of([Site("text", "self", 0), Site("text", "self", 1), Site("vision", "self", 0)])
        'text self, vision self'
    """
    return ", ".join(dict.fromkeys(f"{site.tower} {site.kind}" for site in sites))


def one_sentence(clauses: Mapping[str, str]) -> str:
    """A single clause as a sentence; clauses of several towers, each behind its name.

    Example:
        >>> one_sentence({"text self": "nothing", "vision self": "all"})
        'text self: nothing; vision self: all.'
    """
    if len(clauses) == 1:
        (clause,) = clauses.values()
        return f"{clause[0].upper()}{clause[1:]}."
    return "; ".join(f"{name}: {clause}" for name, clause in clauses.items()) + "."
