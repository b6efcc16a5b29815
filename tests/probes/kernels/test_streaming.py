"""Attention in tiles against materialised attention: outputs, every statistic, and edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from headwise.errors import FixError
from headwise.layout import ROLES
from headwise.probes.kernels import dense, streaming, tiles
from headwise.probes.kernels.call import Call, visible_keys
from headwise.probes.kernels.details import Details
from headwise.probes.kernels.statistics import CallLayout, RunningStatistics, counts, from_pattern
from tests.kit.twin import details, statistics

BATCH, HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = 2, 6, 2, 8, 5
LENGTHS = (1, 2, 63, 64, 65, 200)
PRESENT = (ROLES.index("bos"), ROLES.index("content"))
Kind = Callable[[int], Call]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def call_of(rows: int, keys: int, **options: object) -> Call:
    return Call(
        query=2 * random(BATCH, HEADS, rows, WIDTH, seed=1),
        key=2 * random(BATCH, KV_HEADS, keys, WIDTH, seed=2),
        value=random(BATCH, KV_HEADS, keys, VALUE_WIDTH, seed=3),
        scaling=WIDTH**-0.5,
        **options,
    )


def lower(length: int) -> torch.Tensor:
    return torch.ones(1, 1, length, length, dtype=torch.bool).tril()


def padding(length: int) -> torch.Tensor:
    """The first third of the second example is padding."""
    mask = torch.ones(BATCH, length, dtype=torch.bool)
    mask[1, : length // 3] = False
    return mask


def additive(visible: torch.Tensor) -> torch.Tensor:
    return torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)


def window(length: int) -> torch.Tensor:
    return lower(length) & ~lower(length).tril(-7)


KINDS: dict[str, Kind] = {
    "causal": lambda n: call_of(n, n, causal=True),
    "both ways": lambda n: call_of(n, n),
    "padded": lambda n: call_of(n, n, mask=lower(n) & padding(n)[:, None, None]),
    "padded, both ways": lambda n: call_of(n, n, mask=padding(n)[:, None, None]),
    "window": lambda n: call_of(n, n, mask=window(n)),
    "additive": lambda n: call_of(n, n, mask=additive(window(n) & padding(n)[:, None, None])),
    "bias in the mask": lambda n: call_of(n, n, mask=random(1, HEADS, n, n, seed=4)),
    "bias": lambda n: call_of(n, n, bias=random(1, HEADS, n, n, seed=4), causal=True),
    "bias per example": lambda n: call_of(n, n, bias=random(BATCH, HEADS, n, n, seed=4)),
    "softcap": lambda n: call_of(n, n, causal=True, softcap=3.0),
    "sinks": lambda n: call_of(n, n, causal=True, sinks=random(HEADS, seed=5)),
    "sinks in a window": lambda n: call_of(n, n, mask=additive(window(n)), sinks=random(HEADS, seed=5)),
    "cross": lambda n: call_of(n, 37),
    "cross, padded": lambda n: call_of(n, 36, mask=padding(36)[:, None, None]),
}
PADDED = {"padded", "padded, both ways", "additive"}


def places_of(kind: str, call: Call) -> CallLayout:
    """Key 0 is bos, the others content."""
    rows, keys = call.shape[2:]
    roles = torch.zeros(1, keys, 2)
    roles[:, 0, 0], roles[:, 1:, 1] = 1, 1
    return CallLayout(
        positions=torch.arange(rows),
        roles=PRESENT,
        classes=roles,
        cross=kind.startswith("cross"),
        query_valid=padding(rows) if kind in PADDED else None,
        key_valid=padding(keys) if kind in PADDED or kind == "cross, padded" else None,
    )


def every_field(pattern: torch.Tensor, layout: CallLayout) -> dict[str, torch.Tensor]:
    """The twin's statistics, mass for the two roles that occur."""
    batch, _, rows, keys = pattern.shape
    roles = torch.tensor(PRESENT)[(torch.arange(keys) > 0).long()].expand(batch, -1)
    everything = torch.ones(batch, 1, dtype=torch.bool)
    expected = statistics(
        pattern,
        positions=layout.positions,
        query_valid=everything.expand(-1, rows) if layout.query_valid is None else layout.query_valid,
        key_valid=everything.expand(-1, keys) if layout.key_valid is None else layout.key_valid,
        key_roles=roles,
        placed=not layout.cross,
    )
    return expected | {"mass": expected["mass"][..., list(PRESENT)]}


