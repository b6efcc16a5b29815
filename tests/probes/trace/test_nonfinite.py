"""NaN and infinite numbers: counted per site, said when a capture ends, and in what is computed from it."""

from __future__ import annotations

import pytest
import torch

import headwise as hw
from headwise.analyses import distance, entropy, mass, sink_rate, sinks
from headwise.errors import CaptureError
from headwise.testing.inputs import random_ids
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared

QUICK = ("llama", "whisper", "mllama", "bloom")
REACHED = [
    pytest.param(name, variant, marks=() if name in QUICK else pytest.mark.slow)
    for name, architecture in ARCHITECTURES.items()
    if architecture.expected in ("pass", "partial", "fallback")
    for variant in architecture.inputs
]
KEEP = {
    "stats": {},
    "maps": {"stats": False, "maps": True},
    "stats and maps": {"maps": True},
    "rows": {"stats": False, "rows": [-1, -2]},
    "qkv": {"stats": False, "qkv": True},
    "heads": {"stats": False, "heads": True},
    "residual": {"stats": False, "residual": True},
}
SPOILT = {"llama": "layers.1.self_attn.q_proj.weight", "bloom": "h.1.self_attention.query_key_value.weight"}
NAN = float("nan")


def spoilt(name, value=NAN, part=None, attention=None, dtype=torch.float32):
    """A tiny model of which one matrix of the second layer is multiplied with `value`."""
    model = ARCHITECTURES[name].build(attention).to(dtype)
    parameters = dict(model.named_parameters())
    wanted = part or SPOILT[name]
    (own,) = [parameter for key, parameter in parameters.items() if key.endswith(wanted)]
    own.data.mul_(value)
    return model


def captured(model, inputs, **options):
    with hw.capture(model, check=False, **options) as trace, torch.no_grad():
        model(**inputs)
    return trace


def by_site(trace):
    return {(one.site, one.what): (one.count, one.of) for one in trace.nonfinite}


@pytest.mark.parametrize(("name", "variant"), REACHED)
def test_a_whole_model_has_nothing_to_say(name, variant):
    architecture = ARCHITECTURES[name]
    model = architecture.build()
    for options in ({"qkv": True, "heads": True, "residual": True}, {"stats": False, "maps": True}):
        trace = captured(model, architecture.inputs[variant](), **options)
        assert trace.nonfinite == ()
        assert not any("NaN" in warning for warning in trace.warnings)


@pytest.mark.parametrize("keep", ["stats", "maps", "stats and maps", "rows"])
@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("variant", ["plain", "padded"])
def test_rows_are_counted_and_padding_is_not(name, keep, variant):
    inputs = ARCHITECTURES[name].inputs[variant]()
    trace = captured(spoilt(name), inputs, **KEEP[keep])
    real = int(inputs["attention_mask"].sum()) if variant == "padded" else inputs["input_ids"].numel()
    if keep == "rows":
        real = 4  # two of both examples, none of them padding
    heads = trace.records[trace.sites[0]]["maps" if "maps" in keep or keep == "rows" else "maximum"].shape[1]
    assert by_site(trace) == {("text self 1", "rows"): (real * heads, real * heads)}
    (said,) = [line for line in trace.warnings if "text self 1" in line]
    assert said == (
        f"text self 1: {real * heads} of {real * heads} rows are NaN in the model's own scores; "
        "it begins there (1 of 2 sites)."
    )


@pytest.mark.parametrize(
    ("keep", "part", "first"),
    [
        ("qkv", "layers.1.self_attn.q_proj.weight", ("text self 1", "q")),
        ("qkv", "layers.1.self_attn.k_proj.weight", ("text self 1", "k")),
        ("qkv", "layers.0.self_attn.v_proj.weight", ("text self 0", "v")),
        ("heads", "layers.0.self_attn.v_proj.weight", ("text self 0", "z")),
        ("residual", "layers.0.mlp.down_proj.weight", ("text self 1", "residual")),
        ("stats", "layers.0.mlp.down_proj.weight", ("text self 1", "rows")),
    ],
)
@pytest.mark.parametrize("value", [NAN, float("inf")])
def test_it_is_said_where_it_begins(keep, part, first, value):
    inputs = ARCHITECTURES["llama"].inputs["padded"]()
    trace = captured(spoilt("llama", value, part), inputs, **KEEP[keep])
    found = trace.nonfinite[0]
    assert (found.site, found.what) == first
    assert found.count == found.of
    assert trace.warnings[0].startswith(f"{first[0]}: {found.count} of {found.of} ")
    assert "it begins there" in trace.warnings[0]


@pytest.mark.parametrize("keep", ["stats", "maps", "rows"])
@pytest.mark.parametrize("variant", ["plain", "padded", "padded right"])
def test_scores_beyond_half_precision_are_counted_as_the_models_own_attention_has_them(keep, variant):
    """As Gemma in float16: the scores of some rows overflow, those of others do not."""
    inputs = ARCHITECTURES["llama"].inputs[variant]()
    model = spoilt("llama", 40_000.0, attention="eager", dtype=torch.float16)
    with torch.no_grad():
        own = model(**inputs, output_attentions=True).attentions[1].isnan().any(-1)
    real = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()[:, None].expand_as(own)
    rows = [-1, -2] if keep == "rows" else slice(None)
    expected, total = int((own & real)[:, :, rows].sum()), int(real[:, :, rows].sum())
    assert 0 < int((own & real).sum()) < int(real.sum())
    trace = captured(model, inputs, **KEEP[keep])
    count, of = by_site(trace).get(("text self 1", "rows"), (0, total))
    assert of == total
    assert count == expected or (keep == "stats" and count > 0)  # tiles scale the query before the product


