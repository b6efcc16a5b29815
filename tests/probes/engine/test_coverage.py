"""What a capture sees of over a hundred architectures, against each model's own eager attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch

import headwise as hw
from headwise.families.verified import VERIFIED
from headwise.probes.attach.sites import key_tower
from headwise.testing.inputs import Inputs, forward
from tests.kit.twin import statistics
from tests.tiny import ARCHITECTURES, Architecture
from tests.tiny.reference import Patterns, eager_reference, in_blocks, tensors
from tests.tiny.telling import TELLING, telling

if TYPE_CHECKING:
    from headwise import Site, Trace

REACHED = [row for row in ARCHITECTURES.values() if row.expected in ("pass", "partial", "fallback")]
CASES = [
    pytest.param(row.name, variant, id=f"{row.name} {variant}") for row in REACHED for variant in row.inputs
]
CLOSE = {"rtol": 0.0, "atol": 1e-5}
REGROUPED = {"diffllama", "minimax", "mllama"}
"""Outputs that group attentions differently: halves joined, lightning layers or both kinds in one list."""


@dataclass(frozen=True)
class Seen:
    """Everything the tests need to know of one architecture on one input."""

    inputs: Inputs
    plain: dict[str, torch.Tensor]
    with_maps: dict[str, torch.Tensor]
    with_stats: dict[str, torch.Tensor]
    maps: Trace
    stats: Trace
    recorded: Patterns
    exposed: dict[str, list[torch.Tensor]]


@cache
def see(name: str, variant: str) -> Seen:
    row = ARCHITECTURES[name]
    inputs = row.inputs[variant]()
    model = row.build()
    plain = tensors(forward(model, inputs))
    with hw.capture(model, stats=False, maps=True) as maps:
        with_maps = tensors(forward(model, inputs))
    with hw.capture(model, stats=True) as stats:
        with_stats = tensors(forward(model, inputs))
    return Seen(inputs, plain, with_maps, with_stats, maps, stats, *eager_reference(row, inputs))


def reference(seen: Seen, site: Site) -> torch.Tensor:
    """The eager pattern of a site: by module and call, or else by its place in the model's output."""
    calls = [other for other in seen.maps.sites if other.module == site.module]
    key = (site.module, calls.index(site))
    if len(calls) == 1 and (site.module, 1) in seen.recorded:
        return in_blocks(seen.recorded, site.module)
    if key in seen.recorded:
        return seen.recorded[key]
    return seen.exposed[f"{site.tower} {site.kind}"][site.layer]


def valid(seen: Seen, tower: str, examples: int, positions: int) -> torch.Tensor:
    """(example, position) False on padding: by the input's mask, or where no row of the encoder looks."""
    mask = seen.inputs.get("attention_mask")
    if tower in ("text", "encoder") and mask is not None:
        if tower == "text":  # image features may stand before the words
            return torch.nn.functional.pad(mask.bool(), (positions - mask.shape[1], 0), value=True)
        if mask.shape == (examples, positions):
            return mask.bool()
        encoder = next(site for site in seen.maps.sites if site.tower == "encoder")
        return reference(seen, encoder).ne(0).any(2).any(1)
    return torch.ones(examples, positions, dtype=torch.bool)


def axes_of(seen: Seen, site: Site, pattern: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, str]:
    """Which rows and which keys of a site are real, and the tower of its keys."""
    examples, _, rows, keys = pattern.shape
    source = key_tower(site.tower, site.kind, list(seen.maps.layout.axes))
    return valid(seen, site.tower, examples, rows), valid(seen, source, examples, keys), source


def key_roles(trace: Trace, source: str, key_valid: torch.Tensor) -> torch.Tensor:
    """(example, key) roles by the trace's layout; windows and coarser grids are all of one role."""
    roles = trace.layout.axes[source].roles[:, : key_valid.shape[1]]
    if roles.shape == key_valid.shape:
        return roles
    (role,) = roles.unique().tolist()
    return torch.full(key_valid.shape, role)


@pytest.mark.parametrize(("name", "variant"), telling(CASES))
def test_patterns_equal_eager_bit_for_bit(name: str, variant: str) -> None:
    seen = see(name, variant)
    for site in seen.maps.sites:
        expected = reference(seen, site)
        captured = seen.maps.maps[site]
        real, keys, _ = axes_of(seen, site, expected)
        assert captured.shape == expected.shape, site
        rows = real[:, None, :, None].expand_as(expected)
        assert torch.equal(captured[rows], expected[rows]), site
        assert captured[~rows].isnan().all(), site
        assert captured.masked_fill(~rows | keys[:, None, None], 0).eq(0).all(), site


