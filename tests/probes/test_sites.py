"""Capture by site and head: what was asked for is kept, as in a full capture; the rest costs nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import headwise as hw
from headwise.analyses import distance, entropy, mass, sinks
from headwise.errors import CaptureError, InputError
from headwise.probes.attach.sites import Site
from headwise.probes.engine import attention
from headwise.probes.selection import EVERYTHING, NOTHING, Heads, Selection
from headwise.probes.trace.fields import FIELDS, HEAD_FIELDS, head_field, head_numbers
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared

TELLING = ("llama", "whisper", "mllama")
"""Grouped heads; two towers and both kinds; cross layers among the others."""
QUICK = [
    pytest.param(name, marks=() if name in TELLING else pytest.mark.slow)
    for name, architecture in ARCHITECTURES.items()
    if architecture.expected in ("pass", "partial", "fallback")
]
EVERY_FIELD = {"stats": True, "maps": True, "qkv": True, "heads": True}


def run(name, model=None, **options):
    """A capture of one forward, and the model's output."""
    architecture = ARCHITECTURES[name]
    model = architecture.build() if model is None else model
    torch.manual_seed(0)  # for models that draw
    with hw.capture(model, check=False, **options) as trace, torch.no_grad():
        output = model(**architecture.inputs["plain"]())
    return trace, output


def places(trace):
    return list(dict.fromkeys((site.tower, site.kind) for site in trace.sites))


def some_heads(trace):
    """A high head of the first site of every tower and kind, and the first of its last one, as pairs.

    A pair means every site of its layer: the high head is the last one that all of them have.
    """
    pairs = {}
    for tower, kind in places(trace):
        own = [site for site in trace.sites if (site.tower, site.kind) == (tower, kind)]
        alike = [site for site in trace.sites if site.layer == own[0].layer]
        last = min(head_numbers(trace.records[site], "received")[-1] for site in alike)
        pairs.setdefault((own[0].layer, last))
        pairs.setdefault((own[-1].layer, 0))
    return list(pairs)


