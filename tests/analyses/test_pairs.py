"""Two traces that one analysis compares: of models of one shape, and of the tokens that it says must agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch

import headwise as hw
from headwise.analyses import HEAD, analysis
from headwise.analyses.calls import analysis_call
from headwise.analyses.pairs import AGREE
from headwise.analyses.registry import get, names
from headwise.errors import InputError
from headwise.layout import ROLES, Axis, TokenLayout
from headwise.probes.attach.sites import Site
from headwise.probes.trace.trace import Trace
from headwise.testing import tiny_model

CONTENT, IMAGE, GENERATED, PADDING = map(ROLES.index, ("content", "image", "generated", "padding"))
PROMPT, REPLY = (5, 17, 23), (31, 44)


def differ(agree="tokens"):
    """An analysis of two traces, which only says that it was run."""

    @analysis(
        kind="heads",
        keys=HEAD,
        value="x",
        unit="share",
        description="",
        summary=lambda frame: "It ran.",
        needs=("heads",),
        inputs="pair",
        agree=agree,
    )
    def differ(before, after):
        return pd.DataFrame([("text",) * 7], columns=[*HEAD, "x"]).assign(
            example=0, layer=0, call=0, head=0, x=0.5
        )

    return differ


def trace(
    prompt=PROMPT,
    reply=REPLY,
    *,
    image=0,
    left=0,
    examples=1,
    layers=2,
    heads=2,
    width=4,
    numbers=None,
    **meta,
):
    """Head outputs of a text: an image, a prompt and a reply, behind padding."""
    ids = [0] * left + [1] + [100] * image + [*prompt, *reply]
    roles = (
        [PADDING] * left + [CONTENT] + [IMAGE] * image + [CONTENT] * len(prompt) + [GENERATED] * len(reply)
    )
    record = {"positions": torch.arange(len(ids)), "z": torch.zeros(examples, len(ids), heads, width)}
    if numbers:
        record["output_heads"] = torch.tensor(numbers)
    axis = Axis(
        "text",
        torch.tensor([roles] * examples, dtype=torch.uint8),
        ids=torch.tensor([ids] * examples),
        tokens=(tuple(f"w{token}" for token in ids),) * examples,
    )
    sites = {Site("text", "self", layer, f"layers.{layer}"): record for layer in range(layers)}
    axes = {"text": axis}
    if image:
        sites[Site("vision", "self", 0, "eye")] = {"positions": torch.arange(4), "z": torch.zeros(1, 4, 2, 4)}
        axes["vision"] = Axis("vision", torch.full((1, 4), IMAGE, dtype=torch.uint8))
    return Trace(sites, TokenLayout(axes), meta)


OTHERS = {
    "another token of the prompt": ({"prompt": (5, 18, 23)}, {"tokens", "prompt"}, "“w17” at position 2 and “w18”"),
    "a shorter prompt": ({"prompt": (5, 17)}, {"tokens", "prompt"}, "“w23” at position 3 and"),
    "another reply": ({"reply": (31, 45)}, {"tokens", "generated", "last"}, "“w44” at position 5 and “w45”"),
    "a reply that begins otherwise": ({"reply": (30, 44)}, {"tokens", "generated"}, "“w31” at position 4 and “w30”"),
    "a shorter reply": ({"reply": (31,)}, {"tokens", "generated", "last"}, "“w44” at position 5 and"),
    "padding": ({"left": 2}, {"tokens"}, "“w1” at position 0 and “w1” at position 2"),
    "an image": ({"image": 3}, {"tokens", "prompt"}, "only the second has vision self 0 (eye)"),
    "more examples": ({"examples": 2}, set(AGREE), "1 and 2 examples"),
    "more layers": ({"layers": 3}, set(AGREE), "only the second has text self 2 (layers.2)"),
    "fewer layers": ({"layers": 1}, set(AGREE), "only the first has text self 1 (layers.1)"),
    "more heads": ({"heads": 3}, set(AGREE), "heads of text self 0: [0, 1] and [0, 1, 2]"),
    "other heads": ({"numbers": [1, 4]}, set(AGREE), "heads of text self 0: [0, 1] and [1, 4]"),
    "wider heads": ({"width": 8}, set(AGREE), "width of text self 0: 4 and 8"),
    "other names": ({"ids": ["b"]}, set(AGREE), "their ids differ"),
}  # fmt: skip


@pytest.mark.parametrize("agree", AGREE)
@pytest.mark.parametrize("what", OTHERS)
def test_what_must_agree_is_refused_where_it_differs(what, agree):
    changes, refused, said = OTHERS[what]
    pair = trace(ids=["a"]), trace(**{"ids": ["a"], **changes})
    if agree in refused:
        with pytest.raises(InputError) as told:
            differ(agree)(*pair)
        assert said in told.value.evidence
    else:
        assert differ(agree)(*pair).summary == "It ran."


def test_what_is_the_same_agrees_and_names_are_not_needed_twice():
    assert differ()(trace(), trace(ids=["a"])).summary == "It ran."


def test_token_ids_that_only_one_trace_has_are_a_difference():
    bare = trace()
    axis = replace(bare.layout.axes["text"], ids=None)
    for pair in ((bare, Trace(bare.records, TokenLayout({"text": axis}))), (bare, Trace(bare.records))):
        with pytest.raises(InputError, match=r"of different inputs.*only one knows"):
            differ()(*pair)
        with pytest.raises(InputError, match="only one knows"):
            differ()(*pair[::-1])


def test_rows_that_were_kept_must_be_the_same():
    one, other = trace(), trace()
    rows = {site: {**record, "positions": record["positions"] + 1} for site, record in other.records.items()}
    shifted = Trace(rows, other.layout)
    with pytest.raises(InputError, match=r"rows of text self 0"):
        differ()(one, shifted)
    assert differ("last")(one, shifted).summary == "It ran."


def test_a_way_to_agree_that_there_is_not_is_refused():
    with pytest.raises(InputError, match=r"says agree that headwise does not know.*'some'"):
        differ("some")


PAIRS = [name for name in names() if get(name).inputs == "pair"]
IDS = torch.tensor([[3, 1, 4, 2], [2, 5, 6, 7]])
LEFT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
EMBEDDED = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
MOVED = torch.where(LEFT[..., None] == 0, torch.ones(1), EMBEDDED)
COUNTED = {"position_ids": torch.arange(4)[None]}
ONES = {"attention_mask": torch.ones(2, 4, dtype=torch.long)}

INPUTS = {
    "the usual positions": ({"input_ids": IDS}, {"input_ids": IDS, **COUNTED}, ""),
    "positions that skip": (
        {"input_ids": IDS},
        {"input_ids": IDS, "position_ids": torch.tensor([[0, 1, 2, 3], [0, 1, 3, 4]])},
        "only the second was given position_ids",
    ),
    "other positions": (
        {"input_ids": IDS, "position_ids": torch.tensor([[0, 2, 4, 6], [0, 1, 2, 3]])},
        {"input_ids": IDS, "position_ids": torch.tensor([[0, 2, 4, 6], [0, 1, 3, 4]])},
        "position_ids of example 1 differ",
    ),
    "positions of padding": (
        {"input_ids": IDS, "attention_mask": LEFT, "position_ids": torch.tensor([[0, 1, 2, 3], [1, 1, 0, 1]])},
        {"input_ids": IDS, "attention_mask": LEFT, "position_ids": torch.tensor([[0, 1, 2, 3], [0, 0, 0, 1]])},
        "",
    ),
    "the same embeddings": ({"inputs_embeds": EMBEDDED, **ONES}, {"inputs_embeds": EMBEDDED.clone(), **ONES}, ""),
    "other embeddings": (
        {"inputs_embeds": EMBEDDED, **ONES},
        {"inputs_embeds": torch.cat([EMBEDDED[:1], EMBEDDED[1:] + 1]), **ONES},
        "inputs_embeds of example 1 differ",
    ),
    "embeddings of padding": (
        {"inputs_embeds": EMBEDDED, "attention_mask": LEFT},
        {"inputs_embeds": MOVED, "attention_mask": LEFT},
        "",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return tiny_model("gpt2")


def captured(model, inputs):
    with hw.capture(model, heads=True, maps=True) as found, torch.no_grad():
        model(**inputs)
    return found


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("what", INPUTS)
def test_inputs_that_are_no_token_ids_must_agree(model, what, name, tmp_path):
    *both, said = INPUTS[what]
    before, after = (captured(model, inputs) for inputs in both)
    for pair in ((before, after), (before, hw.load_trace(after.save(tmp_path / "trace")))):
        if said:
            with pytest.raises(InputError, match=f"of different inputs.*{said}"):
                analysis_call(name)(*pair)
        else:
            assert len(analysis_call(name)(*pair).frame)


def test_embeddings_that_generate_was_given_must_agree_whatever_the_number_of_beams(model):
    one, other = EMBEDDED[:1], EMBEDDED[1:]
    given = []
    for embedded, options in ((one, {}), (one, {"num_beams": 2}), (other, {})):
        with hw.capture(model, heads=True) as found:
            model.generate(
                inputs_embeds=embedded, **{k: v[:1] for k, v in ONES.items()}, max_new_tokens=2, **options
            )
        given.append(found.meta["given"])
    assert given[0] == given[1] != given[2]
    assert set(given[0]) == {"inputs_embeds"}


@pytest.mark.parametrize("stats", [True, False])
@pytest.mark.parametrize("mask", [LEFT.flip(-1), LEFT], ids=["right", "left"])
@pytest.mark.parametrize("name", PAIRS)
def test_causal_and_bidirectional_attention_are_not_compared(name, mask, stats):
    model = tiny_model("gpt2")
    sees_all = (mask[:, None, None] * torch.ones(4, 1, dtype=torch.long)).bool()
    traces = []
    for seen in (sees_all.tril() | torch.eye(4, dtype=torch.bool), sees_all):
        with hw.capture(model, stats=stats, heads=True, maps=True) as found, torch.no_grad():
            model(input_ids=IDS, attention_mask=seen)
        axis = found.layout.axes["text"]
        roles = axis.roles.where(mask.bool(), PADDING).to(torch.uint8)
        traces.append(Trace(found.records, TokenLayout({"text": replace(axis, roles=roles)}), found.meta))
    causal, bidirectional = traces
    assert (
        len(analysis_call(name)(causal, causal).frame)
        == len(analysis_call(name)(bidirectional, bidirectional).frame)
        > 0
    )
    for pair, which in ((traces, "second"), (traces[::-1], "first")):
        with pytest.raises(InputError, match=f"in the {which} alone text self 0 attends to later positions"):
            analysis_call(name)(*pair)


def test_a_last_row_alone_does_not_tell_whether_attention_is_causal():
    model = tiny_model("gpt2")
    traces = []
    settings: list[dict[str, Any]] = [{"maps": True}, {"rows": [-1], "stats": False}]
    for options in settings:
        with hw.capture(model, heads=True, **options) as found, torch.no_grad():
            model(input_ids=IDS, attention_mask=torch.ones(2, 1, 4, 4, dtype=torch.bool))
        traces.append(found)
    assert len(hw.analyses.trace_divergence(*traces).frame)
