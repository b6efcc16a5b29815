"""Padding: a batch of two is two batches of one, on either side, in patterns, statistics and every analysis."""

from __future__ import annotations

import warnings

import pytest
import torch

import headwise as hw
from headwise import analyses
from headwise.errors import CaptureError
from headwise.subject.positions import left_padding, moves_texts
from headwise.subject.tokens import given_positions, pad_id
from headwise.testing.analyses import assert_same_frame
from headwise.testing.inputs import PADDED, first, forward
from tests.kit.analyses import NAMES
from tests.kit.subjects import language, word_tokenizer
from tests.tiny import ARCHITECTURES
from tests.tiny.shared import shared
from tests.tiny.telling import telling

both_sides = pytest.mark.parametrize("side", ["left", "right"])
SEEN = ("pass", "partial", "fallback")
SELECTS_KEYS = ("deepseek_v32", "glm_moe_dsa")
"""Sparse attention that selects its keys with the padding among them: the plain models' own batches differ."""
TEXTS = [
    name
    for name, row in ARCHITECTURES.items()
    if name not in SELECTS_KEYS
    and "padded" in row.inputs
    and row.expected in SEEN
    and "input_ids" in row.inputs["padded"]()
]
PADS_INSIDE = ("pegasus_x", "led")
"""Encoders that fill their input up to whole windows: the residual has rows of which no layout knows."""
QUICK = ("gpt2", "bert", "bart")
every_reader = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TEXTS]
)
COUNTED_FROM_THE_EDGE = ("gpt2", "biogpt", "gpt_neo", "xglm", "imagegpt", "bert", "albert", "electra", "git")
COUNTED_FROM_THE_MASK = ("llama", "gpt_neox", "opt", "bloom", "roberta", "paligemma")


def single(name):
    """One example of an architecture: the first of its plain inputs."""
    inputs = ARCHITECTURES[name].inputs["plain"]()
    return {field: value[:1] if len(value) == 2 else value for field, value in inputs.items()}


def shorter(inputs):
    """The same example without its last words."""
    width = inputs["input_ids"].shape[1]
    return {
        field: value[:, :-PADDED]
        if value.dim() == 2 and value.shape[1] == width and field != "decoder_input_ids"
        else value
        for field, value in inputs.items()
    }


def batch_of(examples, side, pad):
    """Both examples as tensors, the second padded on one side; `pad` is the id of padding."""
    room = (PADDED, 0) if side == "left" else (0, PADDED)
    width = examples[0]["input_ids"].shape[1]
    batch = {}
    for field, long in examples[0].items():
        short = examples[1][field]
        fill = pad if field == "input_ids" else 0
        padded = torch.nn.functional.pad(short, room, value=fill) if short.shape != long.shape else short
        batch[field] = torch.cat([long, padded])
    real = torch.nn.functional.pad(torch.ones(1, width - PADDED, dtype=torch.long), room)
    return batch | {"attention_mask": torch.cat([torch.ones(1, width, dtype=torch.long), real])}


def traced(model, *runs, **more):
    with hw.capture(model, maps=True, near=True, top=True, later=(1, 3), **more) as trace:
        outputs = [first(forward(model, inputs)) for inputs in runs]
    return trace, outputs


def rows_of(trace, site, example):
    """The pattern of one example between real positions."""
    pattern = trace.maps[site][example]
    rows = trace.layout.axes[site.tower].valid[example] if site.tower in trace.layout.axes else slice(None)
    pattern = pattern[:, rows] if isinstance(rows, slice) or len(rows) == pattern.shape[1] else pattern
    keys = rows if site.kind == "self" and not isinstance(rows, slice) else slice(None)
    return pattern[:, :, keys]


