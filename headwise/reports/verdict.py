"""The few numbers that stand large at the top, and the warning that sinks call for."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from headwise.reports.content import Headline, percent
from headwise.text import token_text

if TYPE_CHECKING:
    from headwise.analyses import Result


def headlines_of(results: Mapping[str, Result], sink_share: float | None) -> tuple[Headline, ...]:
    """The strongest sink, the share of heads with a sink, and the mean entropy, as far as they are known."""
    headlines = []
    sinks, entropy = results.get("sinks"), results.get("entropy")
    if sinks is not None:
        top = max(sinks.frame.to_dict("records"), key=lambda row: row["peak_received"])
        label = f"of the attention in {top['stack']} layer {top['peak_layer']} goes to one key"
        headlines.append(Headline(percent(top["peak_received"]), label, _key(top["token"], top["position"])))
    if sinks is not None and sink_share is not None:
        epsilon = sinks.provenance["parameters"]["epsilon"]
        detail = f"a key that receives more than {percent(epsilon)} on average"
        headlines.append(Headline(percent(sink_share), "of the heads have a sink", detail))
    if entropy is not None:
        mean = fmean(entropy.frame["normalised_entropy"])
        label = "of the largest possible entropy, mean over heads"
        headlines.append(Headline(percent(mean), label, "0 % is one key, 100 % is flat attention"))
    return tuple(headlines)


def sink_warning(result: Result | None) -> list[str]:
    """What sinks do to the other numbers, when there are any."""
    if result is None:
        return []
    top = max(result.frame.to_dict("records"), key=lambda row: row["heads"])
    if top["heads"] == 0:
        return []
    heads = round(top["heads"] / top["share"])
    return [
        f"Attention sinks are present: {_key(top['token'], top['position'])} is a sink in {top['heads']} of "
        f"{heads} {top['stack']} heads. They pull entropy down and stretch distance, so a low entropy here "
        "need not mean a head that picks something out."
    ]


def _key(token: object, position: int) -> str:
    place = f"position {position}"
    return f"{token_text(token)} ({place})" if isinstance(token, str) else place