def test_a_row_that_sees_no_key_is_nan_by_design():
    """A mask of -inf, as models of the caller's own hand it over."""
    model = shared("llama", "eager")
    mask = torch.zeros(2, 1, 12, 12).masked_fill(torch.ones(12, 12).triu(1).bool(), -torch.inf)
    blind = mask.clone()
    blind[1, :, 5] = -torch.inf
    inputs = {"input_ids": random_ids(2, 12)}
    for keep in ("maps", "rows"):
        options = {**KEEP[keep], **({"rows": [5]} if keep == "rows" else {}), "sites": "text 0"}
        trace = captured(model, {**inputs, "attention_mask": blind}, **options)
        assert trace.maps[trace.sites[0]][1].isnan().any()
        assert trace.nonfinite == ()
    for value, rows in ((torch.inf, 2 * 4), (torch.nan, 2 * 4)):
        wrong = mask.clone()
        wrong[:, :, 7, 3] = value
        for keep in ("stats", "maps"):
            trace = captured(model, {**inputs, "attention_mask": wrong}, **KEEP[keep], sites="text 0")
            assert by_site(trace) == {("text self 0", "rows"): (rows, 96)}


@pytest.mark.parametrize("keep", ["stats", "maps"])
def test_decode_steps_are_counted(keep):
    """The embedding of the token that is generated first is NaN: all rows from its own on are."""
    model = ARCHITECTURES["llama"].build()
    inputs = {"input_ids": random_ids(1, 6), "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    inputs["eos_token_id"] = 127
    first = int(model.generate(**inputs)[0, 6])
    assert first not in inputs["input_ids"]
    model.get_input_embeddings().weight.data[first] = NAN
    with hw.capture(model, check=False, **KEEP[keep]) as trace, torch.no_grad():
        model.generate(**inputs)
    assert by_site(trace) == {
        ("text self 0", "rows"): (3 * 4, 9 * 4),
        ("text self 1", "rows"): (3 * 4, 9 * 4),
    }
    logits = "The logits of 3 of 4 forwards are NaN or infinite at the last position, first in forward 2."
    assert logits in trace.warnings


def test_logits_are_looked_at_where_attention_is_whole():
    inputs = ARCHITECTURES["llama"].inputs["plain"]()
    trace = captured(spoilt("llama", float("inf"), "lm_head.weight"), inputs)
    assert trace.nonfinite == ()
    assert trace.warnings == (
        "The logits of 1 of 1 forwards are NaN or infinite at the last position, first in forward 1.",
    )


def test_the_model_is_not_blamed_for_a_fix():
    class Spoil:
        layers = (1,)

        def edit(self, pattern, site, context):
            return pattern.masked_fill(pattern > 0, NAN)

    model, inputs = shared("llama"), ARCHITECTURES["llama"].inputs["plain"]()
    with hw.patch(model, Spoil(), check=False), hw.capture(model, check=False) as trace, torch.no_grad():
        model(**inputs)
    assert "NaN in the patched model's scores" in trace.warnings[0]


class TestAnalyses:
    def test_a_mean_says_what_it_leaves_out(self):
        trace = captured(spoilt("llama"), ARCHITECTURES["llama"].inputs["padded"]())
        rows = 21 * 4
        for analysis in (entropy, distance, mass, sinks, sink_rate):
            result = analysis(trace)
            assert result.summary.endswith(f" Left out as NaN: {rows} of {rows} rows of text self 1.")
            assert "nan" not in result.summary
        assert set(entropy(trace).frame["layer"]) == {0}

    def test_attention_that_is_nan_throughout_is_refused(self):
        model = spoilt("llama", part="embed_tokens.weight")
        trace = captured(model, ARCHITECTURES["llama"].inputs["plain"]())
        assert "text self 0" in trace.warnings[0]
        for analysis in (entropy, distance, mass, sinks, sink_rate):
            with pytest.raises(CaptureError, match=r"NaN throughout.*bfloat16 or float32"):
                analysis(trace)

    def test_examples_of_a_report_are_counted_together(self):
        from headwise.reports.collect.example_runs import _joined

        model, inputs = spoilt("llama"), ARCHITECTURES["llama"].inputs["plain"]()
        one, two = (
            captured(model, {name: value[i : i + 1] for name, value in inputs.items()}) for i in (0, 1)
        )
        joined = _joined([one, two])
        assert by_site(joined) == {("text self 1", "rows"): (96, 96)} == by_site(captured(model, inputs))

    def test_counts_are_kept_in_files(self, tmp_path):
        trace = captured(spoilt("llama"), ARCHITECTURES["llama"].inputs["plain"]())
        loaded = hw.load_trace(trace.save(tmp_path / "run.safetensors"))
        assert loaded.nonfinite == trace.nonfinite != ()
        assert entropy(loaded).summary == entropy(trace).summary
