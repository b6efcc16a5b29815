"""How widely heads spread their attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headwise.analyses._heads import HEAD, by_tower, extremes, heads_frame, some_heads
from headwise.analyses._received import MIN_ROWS
from headwise.analyses._sinks import check_options
from headwise.analyses.record import analysis
from headwise.analyses.sentences import percent
from headwise.errors import CaptureError, InputError
from headwise.functional.entropy import entropy_of_rest, entropy_over
from headwise.layout import ROLES, role_groups
from headwise.plugins import close_names
from headwise.probes.trace.fields import Record, head_numbers
from headwise.probes.trace.frames import key_axis, role_table, statistics

if TYPE_CHECKING:
    import pandas as pd

    from headwise.probes.attach.sites import Site
    from headwise.probes.trace.trace import Trace

_GROUPS = role_groups("role") | role_groups("modality")


def _summary(frame: pd.DataFrame, rows: str, keys: str) -> str:
    return by_tower(frame, lambda part: _sentence(part, rows, keys))


def _sentence(frame: pd.DataFrame, rows: str, keys: str) -> str:
    low, high = extremes(frame, "normalised_entropy")
    of = {"all": "", "but_first": " without the first key", "but_sinks": " without their sinks"}.get(
        keys, f" over {keys} keys"
    )
    return (
        f"{'heads' if rows == 'all' else f'{rows} rows'} use {percent(frame['normalised_entropy'].mean())} of the "
        f"largest possible entropy{of} on average (mean {frame['entropy'].mean():.2f} nats), "
        f"from {percent(low[1])} in {low[0]} to {percent(high[1])} in {high[0]}"
    )


@analysis(
    kind="heads",
    keys=HEAD,
    value="normalised_entropy",
    unit="share",
    description="Row entropy divided by log(visible keys), mean over rows that see two keys or more: 0 is all "
    "weight on one key, 1 is a flat row. The column `entropy` is in nats. Rows: {rows}; keys: {keys}.",
    summary=_summary,
)
def entropy(trace: Trace, rows: str = "all", keys: str = "all", epsilon: float = 0.3) -> pd.DataFrame:
    """Row entropy of every head, raw and normalised by the logarithm of the keys a row may see.

    Means over the rows of an example that see two keys or more; a row with one key has no choice to make.
    `entropy` is in nats. `normalised_entropy` is a share: 0 is a head that always looks at a single key, 1 a
    flat one.

    Where some keys are left out, the weights on the others are scaled up to one, and rows that leave them next to
    nothing do not count. Statistics say this exactly where every key that is left out is the only one of its role (the
    first key, an end); elsewhere the patterns must have been captured.

    Args:
        trace: a capture with statistics.
        rows: `"all"`, or the role or modality of the tokens that the rows read: `"generated"`, `"image"`, `"text"`, …
        keys: `"all"`; `"but_first"`, all but the first real key; `"but_sinks"`, all but those that are sinks of the
            head; or a role or modality, those keys alone.
        epsilon: with `"but_sinks"`, a key that receives more than this share on average is a sink.

    Returns:
        One row per example and head.

    Raises:
        InputError: `rows` or `keys` is no such name, or epsilon no share.
        CaptureError: when the trace holds no statistics, no such row sees two such keys, or the keys can be told apart
            by patterns alone and there are none.
    """
    _check(rows, keys)
    check_options(epsilon)
    parts = []
    for site, record in statistics(trace.records).items():
        left_out = _left_out(trace, site, record, keys, epsilon)
        if left_out is not None and not (~left_out & ~record["n_queries"].isnan().cpu()[:, None]).any():
            continue
        nats, choices, positions, field = _of_rows(trace, site, record, left_out)
        counted = choices >= 2
        if rows != "all":
            counted &= _rows_of(trace, site, positions, len(nats), rows)[:, None]
        columns = {
            "entropy": nats.where(counted, torch.nan).nanmean(-1),
            "normalised_entropy": (nats / choices.where(counted, torch.nan).log()).nanmean(-1),
        }
        parts.append(heads_frame(site, record, field, columns))
    every = (rows, keys) == ("all", "all")
    what = "Normalised entropy" + ("" if every else f" with rows={rows!r}, keys={keys!r}")
    return some_heads(trace, parts, what)


def _check(rows: str, keys: str) -> None:
    for name, value, more in (("rows", rows, ()), ("keys", keys, ("but_first", "but_sinks"))):
        known = ("all", *more, *_GROUPS)
        if value not in known:
            raise InputError(
                f"{name} names a role or a modality.",
                evidence=f"got {value!r}, {close_names(str(value), known)}",
                remedy=f"For example {name}={'but_first' if more else 'generated'!r}, or {name}='all'.",
            )


def _left_out(
    trace: Trace, site: Site, record: Record, keys: str, epsilon: float
) -> Bool[Tensor, "example _head key"] | None:
    """True at the real keys that do not count, alike for all heads or for each; None where all count."""
    if keys == "all":
        return None
    seen = record["n_queries"].detach().float().cpu()
    real = ~seen.isnan()
    if keys == "but_first":
        return (real & (real.cumsum(-1) == 1))[:, None]
    if keys == "but_sinks":
        rows = seen.where(seen >= MIN_ROWS, torch.nan)[:, None]
        return record["received"].detach().float().cpu() / rows > epsilon
    roles = role_table(key_axis(trace.layout, site), *seen.shape)
    return (real & ~torch.isin(roles, torch.tensor(_GROUPS[keys])))[:, None]


def _of_rows(
    trace: Trace, site: Site, record: Record, left_out: Tensor | None
) -> tuple[Float[Tensor, "example head row"], Float[Tensor, "example head row"], Int[Tensor, " row"], str]:
    """Entropy of every row over the keys that count, the number of those that it may see, the rows' positions, and the
    field that it was taken from.
    """
    nats, n_keys = record["entropy"].detach().float().cpu(), record["n_keys"].detach().float().cpu()
    if left_out is None:
        return nats, n_keys[:, None].expand_as(nats), record["positions"].cpu(), "entropy"
    roles = role_table(key_axis(trace.layout, site), left_out.shape[0], left_out.shape[2])
    of_role = torch.nn.functional.one_hot(roles + 1, len(ROLES) + 1)[..., 1:].bool()
    of_role &= ~record["n_queries"].isnan().cpu()[..., None]
    gone = (left_out[..., None] & of_role[:, None]).any(2)  # (example, head, role)
    known = (left_out.any(-1) == gone.any(-1)).all() and (left_out.sum(-1) == gone.sum(-1)).all()
    if known and not (gone & (of_role.sum(1) > 1)[:, None]).any():
        mass = record["mass"].detach().float().cpu()
        weights = mass * gone[:, :, None]
        choices = n_keys[:, None] - (weights > 0).sum(-1)
        return entropy_of_rest(nats, weights, mass.sum(-1)), choices, record["positions"].cpu(), "entropy"
    if "maps" not in record:
        raise CaptureError(
            "The statistics of this trace do not tell these keys apart.",
            evidence=f"{site}: they are sums over the keys of a role, and a key that is left out shares its role",
            remedy="Capture again with hw.capture(subject, maps=True).",
        )
    return _of_maps(trace, site, record, left_out)


def _of_maps(
    trace: Trace, site: Site, record: Record, left_out: Tensor
) -> tuple[Tensor, Tensor, Tensor, str]:
    if left_out.shape[1] > 1:
        own, kept = head_numbers(record, "received"), head_numbers(record, "maps")
        if not set(kept) <= set(own):
            raise CaptureError(
                f"The sinks of some heads of {site} are not known.",
                evidence=f"patterns of heads {kept}, statistics of heads {own}",
                remedy="Capture statistics of the same heads.",
            )
        left_out = left_out[:, [own.index(number) for number in kept]]
    keys = ~left_out & ~record["n_queries"].isnan().cpu()[:, None]
    found = [
        entropy_over(pattern.detach().cpu(), keys[example]) for example, pattern in enumerate(record["maps"])
    ]
    nats, choices = (torch.stack(values) for values in zip(*found, strict=True))
    return nats, choices, trace.positions[site].cpu(), "maps"


def _rows_of(
    trace: Trace, site: Site, positions: Tensor, examples: int, rows: str
) -> Bool[Tensor, "example row"]:
    table = role_table(trace.layout.axes.get(site.tower), examples, int(positions.max()) + 1)
    return torch.isin(table[:, positions.long()], torch.tensor(_GROUPS[rows]))