@pytest.mark.parametrize(("name", "variant"), telling(CASES))
def test_sites_carry_the_right_labels(name: str, variant: str) -> None:
    row, seen = ARCHITECTURES[name], see(name, variant)
    assert Counter(f"{site.tower} {site.kind}" for site in seen.maps.sites) == dict(row.sites)
    assert set(seen.stats.sites) == set(seen.maps.sites)
    for kind, layers in seen.exposed.items():
        sites = sorted(site for site in seen.maps.sites if f"{site.tower} {site.kind}" == kind)
        if name in REGROUPED or (not sites and row.unreached):
            continue
        assert len(sites) == len(layers), kind
        for site, expected in zip(sites, layers, strict=True):
            real, _, _ = axes_of(seen, site, expected)
            rows = real[:, None, :, None].expand_as(expected)
            assert torch.equal(seen.maps.maps[site][rows], expected[rows]), site


@pytest.mark.parametrize(("name", "variant"), telling(CASES))
def test_capturing_does_not_change_the_output(name: str, variant: str) -> None:
    seen = see(name, variant)
    mask = seen.inputs.get("attention_mask")
    for field, expected in seen.plain.items():
        real = mask.bool() if mask is not None and mask.shape == expected.shape[:2] else ...
        torch.testing.assert_close(seen.with_maps[field][real], expected[real], **CLOSE)
        torch.testing.assert_close(seen.with_stats[field][real], expected[real], **CLOSE)


@pytest.mark.parametrize(("name", "variant"), telling(CASES))
def test_streaming_statistics_equal_those_of_the_maps(name: str, variant: str) -> None:
    seen = see(name, variant)
    for site in seen.stats.sites:
        pattern = seen.maps.maps[site]
        query_valid, key_valid, source = axes_of(seen, site, pattern)
        expected = statistics(
            pattern,
            positions=seen.stats.positions[site],
            query_valid=query_valid,
            key_valid=key_valid,
            key_roles=key_roles(seen.stats, source, key_valid),
            placed=site.kind == "self" and pattern.shape[2] == pattern.shape[3],
        )
        record = seen.stats.records[site]
        assert "maps" not in record
        for field, numbers in expected.items():
            message = f"{field} of {site}"
            torch.testing.assert_close(
                record[field],
                numbers,
                rtol=1e-5,
                atol=1e-5,
                equal_nan=True,
                msg=lambda m, t=message: f"{t}: {m}",
            )


@pytest.mark.parametrize("name", telling(row.name for row in REACHED))
def test_what_is_not_reached_is_named(name: str) -> None:
    row, trace = ARCHITECTURES[name], see(name, "plain").stats
    assert set(trace.unreached) == set(row.unreached)
    assert bool(trace.meta["fallback"]) == (row.expected == "fallback" or name == "led")
    if row.expected == "pass":
        assert all("self-check was not run" in warning for warning in trace.warnings)


@pytest.mark.parametrize(
    "row", [r for r in ARCHITECTURES.values() if r.expected in ("refused", "none")], ids=str
)
def test_models_that_cannot_be_seen_are_refused_with_the_reason(row: Architecture) -> None:
    model = row.build()
    before = model.config._attn_implementation
    with pytest.raises(hw.UnsupportedModel) as refusal, hw.capture(model):
        forward(model, row.inputs["plain"]())
    message = str(refusal.value)
    assert type(model).__name__ in message
    assert REASONS[row.name] in message
    assert model.config._attn_implementation == before


REASONS = {
    "longformer": "computes a band",
    "wavlm": "no softmax over a query-by-key matrix",
    "mamba": "no attention",
}


def test_falcon_built_with_sdpa_is_refused_and_says_how_to_load_it() -> None:
    row = ARCHITECTURES["falcon"]
    model = row.build("sdpa")
    with pytest.raises(hw.UnsupportedModel, match="eager"), hw.capture(model):
        forward(model, row.inputs["plain"]())


def test_at_least_fifteen_models_outside_the_interface_are_seen() -> None:
    assert sum(row.expected == "fallback" for row in ARCHITECTURES.values()) >= 15


def model_types(rows: Iterable[Architecture]) -> set[str]:
    return {row.build().config.model_type for row in rows}


def test_the_telling_families_are_verified() -> None:
    assert model_types(row for row in REACHED if row.name in TELLING) <= VERIFIED


@pytest.mark.wide
def test_the_verified_families_are_those_that_are_tested_here() -> None:
    assert model_types(REACHED) == VERIFIED
