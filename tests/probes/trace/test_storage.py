"""Traces as files: everything comes back, and nothing damaged is believed."""

from __future__ import annotations

import hashlib
import json
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from headwise.errors import HeadwiseError, InputError, TraceError
from headwise.layout import Axis, ImageSpan, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace, load_trace
from tests.kit.traces import TEXT, make_trace, plain_axis, random_pattern

CROSS = Site("decoder", "cross", 3, "model.decoder.layers.3.encoder_attn", 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def small_trace(meta=None):
    plain = make_trace({TEXT: random_pattern(1, 2, 3, 3)})
    axis = Axis(
        "text",
        plain.layout.axes["text"].roles,
        ids=torch.tensor([[5, 6, 7]]),
        tokens=(("<s>", "naïve \ud800", "</script>"),),
        images=(ImageSpan(0, 0, 1, 2, (1, 2)), ImageSpan(0, 1, 0, 1)),
        seconds=torch.tensor([[0.0, 0.1], [0.1, 0.2], [float("nan")] * 2]),
    )
    record = {**plain.records[TEXT], "v_heads": torch.zeros(1, 2, 3, 4, requires_grad=True)}
    return Trace(
        {TEXT: record, CROSS: plain.records[TEXT]},
        TokenLayout({"text": axis}),
        meta or {"seed": 3, "call": "f(x)"},
    )


def assert_same(left, right):
    assert right.sites == left.sites
    for site in left.sites:
        kept = {name for name in left.records[site] if name not in ("v_heads", "z_graph")}
        assert set(right.records[site]) == kept
        for name in kept:
            a, b = left.records[site][name], right.records[site][name]
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    assert dict(right.meta) == dict(left.meta)
    assert set(right.layout.axes) == set(left.layout.axes)
    for tower, axis in left.layout.axes.items():
        other = right.layout.axes[tower]
        assert other.images == axis.images
        for a, b in ((axis.roles, other.roles), (axis.ids, other.ids), (axis.seconds, other.seconds)):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "run.safetensors"
    small_trace().save(path)
    return path


def test_round_trip(saved):
    trace = load_trace(saved)
    assert_same(small_trace(), trace)
    assert trace.layout.axes["text"].tokens == (("<s>", "naïve ?", "</script>"),)
    assert os.listdir(saved.parent) == [saved.name]


def test_a_loaded_trace_can_be_used_and_saved_over_itself(tmp_path):
    path = tmp_path / "run.safetensors"
    first = make_trace(
        {TEXT: random_pattern(2, 2, 4, 4)}, {"text": plain_axis("text", 2, 4, (0, 1))}, causal=False
    )
    first.save(path)
    loaded = load_trace(path)
    assert loaded.to_frame("key").equals(first.to_frame("key"))
    assert repr(loaded) == repr(first)
    loaded.save(path)
    assert_same(first, load_trace(path))


@QUICK
@given(
    examples=st.integers(1, 3),
    heads=st.integers(1, 3),
    rows=st.integers(0, 4),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    meta=st.fixed_dictionaries(
        {},
        optional={
            "model": WORDS,
            "revision": st.none() | WORDS,
            "versions": st.dictionaries(WORDS, WORDS, max_size=2),
            "seed": st.integers(-(2**63), 2**64 - 1),
            "attention": st.lists(WORDS, max_size=2),
            "seconds": st.floats(0, 1e9),
            "warnings": st.lists(WORDS, max_size=2),
        },
    ),
    layer=st.integers(0, 90),
    transpose=st.booleans(),
)
def test_any_trace_comes_back(tmp_path, examples, heads, rows, dtype, meta, layer, transpose):
    maps = torch.rand(examples, heads, rows, rows).to(dtype)
    record = {
        "positions": torch.arange(rows),
        "maps": maps.mT if transpose else maps,
        "z": maps.new_zeros(examples, rows, heads, 2),
        "n_queries": torch.full((examples, rows), torch.nan),
    }
    trace = Trace(
        {Site("text", "self", layer): record}, TokenLayout({"text": plain_axis("text", examples, 4)}), meta
    )
    assert_same(trace, load_trace(trace.save(tmp_path / "any.safetensors")))


@QUICK
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(saved, tmp_path, data):
    raw = saved.read_bytes()
    cut = data.draw(st.integers(0, len(raw) - 1))
    broken = tmp_path / "cut.safetensors"
    broken.write_bytes(raw[:cut])
    with pytest.raises(TraceError, match="truncated, damaged"):
        load_trace(broken)


@settings(QUICK, max_examples=300)
@given(data=st.data())
def test_a_flipped_header_byte_is_refused_or_changes_nothing(saved, tmp_path, data):
    raw = bytearray(saved.read_bytes())
    end = 8 + struct.unpack("<Q", raw[:8])[0]
    place = data.draw(st.integers(0, end - 1))
    raw[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != raw[place]))
    broken = tmp_path / "flipped.safetensors"
    broken.write_bytes(raw)
    try:
        trace = load_trace(broken)
    except TraceError:
        return
    assert_same(small_trace(), trace)