@every_reader
@both_sides
def test_a_batch_of_two_is_two_batches_of_one(name, side):
    model = shared(name)
    examples = [single(name), shorter(single(name))]
    subject = hw.wrap(model)
    pad = pad_id(subject)
    batch = batch_of(examples, side, pad)
    if side == "left" and left_padding(model, pad) == "edge":
        with pytest.raises(hw.InputError, match="counts positions from the left edge"):
            given_positions(subject, batch)
        return
    more = {"qkv": True, "residual": name not in PADS_INSIDE}
    together, outputs = traced(model, batch | given_positions(subject, batch), **more)
    apart, alone = traced(model, *examples, **more)
    if outputs[0].dim() == 3 and not model.config.is_encoder_decoder:
        length = examples[1]["input_ids"].shape[1]
        end = outputs[0].shape[1] - (0 if side == "left" else PADDED)
        last = alone[1][:, -length:]
        torch.testing.assert_close(outputs[0][1:, end - length : end], last, atol=2e-5, rtol=1e-4)
    for site in together.maps:
        if site.tower in ("text", "encoder") and site.kind == "self":
            for example in (0, 1):
                one, other = rows_of(together, site, example), rows_of(apart, site, example)
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    if name == "git" and side == "left":
        return  # padding lies between its image and its text there, and statistics count places
    for analysis in NAMES["trace"]:
        if analyses.get(analysis).writes and not model.can_generate():
            continue
        frames = [frame_of(analysis, trace) for trace in (together, apart)]
        assert (frames[0] is None) == (frames[1] is None), analysis
        if frames[0] is not None:
            assert_same_frame(*frames)
    for rows in ("head", "query", "key"):
        frames = [words(trace.to_frame(rows), trace) for trace in (together, apart)]
        assert_same_frame(*frames)


def frame_of(analysis, trace):
    """What an analysis finds; None where it refuses a trace: of a model whose keys are out of reach, or a short one."""
    try:
        return words(analyses.get(analysis)(trace).frame, trace)
    except CaptureError:
        return None


def words(frame, trace):
    """Rows about text, real positions counted; a vision tower may pack the pictures of a batch into one row.

    The log-sum-exp is left out: ALiBi adds one number to a whole row, which padding changes and no pattern shows.
    """
    frame = frame[frame["tower"].isin(["text", "encoder", "decoder"])].drop(columns=["lse"], errors="ignore")
    if "position" not in frame:
        return frame
    counted = {tower: axis.valid.cumsum(1) - 1 for tower, axis in trace.layout.axes.items()}
    source = "encoder" if "encoder" in counted else "vision"
    keys = not {"entropy", "step", "waad", "magnitude", "lifetime"} & set(frame)
    rows = zip(frame["tower"], frame["kind"], frame["example"], frame["position"], strict=True)
    places = []
    for tower, kind, example, place in rows:
        axis = counted.get(source if keys and kind == "cross" else tower)
        places.append(place if axis is None else int(axis[example, place]))
    return frame.assign(position=places)


@pytest.mark.parametrize("name", [*COUNTED_FROM_THE_EDGE, *COUNTED_FROM_THE_MASK])
def test_who_counts_positions_from_where(name):
    model = shared(name)
    before = dict(vars(model))
    expected = "position_ids" if name in COUNTED_FROM_THE_EDGE else "mask"
    assert left_padding(model) == expected
    assert vars(model) == before


@pytest.mark.parametrize("name", telling([*COUNTED_FROM_THE_EDGE, *COUNTED_FROM_THE_MASK], ("gpt2", "llama")))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_no_moved_text(name, dtype):
    """In 16 bits rotary positions differ by rounding; that is no reason to doubt a number."""
    model = ARCHITECTURES[name].build()
    moved = moves_texts(model)
    assert moved == (name in COUNTED_FROM_THE_EDGE)
    assert moves_texts(model.to(dtype)) == moved


def test_the_rule_is_measured_beside_a_capture_and_a_patch():
    model = shared("gpt2")
    with hw.patch(model, hw.fixes.ZeroHeads(heads=((0, 0),))), hw.capture(model) as trace:
        state = torch.get_rng_state()
        assert left_padding(model) == "position_ids"
        assert torch.equal(state, torch.get_rng_state())
        forward(model, single("gpt2"))
    assert trace.examples == 1


@pytest.mark.parametrize("name", ["gpt2", "biogpt", "bert", "llama"])
def test_prepare_gives_positions_where_they_are_needed(name):
    model = shared(name)
    subject = hw.wrap(model, word_tokenizer(side="left"))
    texts = [[5, 6, 7, 8, 9, 10], [11, 12, 13]]
    inputs = subject.prepare(text=texts)
    assert ("position_ids" in inputs) == (name != "llama")
    alone = first(forward(model, dict(subject.prepare(text=texts[1]))))
    torch.testing.assert_close(first(forward(model, dict(inputs)))[1:, 3:], alone, atol=1e-5, rtol=1e-4)
    assert "position_ids" not in subject.prepare(text=[texts[0], texts[0]])


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "biogpt"])
def test_generation_goes_on_behind_the_positions_of_prepare(name):
    model = ARCHITECTURES[name].build()
    subject = hw.wrap(model, word_tokenizer(side="left"))
    texts = [[5, 6, 7, 8, 9, 10], [11, 12, 13]]
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    alone = [model.generate(**subject.prepare(text=text), **options)[0, len(text) :] for text in texts]
    static = {"cache_implementation": "static"}
    for more in (
        {},
        {"use_cache": False},
        *([] if name == "gpt_neo" else [static]),
    ):  # static GPT-Neo is another
        written = model.generate(**subject.prepare(text=texts), **options, **more)[:, 6:]
        assert written.tolist() == [row.tolist() for row in alone]


