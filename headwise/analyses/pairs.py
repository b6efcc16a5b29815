"""Agreement of the two traces that an analysis of a pair, or a report, puts side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from reprlib import repr as _brief
from typing import TYPE_CHECKING, Any

import torch

from headwise.errors import InputError
from headwise.layout import ROLES, Axis
from headwise.probes.attach.sites import Site, key_tower
from headwise.probes.trace.fields import FIELDS, Record, head_numbers
from headwise.text import quoted_token

if TYPE_CHECKING:
    from headwise.probes.trace.trace import Trace

AGREE = ("tokens", "prompt", "generated", "last", "nothing")
"""What of the tokens of two traces must agree, example by example: every token at its position, those of the prompt,
the generated ones, the last one, or none. The first two ask for the same sites, too; the others for those of
self-attention in the language tower alone: a run without its image has no others."""
_REMEDY = (
    "Run the same examples again, under hw.patch or with another checkpoint of the same shape; where replies differ, "
    "give one of them as a part of the text."
)
_ALONG_TOKENS = ("query", "row", "key")
_PADDING, _GENERATED = ROLES.index("padding"), ROLES.index("generated")


def require_agreement(before: Trace, after: Trace, *, agree: str, fields: Sequence[str] = ()) -> None:
    """Refuse two traces that cannot be compared: of models of other shape, or of other inputs.

    Of embeddings without token ids and of positions that are not the usual count, a trace holds digests: any other bit
    is another input. Statistics or patterns tell whether attention is causal. What a trace does not hold at all
    (pixels, samples of a sound) is not compared.

    Args:
        before: a trace.
        after: another.
        agree: one of `AGREE`.
        fields: the recorded fields that are compared: their heads and widths must be the same, and with
            `agree="tokens"` their rows.

    Raises:
        InputError: they differ; the first difference is named.
    """
    if before.examples != after.examples:
        raise _other_model(f"{before.examples} and {after.examples} examples")
    sites, others = ({site.place: site for site in _sites(trace, agree)} for trace in (before, after))
    for which, here, there in (("first", sites, others), ("second", others, sites)):
        if lacking := [site for place, site in here.items() if place not in there]:
            raise _other_model(f"only the {which} has {lacking[0]} ({lacking[0].module})")
    names = [trace.meta.get("ids") for trace in (before, after)]
    if all(names) and names[0] != names[1]:
        raise _other_inputs("their ids differ")
    if agree in ("tokens", "prompt"):
        _require_given(before.meta.get("given", {}), after.meta.get("given", {}))
    axes, other_axes = before.layout.axes, after.layout.axes
    keys = {key_tower(site.tower, site.kind, axes) for site in sites.values()}
    for tower in sorted({site.tower for site in sites.values()} | keys) if agree != "nothing" else ():
        _require_tokens(tower, axes.get(tower), other_axes.get(tower), agree)
    for place, site in sites.items():
        if agree in ("tokens", "prompt") and site.kind == "self":
            looks = [_looks_ahead(trace, at) for trace, at in ((before, site), (after, others[place]))]
            if None not in looks and looks[0] != looks[1]:
                which = "first" if looks[0] else "second"
                raise _other_model(
                    f"in the {which} alone {site} attends to later positions: the other is causal"
                )
        for field in fields:
            sizes = _sizes(before.records[site], field, agree)
            other = _sizes(after.records[others[place]], field, agree)
            for axis in sizes | other:
                if sizes.get(axis) != other.get(axis):
                    raise _other_model(
                        f"{axis} of {site}: {_brief(sizes.get(axis))} and {_brief(other.get(axis))}"
                    )


def _sites(trace: Trace, agree: str) -> list[Site]:
    towers = {site.tower for site in trace.sites}
    language = next((tower for tower in ("decoder", "text") if tower in towers), "")
    if agree in ("tokens", "prompt") or not language:
        return list(trace.sites)
    return [site for site in trace.sites if (site.tower, site.kind) == (language, "self")]


def _looks_ahead(trace: Trace, site: Site) -> bool | None:
    """True where a row of self-attention sees a later key; None where neither statistics nor patterns tell."""
    record, axis = trace.records[site], trace.layout.axes.get(site.tower)
    if "n_keys" in record:
        seen, rows = record["n_keys"].cpu(), record["positions"].cpu()
        so_far = rows + 1
        if axis is not None and len(axis.roles) == len(seen) and bool((rows < axis.roles.shape[1]).all()):
            so_far = axis.valid.cumsum(1)[:, rows]
            seen = seen.where(axis.valid[:, rows], 0)
        return bool((seen > so_far).any())
    if "maps" in record:
        weight = record["maps"].detach().nan_to_num().amax((0, 1))
        rows = record.get("row_positions", record["positions"]).to(weight.device)
        later = torch.arange(weight.shape[1], device=weight.device) > rows[:, None]
        ahead = bool((weight[later] > 0).any())
        return ahead if ahead or len(rows) == weight.shape[1] else None  # some rows alone do not tell
    return None


def _require_given(given: Mapping[str, list[str]], other: Mapping[str, list[str]]) -> None:
    for name in dict.fromkeys((*given, *other)):
        if name not in given or name not in other:
            raise _other_inputs(f"only the {'second' if name in other else 'first'} was given {name}")
        for example, pair in enumerate(zip_longest(given[name], other[name])):
            if pair[0] != pair[1]:
                raise _other_inputs(f"{name} of example {example} differ")


def _require_tokens(tower: str, axis: Axis | None, other: Axis | None, agree: str) -> None:
    if axis is None or other is None:
        if axis is not other:
            raise _other_inputs(f"only one knows the positions of its {tower} tower")
        return
    if (axis.ids is None) != (other.ids is None):
        raise _other_inputs(f"only one knows the token ids of its {tower} tower")
    if len(axis.roles) != len(other.roles):
        raise _other_inputs(f"{len(axis.roles)} and {len(other.roles)} inputs of the {tower} tower")
    for example in range(len(axis.roles)):
        pairs = zip_longest(_tokens(axis, example, agree), _tokens(other, example, agree))
        for pair in pairs:
            if None in pair or pair[0][0] != pair[1][0]:
                shown = " and ".join(map(_shown, pair))
                raise _other_inputs(f"example {example} of the {tower} tower has {shown}")


def _tokens(axis: Axis, example: int, agree: str) -> list[tuple[Any, str, int]]:
    """What is compared of every token that must agree (its id, else its text or role), its text, its position."""
    roles = axis.roles[example].tolist()
    texts = axis.tokens[example] if axis.tokens is not None else [ROLES[role] for role in roles]
    values = axis.ids[example].tolist() if axis.ids is not None else texts
    found = []
    for position, (role, text, value) in enumerate(zip(roles, texts, values, strict=True)):
        if role == _PADDING or (
            agree in ("prompt", "generated") and (role == _GENERATED) != (agree == "generated")
        ):
            continue
        found.append(((value, position) if agree == "tokens" else value, text, position))
    return found[-1:] if agree == "last" else found


def _shown(token: tuple[Any, str, int] | None) -> str:
    return "no more tokens" if token is None else f"{quoted_token(token[1])} at position {token[2]}"


def _sizes(record: Record, field: str, agree: str) -> dict[str, Any]:
    """Heads, rows and sizes of the axes of a field that must agree; nothing where it was not kept."""
    found: dict[str, Any] = {}
    for axis, size in zip(FIELDS[field], record[field].shape, strict=True) if field in record else ():
        if axis in ("head", "kv_head"):
            found["heads"] = head_numbers(record, field)
        elif axis not in _ALONG_TOKENS:
            found[axis] = size
        elif agree == "tokens":
            rows = record["row_positions" if axis == "row" and "row_positions" in record else "positions"]
            found["keys" if axis == "key" else "rows"] = size if axis == "key" else rows.tolist()
    return found


def _other_model(evidence: str) -> InputError:
    return InputError(
        "The two traces are not of the same model on the same examples.", evidence=evidence, remedy=_REMEDY
    )


def _other_inputs(evidence: str) -> InputError:
    return InputError("The two traces are of different inputs.", evidence=evidence, remedy=_REMEDY)
