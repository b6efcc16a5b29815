"""The few numbers that stand large at the top, and the warning that sinks call for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from headwise.reports.content.content import Group, Headline, HeadMap
from headwise.reports.content.formatting import group_key, head_address, percent
from headwise.text import head_name, quoted_token

if TYPE_CHECKING:
    from headwise.analyses import Result

LEAST_CHANGE = 0.005
COLUMNS = 5


def headlines_of(
    results: Mapping[str, Result], sink_share: float | None, groups: Sequence[Group]
) -> tuple[Headline, ...]:
    """The strongest sink, the share of heads with a sink, and the mean entropy, as far as they are known."""
    headlines = []
    sinks, entropy = results.get("sinks"), results.get("entropy")
    if sinks is not None:
        top = leading_sink(sinks)
        where = f" in example {top['example']}" if sinks.frame["example"].nunique() > 1 else ""
        label = f"of the attention in {top['tower']} layer {top['peak_layer']} goes to one key{where}"
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


def one_row(headlines: Sequence[Headline]) -> tuple[Headline, ...]:
    """The first of them that fit side by side; what is left out is in the sentences below."""
    kept, room = [], COLUMNS
    for headline in headlines:
        room -= 2 if "→" in headline.value else 1
        if room >= 0 or not kept:
            kept.append(headline)
    return tuple(kept)


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
        f"{heads} {top['tower']} heads. They pull entropy down and stretch distance, so a low entropy here "
        "need not mean a head that picks something out."
    ]


def leading_sink(result: Result) -> dict[Any, Any]:
    """The row of the key that its sentence names: the strongest one over all heads, of those that every example has.

    A key near the end of a short example is seen by few rows and easily takes a large share of them; a sink stands at
    its place in example after example.
    """
    rows = result.frame.to_dict("records")
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        found.setdefault((row["tower"], row["kind"], row["offset"]), []).append(row["mean_received"])

    def strength(row: Mapping[Any, Any]) -> tuple[float, ...]:
        shares = found[row["tower"], row["kind"], row["offset"]]
        return len(shares), fmean(shares), row["peak_received"]

    return max(rows, key=strength)


def change_of(metrics: Sequence[HeadMap], fix: str) -> Headline | None:
    """Where the fix changes most: the head whose strongest key gains or loses most; None where nothing changes."""
    metric = next((metric for metric in metrics if metric.key == "strongest_key"), None)
    changes = [
        (abs(new - old), old, new, panel, panel.layers[row], head)
        for panel in (metric.panels if metric else ())
        for row, (olds, news) in enumerate(zip(panel.cells, panel.after or (), strict=False))
        for head, (old, new) in enumerate(zip(olds, news, strict=True))
        if old is not None and new is not None
    ]
    if not changes:
        return None
    size, old, new, panel, layer, head = max(changes, key=lambda change: change[0])
    if size < LEAST_CHANGE:
        return None
    return Headline(
        f"{percent(old)} → {percent(new)}",
        f"the strongest key of the head that {fix} changes most",
        f"{panel.label}, mean over examples",
        ((head_name(layer, head), head_address(panel.group, layer, head)),),
    )


def _places(top: Mapping[Any, Any], groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Where to see the strongest sink: the head of its layer that gives it most, and the example."""
    found = []
    key = group_key(top["tower"], top["kind"])
    for group in groups:
        if group.key != key or str(top["peak_layer"]) not in group.layers:
            continue
        layer = group.layers.index(str(top["peak_layer"]))
        shares = [
            max((k.share for k in keys if k.position == top["position"]), default=-1.0)
            for keys in group.top[layer]
        ]
        head = max(range(len(shares)), key=shares.__getitem__)
        place = group.layers[layer], head
        found.append((head_name(*place), head_address(key, *place)))
    own = next((group for group in groups if group.key == key), None)
    if own is None or _examples(own) != min(map(_examples, groups)):  # several images of one example
        return found
    return [*found, (f"example {top['example']}", f"example-{top['example']}")] if found else []


def _examples(group: Group) -> int:
    return 0 if group.received is None else len(group.received)


def _key(token: object, position: int) -> str:
    place = f"position {position}"
    return f"{quoted_token(token)} ({place})" if isinstance(token, str) else place