@pytest.mark.parametrize("name", ["bart", "marian"])
def test_sources_that_count_from_the_edge_are_padded_behind(name):
    model = shared(name)
    subject = hw.wrap(model, word_tokenizer(side="left"))
    inputs = subject.prepare(text=[[5, 6, 7, 8], [9, 10]])
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize(("name", "warned"), [("gpt2", True), ("llama", False)])
def test_a_left_padded_batch_without_positions_is_said(name, warned):
    model = shared(name)
    inputs = ARCHITECTURES[name].inputs["padded"]()
    trace, _ = traced(model, inputs)
    assert any("position_ids" in text for text in trace.warnings) == warned
    positions = given_positions(hw.wrap(model), inputs)
    for more in (positions, {}) if not warned else (positions,):
        trace, _ = traced(model, inputs | more)
        assert not any("position_ids" in text for text in trace.warnings)
    with hw.capture(model) as trace:
        model.generate(**inputs, max_new_tokens=2, do_sample=False, pad_token_id=0)
    assert not any("position_ids" in text for text in trace.warnings)


# Special tokens


def test_text_that_begins_with_bos_gets_no_second_one():
    subject = language(word_tokenizer(side="left"))
    ids = subject.tokenizer.convert_tokens_to_ids(["<bos>", "a", "cat"])
    for texts in (["<bos> a cat"], ["<bos> a cat", "a cat"], ["a cat", "<bos> a cat", "<bos> a"]):
        inputs = subject.prepare(text=texts)
        rows = [
            row[mask.bool()].tolist()
            for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        assert rows == [ids[: 2 if text.endswith(" a") else 3] for text in texts]
    assert subject.prepare(text="a <bos> cat")["input_ids"].tolist() == [[1, ids[1], 1, ids[2]]]


def test_what_a_user_writes_twice_stays_and_is_said():
    subject = language(word_tokenizer())
    inputs = subject.prepare(text="<bos> <bos> a cat")
    assert inputs["input_ids"][0, :3].tolist()[:2] == [1, 1]
    assert inputs["input_ids"].shape == (1, 4)
    trace, _ = traced(subject.model, dict(inputs))
    assert any("twice in front of 1 prompt" in text for text in trace.warnings)
    trace, _ = traced(subject.model, dict(subject.prepare(text="<bos> a <bos> cat")))
    assert not any("twice" in text for text in trace.warnings)


def test_a_complete_text_of_an_encoder_gets_nothing_twice(minilm):
    subject = hw.load(minilm)
    plain = subject.prepare(text="the cat")
    for text in ("[CLS] the cat [SEP]", "[CLS] the cat", "the cat [SEP]"):
        inputs = subject.prepare(text=text)
        assert {name: value.tolist() for name, value in inputs.items()} == {
            name: value.tolist() for name, value in plain.items()
        }


# Tokenizers of other models


def test_ids_without_an_embedding_are_refused():
    subject = language(word_tokenizer())
    with pytest.raises(
        hw.InputError, match=r"outside the model's embedding matrix.*id 64; the matrix has 64 rows"
    ):
        subject.prepare(text=[5, 64])
    with pytest.raises(hw.InputError, match="outside"):
        subject.prepare(text=[5, -1])


def test_a_tokenizer_that_knows_no_word_is_said():
    subject = language(word_tokenizer())
    with pytest.warns(UserWarning, match="knows almost nothing of this text: 4 of 4 tokens are <unk>"):
        subject.prepare(text="vier Wörter auf Deutsch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subject.prepare(text="a cat sat auf")


def test_a_vocabulary_of_another_size_with_other_special_tokens_is_said():
    model = ARCHITECTURES["llama"].build()
    tokenizer = word_tokenizer()
    subject = hw.wrap(model, tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subject.prepare(text="a cat")
    model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id = 4, 5, 6
    with pytest.warns(UserWarning, match="has 16 tokens and the model 128, and their special tokens differ"):
        subject.prepare(text="a cat")