class TestSites:
    @pytest.mark.parametrize("name", QUICK)
    def test_what_is_kept_is_what_a_full_capture_keeps(self, name):
        model = shared(name, "eager")  # one kernel, whatever is kept
        full, _ = run(name, model, **EVERY_FIELD)
        for tower, kind in places(full):
            part, _ = run(name, model, **EVERY_FIELD, sites={"tower": tower, "kind": kind})
            assert part.sites == tuple(s for s in full.sites if (s.tower, s.kind) == (tower, kind))
            assert part.examples == full.examples
            for site in part.sites:
                assert part.records[site].keys() == full.records[site].keys()
                for field, value in part.records[site].items():
                    torch.testing.assert_close(value, full.records[site][field], equal_nan=True)

    @pytest.mark.parametrize("name", QUICK)
    def test_heads_keep_their_numbers(self, name):
        model = shared(name)
        full, _ = run(name, model, **EVERY_FIELD)
        pairs = some_heads(full)
        part, _ = run(name, model, stats={"heads": pairs}, maps=True, qkv=True, heads=True)
        chosen = {"heads": pairs}
        narrow, _ = run(name, model, stats=True, maps=chosen, qkv=chosen, heads=chosen)
        for site in full.sites:
            wanted = tuple(sorted(head for layer, head in pairs if layer == site.layer))
            record = full.records[site]
            for trace in (part, narrow):
                for field, value in trace.records[site].items():
                    axes = FIELDS[field]
                    if not {"head", "kv_head"} & set(axes[1:]):
                        continue
                    chosen = wanted if (trace is part) == (head_field(field) == "statistics_heads") else None
                    if "kv_head" in axes and chosen is not None:
                        groups = record["q"].shape[1] // record["k"].shape[1]
                        chosen = tuple(sorted({head // groups for head in chosen}))
                    axis = axes.index("kv_head" if "kv_head" in axes else "head")
                    numbers = trace.head_numbers(site, field)
                    assert chosen is None or numbers == chosen
                    expected = record[field].index_select(axis, torch.tensor(numbers))
                    torch.testing.assert_close(value, expected, equal_nan=True, rtol=1e-5, atol=1e-5)
        frame = part.to_frame("head")
        assert set(zip(frame["layer"], frame["head"], strict=True)) <= set(pairs)
        whole = full.to_frame("head").merge(frame, on=["example", "tower", "kind", "layer", "call", "head"])
        assert len(whole) == len(frame)
        np.testing.assert_allclose(whole["entropy_x"], whole["entropy_y"], atol=1e-5)

    @pytest.mark.parametrize("name", ["whisper", "llava", pytest.param("bart", marks=pytest.mark.slow)])
    def test_other_sites_run_the_models_own_kernel(self, name, monkeypatch):
        reached = []
        original = attention.attend
        monkeypatch.setattr(
            attention,
            "attend",
            lambda plan, *a, **k: (reached.append(plan.site), original(plan, *a, **k))[1],
        )
        trace, _ = run(name, maps=True, sites="L1H0")
        assert reached == list(trace.sites)
        assert {site.layer for site in trace.sites} == {1}

    def test_maps_of_one_kind_beside_statistics_of_all(self):
        trace, _ = run("whisper", maps="cross")
        assert {site.kind for site in trace.maps} == {"cross"}
        assert all("entropy" in record for record in trace.records.values())
        with pytest.raises(
            CaptureError, match=r"no maps of decoder self 0\. \(it has them of decoder cross 0"
        ):
            trace.maps[trace.site(0)]

    def test_an_error_says_that_the_trace_is_partial(self):
        trace, _ = run("whisper", sites="cross")
        with pytest.raises(CaptureError, match=r"no decoder self 0\..*kept of sites='cross' alone"):
            trace.site(0)

    def test_outputs_are_the_models_own_when_only_late_maps_are_kept(self):
        model = shared("llama")
        plain = model(**ARCHITECTURES["llama"].inputs["plain"]())
        trace, output = run("llama", model, stats=False, rows=[-1], sites="L1H2")
        assert torch.equal(output.logits, plain.logits)
        assert trace.maps[trace.site(1)].shape[1:3] == (1, 1)
        assert trace.head_numbers(trace.site(1)) == (2,)

    def test_a_layer_of_the_residual_is_kept_whatever_the_kind(self):
        trace, _ = run("whisper", stats=False, residual="decoder 1")
        assert [str(site) for site in trace.residual] == ["decoder self 1"]
        assert trace.examples == 2
        trace, _ = run("whisper", stats=False, residual=True, sites="cross")
        assert {(site.tower, site.layer) for site in trace.residual} >= {("decoder", 0), ("decoder", 1)}

    def test_gradients_of_chosen_sites(self):
        model = shared("llama")
        inputs = ARCHITECTURES["llama"].inputs["plain"]()
        with hw.capture(model, stats=False, maps=True, gradients=True, sites="text self 1") as trace:
            output = model(**inputs)
        output.logits.sum().backward()
        assert [site.layer for site in trace.sites] == [1]
        assert trace.map_gradients[trace.site(1)].shape == trace.maps[trace.site(1)].shape
        with (
            pytest.raises(InputError, match="heads cannot be chosen"),
            hw.capture(model, maps="L1H0", gradients=True),
        ):
            pass

    def test_decoding_keeps_what_was_asked_for(self):
        architecture = ARCHITECTURES["llama"]
        model, inputs = architecture.build(), architecture.inputs["plain"]()
        keep = {"stats": "L1H3", "maps": "L0H1", "qkv": "L1H2"}
        traces = []
        for options in (keep, {"maps": True, "qkv": True}):
            with hw.capture(model, **options) as trace, torch.no_grad():
                model.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=0)
            traces.append(trace)
        part, full = traces
        first, second = full.sites
        torch.testing.assert_close(part.maps[first], full.maps[first][:, [1]])
        torch.testing.assert_close(
            part.records[second]["entropy"], full.records[second]["entropy"][:, [3]], rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(part.queries[second], full.queries[second][:, [2]])
        assert part.examples == full.examples
        assert "entropy" not in part.records[first]


class TestWords:
    @pytest.mark.parametrize(
        ("words", "mapping"),
        [
            ("cross", {"kind": "cross"}),
            ("decoder", {"tower": "decoder"}),
            ("decoder cross 1-3", {"tower": "decoder", "kind": "cross", "layers": range(1, 4)}),
            ("L1 L2", {"layers": [1, 2]}),
            ("self 0, 2", {"kind": "self", "layers": [0, 2]}),
            ("L2H3 L2H1", {"heads": [(2, 3), (2, 1)]}),
            ("text L0H3", {"tower": "text", "heads": ((0, 3),)}),
        ],
    )
    def test_words_and_mapping_say_the_same(self, words, mapping):
        assert Selection.of(words, "sites") == Selection.of(mapping, "sites")

    @pytest.mark.parametrize(
        "choice", [True, False, "cross", {"layers": [1]}, ["L2H3", {"kind": "self"}], {"heads": ((1, 2),)}]
    )
    def test_the_repr_is_the_choice(self, choice):
        selection = Selection.of(choice, "sites")
        assert Selection.of(eval(repr(selection)), "sites") == selection

    def test_a_site_names_itself(self):
        site = Site("decoder", "cross", 3, "a.b", call=1)
        for choice in (site, str(site), [site]):
            selection = Selection.of(choice, "sites")
            assert selection.heads(site) == Heads()
            assert selection.heads(Site("decoder", "cross", 3, "a.b")) is None
            assert eval(repr(selection)) == str(site)

    def test_a_list_is_a_union(self):
        selection = Selection.of(["text 0", "L0H1", "L1H1", "L1H0"], "sites")
        assert selection.heads(Site("text", "self", 0)) == Heads()
        assert selection.heads(Site("text", "self", 1)) == Heads((0, 1))
        assert selection.heads(Site("text", "self", 2)) is None
        assert Selection.of(True, "maps") is EVERYTHING
        assert Selection.of(False, "maps") is NOTHING

    @pytest.mark.parametrize(
        "choice",
        [
            *(3, 1.5, None, [], [["text"]], "", "self cross", "1-", "a b"),
            *({}, {"layer": 1}, {"layers": ["1"]}, {"layers": [-1]}, {"layers": True}),
            *({"heads": [1]}, {"heads": []}, {"kind": "x"}, {"tower": 3}),
        ],
    )
    def test_what_names_no_sites_is_refused(self, choice):
        with pytest.raises(InputError, match="names no sites"):
            Selection.of(choice, "sites")

    @pytest.mark.parametrize("choice", ["self 2-1", "3-1", "text self 1 5-4"])
    def test_a_range_that_runs_backwards_is_refused(self, choice):
        with pytest.raises(InputError, match="runs backwards"):
            Selection.of(choice, "maps")

    @pytest.mark.parametrize(
        ("choice", "message"),
        [
            (
                "corss",
                r"no such site: maps='corss'\. \(it has encoder self 0-1; decoder self 0-1; decoder cross",
            ),
            ("decoder cross 2", "no such site"),
            ({"tower": "text"}, "no such site"),
            ("L9H0", "no such site"),
            ("L1H4", r"no head L1H4\. \(layer 1 has 4 heads"),
        ],
    )
    def test_what_the_model_lacks_is_refused_before_it_runs(self, choice, message):
        model = shared("whisper")
        with pytest.raises(InputError, match=message), hw.capture(model, maps=choice):
            pytest.fail("the model was about to run")

    @pytest.mark.parametrize("choice", ["L1 L2H3", {"layers": [0], "heads": [(2, 3)]}])
    def test_layers_and_heads_that_exclude_each_other_are_refused(self, choice):
        with pytest.raises(InputError, match="names heads of layers that it leaves out"):
            Selection.of(choice, "sites")


class TestDownstream:
    def test_the_limit_counts_what_is_kept(self):
        model = shared("whisper", "eager")
        for choice in ("cross", {"heads": [(0, 1), (1, 2)]}, "decoder", True):
            kept, _ = run("whisper", model, stats=False, maps=choice)
            size = sum(pattern.nbytes for pattern in kept.maps.values())
            run("whisper", model, stats=False, maps=choice, map_limit=size)
            with pytest.raises(CaptureError, match="map_limit"):
                run("whisper", model, stats=False, maps=choice, map_limit=size - 1)

    def test_the_forecast_names_what_would_be_kept(self):
        with pytest.raises(
            CaptureError, match=r"maps='cross' .*\(2 sites x 2 examples x 4 heads x .* positions"
        ):
            run("whisper", maps="cross", map_limit=10)
        with pytest.raises(CaptureError, match=r"1 sites x 2 examples x 1 heads"):
            run("whisper", maps={"kind": "cross", "heads": [(1, 0)]}, map_limit=10)

    def test_files_and_joined_runs_keep_the_numbers(self, tmp_path):
        model, inputs = shared("llama"), ARCHITECTURES["llama"].inputs["plain"]()
        with hw.capture(model, maps="L0H3", qkv="L1H2", stats="L1H1 L1H3") as trace, torch.no_grad():
            model(**inputs)
            model(**{name: value[:, :-1] for name, value in inputs.items()})
        loaded = hw.load_trace(trace.save(tmp_path / "run.safetensors"))
        for own in (trace, loaded):
            first, second = own.sites
            assert own.head_numbers(first) == (3,)
            assert own.head_numbers(second, "entropy") == (1, 3)
            assert own.head_numbers(second, "q") == (2,)
            assert own.records[second]["entropy"].shape[:2] == (4, 2)
            assert set(own.to_frame("query")["head"]) == {1, 3}
            assert own.examples == 4
            assert "stats=" in own.meta["call"]
        assert loaded.records.keys() == trace.records.keys()

    def test_analyses_work_on_what_is_there(self):
        trace, _ = run("whisper", sites=["cross", "decoder self L1H2"])
        for analysis in (entropy, mass, sinks):
            frame = analysis(trace).frame
            assert set(zip(frame["tower"], frame["kind"], strict=True)) <= {
                ("decoder", "self"),
                ("decoder", "cross"),
            }
        assert set(distance(trace).frame["head"]) == {2}
        with pytest.raises(CaptureError, match=r"defined for no head.*decoder cross"):
            distance(run("whisper", sites="cross")[0])
        with pytest.raises(CaptureError, match=r"no statistics.*stats=True"):
            entropy(run("whisper", stats=False, maps="cross")[0])

    def test_a_report_keeps_the_numbers_of_the_heads(self, tmp_path):
        from headwise.reports.collect.build import build_content

        full, _ = run("llama", maps=True)
        trace, _ = run("llama", maps=["L0H3", "L1H1"], stats=["L0H3", "L1H1"])
        content, whole = build_content(trace), build_content(full)
        (group,), (all_heads,) = content.groups, whole.groups
        assert (group.heads, all_heads.heads) == (4, 4)
        for layer, head in ((0, 3), (1, 1)):
            assert np.array_equal(group.patterns[layer, head], all_heads.patterns[layer, head])
            assert np.array_equal(group.histogram[layer, head], all_heads.histogram[layer, head])
            assert group.top[layer][head] == all_heads.top[layer][head]
        metric = next(metric for metric in content.metrics if metric.key == "entropy")
        other = next(metric for metric in whole.metrics if metric.key == "entropy")
        assert metric.panels[0].cells[0][3] == pytest.approx(other.panels[0].cells[0][3])
        assert metric.panels[0].cells[0][:3] == (None, None, None)
        assert any("Not every head was captured (stats=" in warning for warning in content.warnings)
        assert hw.report(trace, tmp_path / "page.html").stat().st_size > 0

    def test_a_report_says_that_patterns_of_some_layers_are_not_drawn(self):
        from headwise.reports.collect.build import build_content

        content = build_content(run("llama", maps="L1H1")[0])
        assert content.groups[0].patterns is None
        assert any("kept of 1 of 2 layers and are not drawn" in warning for warning in content.warnings)
        content = build_content(run("whisper", maps="cross")[0])
        assert [group.patterns is not None for group in content.groups] == [False, False, True]
        assert not any("not drawn" in warning for warning in content.warnings)

    def test_fields_of_heads_are_known_to_the_trace(self):
        assert set(HEAD_FIELDS) <= set(FIELDS)
        trace, _ = run("llama", stats="L0H1")
        with pytest.raises(InputError, match="no field 'residual' with a head axis"):
            trace.head_numbers(trace.sites[0], "residual")
        with pytest.raises(CaptureError, match="no q of text self 0"):
            trace.head_numbers(trace.sites[0], "q")
