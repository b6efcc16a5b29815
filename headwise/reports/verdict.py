"""The few numbers that stand large at the top, and the warning that sinks call for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from headwise.reports.content import Group, Headline
from headwise.reports.wording import group_key, head_address, percent
from headwise.text import token_text

if TYPE_CHECKING:
    from headwise.analyses import Result


def headlines_of(
    results: Mapping[str, Result], sink_share: float | None, groups: Sequence[Group]
) -> tuple[Headline, ...]:
    """The strongest sink, the share of heads with a sink, and the mean entropy, as far as they are known."""
    headlines = []
    sinks, entropy = results.get("sinks"), results.get("entropy")
    if sinks is not None:
        top = leading_sink(sinks)
        label = f"of the attention in {top['stack']} layer {top['peak_layer']} goes to one key"
        value = percent(top["peak_received"])
        headlines.append(
            Headline(value, label, _key(top["token"], top["position"]), tuple(_places(top, groups)))
        )
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
    top = leading_sink(result)
    if top["heads"] == 0:
        return []
    heads = round(top["heads"] / top["share"])
    return [
        f"Attention sinks are present: {_key(top['token'], top['position'])} is a sink in {top['heads']} of "
        f"{heads} {top['stack']} heads. They pull entropy down and stretch distance, so a low entropy here "
        "need not mean a head that picks something out."
    ]


def leading_sink(result: Result) -> dict[Any, Any]:
    """The row of the key that is a sink in most heads over all examples; of the strongest key where there is none.

    A key near the end of a short example is seen by few rows and easily takes a large share of them; a sink stands at
    its place in example after example.
    """
    rows = result.frame.to_dict("records")
    heads: dict[tuple[Any, ...], int] = {}
    for row in rows:
        place = (row["stack"], row["kind"], row["offset"])
        heads[place] = heads.get(place, 0) + row["heads"]
    return max(rows, key=lambda row: (heads[row["stack"], row["kind"], row["offset"]], row["peak_received"]))


def _places(top: Mapping[Any, Any], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Where to see the strongest sink: the head of its layer that gives it most, and the example."""
    found = []
    key = group_key(top["stack"], top["kind"])
    for group in groups:
        if group.key != key or str(top["peak_layer"]) not in group.layers:
            continue
        layer = group.layers.index(str(top["peak_layer"]))
        shares = [
            max((k.share for k in keys if k.position == top["position"]), default=-1.0)
            for keys in group.top[layer]
        ]
        head = max(range(len(shares)), key=shares.__getitem__)
        name = f"head {group.layers[layer]}.{head}"
        found.append((name, head_address(key, group.layers[layer], head)))
    return [*found, (f"example {top['example']}", f"example-{top['example']}")] if found else []


def _key(token: object, position: int) -> str:
    place = f"position {position}"
    return f"{token_text(token)} ({place})" if isinstance(token, str) else place