def every_detail(pattern: torch.Tensor, layout: CallLayout) -> dict[str, torch.Tensor | None]:
    """The twin's details; None for those that cross-attention has not."""
    wanted, everything = layout.details, torch.ones(pattern.shape[0], 1, dtype=torch.bool)
    assert wanted.later is not None
    query_valid, key_valid = layout.query_valid, layout.key_valid
    found: dict[str, torch.Tensor | None] = {
        **details(
            pattern,
            positions=layout.positions,
            query_valid=everything.expand(-1, pattern.shape[2]) if query_valid is None else query_valid,
            key_valid=everything.expand(-1, pattern.shape[3]) if key_valid is None else key_valid,
            near=wanted.near,
            top=wanted.top,
            later=wanted.later,
        )
    }
    return found | ({"near": None, "later": None} if layout.cross else {})


def assert_close(actual: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    torch.testing.assert_close(
        actual, expected, rtol=1e-5, atol=1e-5, equal_nan=True, msg=lambda message: f"{what}: {message}"
    )


def check(kind: str, call: Call) -> None:
    layout = places_of(kind, call)
    rows, keys = call.shape[2:]
    pattern, lse = dense.pattern(call)
    real = torch.ones(BATCH, rows, dtype=torch.bool) if layout.query_valid is None else layout.query_valid
    z, streamed = streaming.attend(call, layout)
    assert_close(z[real], dense.apply_pattern(pattern, call)[real], "z")
    expected = every_field(pattern, layout)
    count = counts(None if call.causal else visible_keys(call), rows, keys, layout, causal=call.causal)
    for found in (streamed, from_pattern(pattern, layout, count, lse=lse)):
        for field, numbers in expected.items():
            assert_close(getattr(found, field), numbers, field)
        assert_close(found.lse, lse.where(real[:, None], torch.nan), "lse")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", LENGTHS)
def test_tiles_give_what_the_whole_pattern_gives(kind: str, length: int) -> None:
    check(kind, KINDS[kind](length))


@pytest.mark.parametrize("kind", KINDS)
def test_details_are_those_of_the_whole_pattern(kind: str) -> None:
    call = KINDS[kind](100)
    layout = replace(places_of(kind, call), details=Details(near=5, top=(1, 3, 150), later=(2, 40)))
    pattern, _ = dense.pattern(call)
    count = counts(None if call.causal else visible_keys(call), *call.shape[2:], layout, causal=call.causal)
    for found in (streaming.attend(call, layout)[1], from_pattern(pattern, layout, count)):
        for field, numbers in every_detail(pattern, layout).items():
            if numbers is None:
                assert getattr(found, field) is None, field
            else:
                assert_close(getattr(found, field), numbers, field)


@pytest.mark.parametrize("keys", [159, 160, 167, 400, 639, 640])
def test_the_largest_weights_are_those_of_a_plain_search(keys: int) -> None:
    """Bit for bit, with many weights alike, and where a few neighbours have all."""
    generator = torch.Generator().manual_seed(keys)
    spread = torch.randn(2, 9, keys, generator=generator).mul(3).softmax(-1)
    alike = torch.randint(3, (2, 9, keys), generator=generator) / keys
    close = torch.zeros(2, 9, keys).index_fill_(-1, torch.arange(keys - 12, keys), 0.05)
    for pattern in (spread, alike, close):
        found = Details(top=(1, 4, 10)).rows(pattern, None)["top"]
        assert torch.equal(found, pattern.topk(10).values.cumsum(-1)[..., [0, 3, 9]])


@pytest.mark.parametrize("kind", KINDS)
def test_heads_in_several_chunks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_TILE", 1)
    check(kind, KINDS[kind](100))


@pytest.mark.slow
def test_a_length_at_which_tiles_are_taller() -> None:
    full = KINDS["causal"](4100)
    call = replace(full, query=full.query[:1, :1], key=full.key[:1, :1], value=full.value[:1, :1])
    pattern, _ = dense.pattern(call)
    z, found = streaming.attend(call, places_of("causal", call))
    torch.testing.assert_close(z, dense.apply_pattern(pattern, call), rtol=1e-5, atol=1e-5)
    for field, numbers in every_field(pattern, places_of("causal", call)).items():
        torch.testing.assert_close(getattr(found, field), numbers, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_entropy_keeps_its_digits_where_scores_are_high() -> None:
    call = replace(call_of(65, 65), scaling=1.0)
    whole = {
        name: getattr(call, name).round() for name in ("query", "key")
    }  # every score is an exact integer
    low, high = (
        streaming.attend(
            replace(call, **whole, bias=torch.full((1, 1, 65, 65), height)), places_of("both ways", call)
        )
        for height in (0.0, 4096.0)
    )
    torch.testing.assert_close(high[1].entropy, low[1].entropy, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["causal", "both ways", "padded", "sinks", "softcap", "cross"])
def test_half_precision_sums_are_those_of_the_half_precision_pattern(kind: str, dtype: torch.dtype) -> None:
    full = KINDS[kind](130)
    parts = {name: getattr(full, name).to(dtype) for name in ("query", "key", "value")}
    call = replace(full, **parts)
    layout = places_of(kind, call)
    exact = replace(full, **{name: value.float() for name, value in parts.items()})
    _, found = streaming.attend(call, layout)
    for field, numbers in every_field(dense.pattern(exact)[0], layout).items():
        torch.testing.assert_close(getattr(found, field), numbers, rtol=0.1, atol=0.03, equal_nan=True)
        assert getattr(found, field).dtype == torch.float32


def damp_first_seen(pattern: torch.Tensor) -> torch.Tensor:
    """Halve the weight on the first key that a row sees; the others grow in proportion."""
    first = torch.nn.functional.one_hot(pattern.gt(0).byte().argmax(-1), pattern.shape[-1]).bool()
    new = pattern.masked_fill(first, 0.0) + pattern * first / 2
    return new * pattern.sum(-1, keepdim=True) / new.sum(-1, keepdim=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 65, 200])
def test_edited_tiles_give_what_the_edited_pattern_gives(kind: str, length: int) -> None:
    call = KINDS[kind](length)
    layout = places_of(kind, call)
    pattern, _ = dense.pattern(call)
    edited = damp_first_seen(pattern)
    real = torch.ones(BATCH, length, dtype=torch.bool) if layout.query_valid is None else layout.query_valid
    seen: list[tuple[int, ...]] = []

    def edit(tile: torch.Tensor, rows: slice) -> torch.Tensor:
        seen.append((rows.start, rows.stop))
        shown, expected = tile.transpose(1, 2)[real[:, rows]], pattern[:, :, rows].transpose(1, 2)
        torch.testing.assert_close(shown, expected[real[:, rows]], rtol=1e-5, atol=1e-6)
        return damp_first_seen(tile)

    z, found = streaming.attend(call, layout, edit=edit)
    assert [start for start, _ in seen] == sorted({start for start, _ in seen})
    assert seen[0][0] == 0
    assert seen[-1][1] == length
    assert_close(z[real], dense.apply_pattern(edited, call)[real], "z")
    for field, numbers in every_field(edited, layout).items():
        assert_close(getattr(found, field), numbers, field)
    assert found.lse.isnan().all()


@pytest.mark.parametrize("length", [30, 200])
def test_an_edit_that_looks_ahead_is_refused(length: int) -> None:
    call = KINDS["causal"](length)
    with pytest.raises(FixError, match="may not see"):
        streaming.attend(call, edit=lambda tile, rows: torch.full_like(tile, 1 / tile.shape[-1]))


def test_an_edit_of_another_shape_is_refused() -> None:
    with pytest.raises(FixError, match="shape"):
        streaming.attend(KINDS["causal"](30), edit=lambda tile, rows: tile[:, :1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [[0], [3, 40], [64]])
def test_some_rows_are_those_rows_of_the_whole_pattern(kind: str, rows: list[int]) -> None:
    call = KINDS[kind](65)
    index = torch.tensor(rows)
    pattern, lse = dense.pattern(call)
    part, part_lse = dense.pattern(call.rows(index))
    real = padding(65)[:, index] if kind in PADDED else torch.ones(BATCH, len(rows), dtype=torch.bool)
    torch.testing.assert_close(part.transpose(1, 2)[real], pattern[:, :, index].transpose(1, 2)[real])
    torch.testing.assert_close(part_lse.transpose(1, 2)[real], lse[:, :, index].transpose(1, 2)[real])


@pytest.mark.parametrize("kind", KINDS)
def test_a_decode_row_is_the_last_row(kind: str) -> None:
    call = KINDS[kind](65)
    pattern, lse = dense.pattern(call)
    last = call.rows(torch.tensor([64]))
    row, row_lse = dense.decode_row(last, lse=True)
    torch.testing.assert_close(row, pattern[:, :, 64:], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(row_lse, lse[:, :, 64:], rtol=1e-5, atol=1e-5)
    z = dense.apply_pattern(pattern, call)[:, 64:]
    torch.testing.assert_close(dense.apply_row(row, last), z, rtol=1e-5, atol=1e-5)


def test_statistics_of_parts_merge_to_those_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 12, 8, generator=generator) for _ in range(3))
    whole = Call(q, k, v, 0.3, causal=True)
    layout = CallLayout(torch.arange(12), (6,), torch.ones(1, 12, 1))
    parts = [RunningStatistics() for _ in range(3)]
    for running, rows in zip(parts, (range(12), range(7), range(7, 12)), strict=True):
        index = torch.tensor(list(rows))
        running.update(streaming.attend(whole.rows(index), layout.rows(index))[1])
    parts[1].merge(parts[2])
    together, expected = parts[1].compute(), parts[0].compute()
    assert together.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-5)