class TestRefusals:
    def test_missing_file(self, tmp_path):
        with pytest.raises(InputError, match="no such trace file"):
            load_trace(tmp_path / "none.safetensors")
        with pytest.raises(InputError, match="is a folder"):
            load_trace(tmp_path)

    def test_missing_folder(self, tmp_path):
        with pytest.raises(InputError, match="folder to write into does not exist"):
            small_trace().save(tmp_path / "none" / "run.safetensors")
        with pytest.raises(InputError, match="is a folder"):
            small_trace().save(tmp_path)

    def test_a_failed_save_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "run.safetensors"
        path.write_text("old")

        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr("headwise.probes.trace.storage.save_file", full)
        with pytest.raises(TraceError, match=r"could not be written.*No space left"):
            small_trace().save(path)
        assert os.listdir(tmp_path) == ["run.safetensors"]
        assert path.read_text() == "old"

    @pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), bytes(1000)])
    def test_not_safetensors(self, tmp_path, content):
        path = tmp_path / "x.safetensors"
        path.write_bytes(content)
        with pytest.raises(TraceError, match=r"not a safetensors file|holds no headwise trace"):
            load_trace(path)

    def test_foreign_safetensors(self, tmp_path):
        path = tmp_path / "model.safetensors"
        save_file({"weight": torch.zeros(2)}, path)
        with pytest.raises(TraceError, match="holds no headwise trace"):
            load_trace(path)

    def rewritten(self, saved, path, change, *, tensors=None):
        """The saved file with its header changed by `change`, checksum made right again."""
        with safe_open(saved, framework="pt") as file:
            header = json.loads(file.metadata()["headwise_trace"])
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = change if isinstance(change, str) else None
        if text is None:
            change(header)
            text = json.dumps(header)
        digest = hashlib.sha256(text.encode()).hexdigest()
        save_file(held | (tensors or {}), path, {"headwise_trace": text, "sha256": digest})
        return path

    @pytest.mark.parametrize("version", [-5, 0, 2, 4, 2**40])
    def test_other_versions(self, saved, tmp_path, version):
        remedy = "Upgrade headwise" if version > 3 else "Capture it again"
        path = self.rewritten(
            saved, tmp_path / "other", lambda header: header.update(schema_version=version, novelty=[])
        )
        with pytest.raises(TraceError, match=rf"schema version {version}, .* reads 3.*{remedy}"):
            load_trace(path)

    @pytest.mark.parametrize(
        "change",
        [
            "not json",
            "[]",
            "[" * 100_000,
            lambda h: h.update(schema_version="1"),
            lambda h: h.pop("sites"),
            lambda h: h.update(extra=1),
            lambda h: h.update(meta=[]),
            lambda h: h.update(roles=["bos"]),
            lambda h: h["sites"][0].update(layer="0"),
            lambda h: h["sites"][0].update(layer=-1),
            lambda h: h["sites"][0].update(kind="other"),
            lambda h: h["sites"][0]["fields"].pop("maps"),
            lambda h: h["sites"][0]["fields"].update(unknown=h["sites"][0]["fields"].pop("maps")),
            lambda h: h["sites"][0]["fields"]["maps"].update(shape=[1, 2, 3, 4]),
            lambda h: h["sites"][0]["fields"]["maps"].update(dtype="float16"),
            lambda h: h["sites"].pop(),
            lambda h: h["layout"][0]["fields"].pop("roles"),
            lambda h: h["layout"][0].update(tokens=[["one"]]),
            lambda h: h["layout"][0]["images"][0].update(start=9),
            lambda h: h["layout"][0]["images"][0].update(grid=[1]),
        ],
    )
    def test_a_header_that_does_not_fit(self, saved, tmp_path, change):
        path = self.rewritten(saved, tmp_path / "odd", change)
        with pytest.raises(TraceError, match="trace file is damaged"):
            load_trace(path)

    def test_tensors_that_do_not_fit(self, saved, tmp_path):
        for tensors in (
            {"stranger": torch.zeros(1)},
            {"axis.0.roles": torch.full((1, 3), 200, dtype=torch.uint8)},
        ):
            path = self.rewritten(saved, tmp_path / "odd", lambda header: None, tensors=tensors)
            with pytest.raises(TraceError, match="trace file is damaged"):
                load_trace(path)

    def test_every_refusal_is_one_line(self, tmp_path):
        path = tmp_path / "x.safetensors"
        path.write_bytes(b"hello")
        with pytest.raises(HeadwiseError) as error:
            load_trace(path)
        assert "\n" not in str(error.value)


def test_tensors_stay_on_disk_until_they_are_read(tmp_path):
    """A loaded trace maps the file: two reads of a tensor share memory, and loading adds none of it."""
    path = tmp_path / "big.safetensors"
    maps = torch.zeros(1, 1, 3000, 3000)
    Trace({TEXT: {"positions": torch.arange(3000), "maps": maps}}).save(path)
    before = _anonymous_megabytes()
    trace = load_trace(path)
    assert trace.maps[TEXT].data_ptr() == trace.maps[TEXT].data_ptr()
    assert trace.maps[TEXT].sum() == 0
    assert _anonymous_megabytes() - before < 10


def _anonymous_megabytes() -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("RssAnon"))
