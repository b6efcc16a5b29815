"""Trace of a capture: the recorded tensors, the token layout, and where it all came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from torch import Tensor

from headwise.display import cell_of
from headwise.errors import CaptureError, InputError
from headwise.layout import TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import FIELDS, Record, example_count, head_numbers
from headwise.probes.trace.frames import frame_of, with_ids
from headwise.probes.trace.nonfinite import Absent
from headwise.probes.trace.views import FieldView, GradientView, attribution_of, unknown_site

if TYPE_CHECKING:
    import pandas as pd


_WITH_HEADS = [name for name, axes in FIELDS.items() if {"head", "kv_head"} & set(axes[1:])]


class Trace:
    """Everything one capture recorded. Examples of later runs stand behind those of earlier ones.

    The engine makes it empty and fills it when the capture closes. Afterwards nothing changes it. Tensors
    keep the shapes of `headwise.probes.trace.fields.FIELDS`: padded query rows of statistics and patterns are NaN,
    padded keys are 0 in patterns; activations are what the model computed on padding, and the layout tells it.

    Example:
        >>> import torch
        >>> site = Site("text", "self", 0)
        >>> pattern = torch.ones(1, 2, 3, 3).tril() / torch.arange(1, 4)[:, None]
        >>> trace = Trace({site: {"positions": torch.arange(3), "maps": pattern}}, TokenLayout({}), {})
        >>> trace
        Trace(1 site, 1 example, maps, 0.0 MB)
        >>> trace.maps[trace.site(layer=0)].shape
        torch.Size([1, 2, 3, 3])
    """

    def __init__(
        self,
        records: Mapping[Site, Record] | None = None,
        layout: TokenLayout | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self._records: Mapping[Site, Record] | None = None
        if records is not None:
            self._fill(records, layout or TokenLayout({}), meta or {})

    def _fill(self, records: Mapping[Site, Record], layout: TokenLayout, meta: Mapping[str, Any]) -> None:
        """Called once, by the engine when the capture closes."""
        self._records = MappingProxyType({site: MappingProxyType(record) for site, record in records.items()})
        self._layout = layout
        self._meta = MappingProxyType(dict(meta))

    @property
    def records(self) -> Mapping[Site, Record]:
        """Every captured tensor: `records[site][field]`."""
        if self._records is None:
            raise CaptureError(
                "The capture is still open, or was ended by an exception.",
                remedy="Read the trace after the with block has ended without one.",
            )
        return self._records

    @property
    def layout(self) -> TokenLayout:
        """Layout of the positions."""
        _ = self.records  # refuses while the capture is open
        return self._layout

    @property
    def meta(self) -> Mapping[str, Any]:
        """Model, versions, seed, the call that was run: what is needed to read and to repeat the numbers."""
        _ = self.records
        return self._meta

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site of which something was kept, in the order of the first call."""
        return tuple(self.records)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about this capture."""
        return tuple(self.meta.get("warnings", ()))

    @property
    def nonfinite(self) -> tuple[Absent, ...]:
        """Numbers of the model's own that are NaN or infinite, per site: padding does not count."""
        return tuple(Absent(**one) for one in self.meta.get("nonfinite", ()))

    @property
    def unreached(self) -> tuple[str, ...]:
        """Qualified names of modules that ran attention out of headwise's sight."""
        return tuple(self.meta.get("unreached", ()))

    @property
    def examples(self) -> int:
        """Number of examples, over all runs."""
        if "examples" in self.meta:
            return int(self.meta["examples"])
        return max(map(example_count, self.records.values()), default=0)

    @property
    def returned(self) -> tuple[int, ...]:
        """Examples that the model gave: the sequences that `generate` returned, in its order.

        All of them, unless the trace was captured with `beams="all"`.
        """
        return tuple(self.meta.get("returned", range(self.examples)))

    @property
    def positions(self) -> FieldView:
        """Absolute position of every query row of the patterns, or, without patterns, of the statistics; (query,)."""
        rows = {
            site: {"positions": record.get("row_positions", record["positions"])}
            for site, record in self.records.items()
            if "positions" in record
        }
        return FieldView(rows, "positions")

    @property
    def maps(self) -> FieldView:
        """Patterns, (example, head, query, key). Numbers of the heads, where some were kept: `head_numbers`."""
        return self._view("maps", "maps", "maps=True")

    @property
    def heads(self) -> FieldView:
        """Output of every head before W_O, z, (example, query, head, width). Numbers of the heads: `head_numbers`."""
        return self._view("z", "head outputs", "heads=True")

    @property
    def residual(self) -> FieldView:
        """Residual that enters the layer, (example, query, width)."""
        return self._view("residual", "residuals", "residual=True")

    @property
    def final_residual(self) -> FieldView:
        """Residual behind the last layer of a tower, before a final norm; (example, query, width), at that layer."""
        return self._view("final_residual", "residual behind a last layer", "residual=True")

    @property
    def queries(self) -> FieldView:
        """Queries that attention is handed, rotary applied: (example, head, query, width)."""
        return self._view("q", "queries", "qkv=True")

    @property
    def keys(self) -> FieldView:
        """Keys that attention is handed, rotary applied, cache included: (example, kv_head, key, width)."""
        return self._view("k", "keys", "qkv=True")

    @property
    def values(self) -> FieldView:
        """Values that attention is handed, cache included: (example, kv_head, key, width)."""
        return self._view("v", "values", "qkv=True")

    @property
    def map_gradients(self) -> GradientView:
        """Gradient of the loss with respect to every pattern, after `backward()`."""
        self._view("maps", "maps", "maps=True, gradients=True")
        return GradientView(self.records, "maps")

    def _view(self, field: str, what: str, option: str) -> FieldView:
        view = FieldView(self.records, field, what=what, option=option)
        if not view:
            fields = sorted({name for record in self.records.values() for name in record})
            raise CaptureError(
                f"This trace holds no {what}.",
                evidence=f"it holds {', '.join(fields)}",
                remedy=f"Capture again with {option}.",
            )
        return view

    def head_numbers(self, site: Site, field: str = "maps") -> tuple[int, ...]:
        """Numbers of the heads along the head axis of a field, as the model counts them.

        All of them, unless the capture named the heads to keep.

        Args:
            site: one of `sites`.
            field: a name of `records[site]`, such as `maps`, `z`, `entropy` or `k` (whose heads are key heads).

        Example:
            >>> import torch
            >>> site = Site("text", "self", 0)
            >>> record = {"z": torch.zeros(1, 3, 2, 4), "output_heads": torch.tensor([1, 5])}
            >>> Trace({site: record}, TokenLayout({}), {}).head_numbers(site, "z")
            (1, 5)
        """
        if field not in _WITH_HEADS:
            raise InputError(
                f"There is no field {field!r} with a head axis.", evidence=", ".join(_WITH_HEADS)
            )
        record = FieldView(self.records, field, what=field).record(site)
        return tuple(head_numbers(record, field))

    def site(self, layer: int, tower: str | None = None, kind: str = "self", call: int = 0) -> Site:
        """The site of a layer.

        Args:
            layer: from 0.
            tower: without it, the language tower (`text`, or `decoder`), or the only tower there is.
            kind: `self` or `cross`.
            call: number of the call within one forward, for modules that are called more than once.

        Raises:
            CaptureError: when the trace holds no such site, or `tower` is needed to choose.
        """
        towers = list(dict.fromkeys(site.tower for site in self.sites))
        if tower is None:
            tower = next((name for name in ("text", "decoder") if name in towers), None)
        if tower is None and len(towers) == 1:
            tower = towers[0]
        if tower is None:
            raise CaptureError(
                "This trace has no language tower, so the tower has to be named.",
                evidence=f"towers: {', '.join(towers) or 'none'}",
                remedy="Pass tower=….",
            )
        for site in self.sites:
            if (site.tower, site.kind, site.layer, site.call) == (tower, kind, layer, call):
                return site
        partial = self.meta.get("partial")
        kept = f" Statistics were kept of {partial} alone." if partial else ""
        raise unknown_site(Site(tower, kind, layer, call=call), self.records, more=kept)

    def attribution(
        self, site: Site, per: Literal["key", "query"] = "key"
    ) -> Float[Tensor, "example head position"]:
        """Sum of P · dL/dP over the queries of every key, or over the keys of every query, without a T×T
        matrix.

        High means that the loss rises when the head gives this key (or this query row) more weight. The sums
        are exact: ⟨v, dL/dv⟩ per key and ⟨z, dL/dz⟩ per query.

        Raises:
            CaptureError: when the capture kept no graph, saw several runs, or `backward()` was not called.
        """
        return attribution_of(self.records, site, per)

    def to_frame(self, level: Literal["head", "query", "key"]) -> pd.DataFrame:
        """The statistics as a tidy table; padding is left out.

        `"query"` has one row per example, head and query position: token (the one that it reads; the row of
        a decoder writes the next), entropy (nats), maximum, lse, distance (positions), n_keys (keys the row
        may see), mass_<role> (share). `"key"` has one row per example, head and key position: received (sum
        over rows), n_queries (rows that may see the key), mean_received (their ratio). `"head"` has means
        over the valid rows; entropy, normalised_entropy and relative_distance are over the rows that see two
        keys or more.

        Raises:
            CaptureError: when the trace holds no statistics.
        """
        return with_ids(frame_of(self.records, self.layout, level), self.records, self.meta.get("ids"))

    def save(self, path: str | Path) -> Path:
        """Write everything to one safetensors file; `headwise.load_trace` reads it back.

        Raises:
            InputError: when the folder does not exist.
            TraceError: when it holds what no capture gives, or the file cannot be written.
        """
        from headwise.probes.trace.storage import write_trace

        return write_trace(path, self.records, self.layout, self.meta)

    def _repr_html_(self) -> str:
        """Without scripts: the patterns of all heads in one picture, or the strongest key of every head."""
        return cell_of("trace", self)

    def __repr__(self) -> str:
        if self._records is None:
            return "Trace(open)"
        fields = {name for record in self._records.values() for name in record}
        fields = [name for name in FIELDS if name in fields and FIELDS[name][0] == "example"]
        size = sum(tensor.nbytes for record in self._records.values() for tensor in record.values()) / 1e6
        sites, examples = len(self._records), self.examples
        return (
            f"Trace({sites} site{'s' * (sites != 1)}, {examples} example{'s' * (examples != 1)}, "
            f"{' '.join(fields)}, {size:.1f} MB)"
        )


def load_trace(path: str | Path) -> Trace:
    """Read a trace that `Trace.save` wrote. Tensors stay on disk, and are mapped when they are asked for.

    All of the file is read once, to compare it with its checksums (about 0.6 GB/s on one core) and to see that
    every number is one that a capture can give.

    Raises:
        InputError: when there is no such file.
        TraceError: when the file is no trace, was changed or truncated, comes from another version, or holds numbers
            that cannot be.
    """
    from headwise.probes.trace.storage import read_trace

    return Trace(*read_trace(path))
