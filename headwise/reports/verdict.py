"""The few numbers that stand large at the top, and the warning that sinks call for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headwise.reports.content import Headline, percent
from headwise.reports.maps import MIN_ROWS
from headwise.reports.text import token_text

if TYPE_CHECKING:
    from headwise.analyses import Result


def headlines_of(results: Mapping[str, Result]) -> tuple[Headline, ...]:
    """The strongest sink, the sink rate, and how widely heads look, as far as these results are there."""
    headlines = []
    sinks, rates, entropy = (results.get(name) for name in ("sinks", "sink_rate", "entropy"))
    if sinks is not None:
        top = sinks.frame.loc[sinks.frame["peak_received"].idxmax()]
        label = f"of the attention in {top['stack']} layer {top['peak_layer']} goes to one key"
        headlines.append(Headline(percent(top["peak_received"]), label, _key(top["token"], top["position"])))
    if rates is not None and (largest := largest_sink_rate(rates)):
        offset, rate = largest
        place = "the first key" if offset == 0 else f"key {offset} from the first"
        label = f"of the heads have {place} as a sink"
        epsilon = rates.provenance["parameters"]["epsilon"]
        headlines.append(
            Headline(percent(rate), label, f"sink rate: it receives more than {percent(epsilon)} on average")
        )
    if entropy is not None:
        mean = entropy.frame["normalised_entropy"].mean()
        label = "of the largest possible entropy, mean over heads"
        headlines.append(Headline(percent(mean), label, "0 % is one key, 100 % is flat attention"))
    return tuple(headlines)


def largest_sink_rate(result: Result) -> tuple[int, float] | None:
    """The position, from the first real key, that is a sink most often, and how often.

    A share of (example, layer, head) triples. Keys that fewer than four rows see do not count; None when no
    key counts.
    """
    frame = result.frame[result.frame["rows"] >= MIN_ROWS]
    if frame.empty:
        return None
    sums = frame.assign(hits=frame["rate"] / 100 * frame["triples"]).groupby(["stack", "kind", "offset"])
    totals = sums[["hits", "triples"]].sum()
    shares = totals["hits"] / totals["triples"]
    (_, _, offset) = shares.idxmax()
    return int(offset), float(shares.max())


def sink_warning(result: Result | None) -> list[str]:
    """What sinks do to the other numbers, when there are any."""
    if result is None or not (result.frame["heads"] > 0).any():
        return []
    top = result.frame.loc[result.frame["heads"].idxmax()]
    heads = round(top["heads"] / top["share"])
    return [
        f"Attention sinks are present: {_key(top['token'], top['position'])} is one in {top['heads']} of "
        f"{heads} {top['stack']} heads. They pull entropy down and stretch distance, so a low entropy here "
        "need not mean a head that picks something out."
    ]


def _key(token: object, position: int) -> str:
    place = f"position {position}"
    return f"{token_text(token)}, {place}" if isinstance(token, str) else place
