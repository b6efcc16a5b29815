"""What a folder says of generating is taken within its range, said where it changes words, or left out and said."""

from __future__ import annotations

import json
import warnings
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig

import headwise as hw
from headwise.model.generation_settings import GenerationSettings, settle
from headwise.probes.run_examples import run_model
from headwise.testing import tiny_model
from headwise.text import visible
from tests.kit.cli import save
from tests.kit.hooks import watch
from tests.kit.mutants import ODD_VALUES
from tests.kit.subjects import language, multilingual_whisper, tone

USUAL = vars(GenerationConfig())
FIELDS = sorted(key for key in {*USUAL, *GenerationSettings.model_fields} if key[0] != "_")
ODD = (
    *ODD_VALUES,
    "fr",
    "de",
    "transcribe",
    63,
    [1],
    [1, 2],
    [[1]],
    [[1, 2]],
    "low",
    "quantized",
    {"backend": "inductor"},
    1e-9,
)


def cases(model):
    """Every field with every odd value, set: what was said of it, and what the model has now."""
    base = {key: value for key, value in vars(model.generation_config).items() if value is not None}
    for field in FIELDS:
        for value in ODD:
            notes = list(settle(model, {**base, field: value}, name="m"))
            assert all(note.startswith("m: settings for generating ") and len(note) < 400 for note in notes)
            left = any("left out" in note and field in note for note in notes)
            yield field, value, left, vars(model.generation_config).get(field)


def test_every_setting_with_an_odd_value_is_taken_or_left_out_and_said():
    for field, value, left, taken in cases(language().model):
        if left:
            assert taken == USUAL.get(field), (field, value)
        elif taken is not None:
            assert taken == value or taken == USUAL.get(field), (field, value)
            assert field in GenerationSettings.model_fields
        else:
            assert value in (None, False, 0, 1, "", [], {}), (field, value)


@pytest.mark.parametrize("kind", ["language", pytest.param("speech", marks=pytest.mark.slow)])
def test_whatever_is_taken_generates_and_starts_nothing(kind):
    subject = language() if kind == "language" else multilingual_whisper()
    spoken = kind == "speech"
    inputs = (
        subject.prepare(audio=[tone()], decoder=False) if spoken else subject.prepare(text=[[5, 6], [7, 8]])
    )
    tried = set()
    for field, value, left, taken in cases(subject.model):
        if taken is None or left:
            continue
        with watch() as seen, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert run_model(subject, inputs, 2).dim() == 2, (field, value)
            except hw.InputError:  # this model may write that token alone
                assert (field, value, kind) == ("pad_token_id", 0, "speech")
        assert not [event for event, _ in seen if event != "open"], (field, value)
        tried.add(field)
    assert len(tried) > 25


tiny = cache(lambda: language().model)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(FIELDS), st.text(max_size=5)),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
            max_leaves=4,
        ),
        max_size=5,
    ),
)
def test_settings_of_any_kind_settle(said):
    model = tiny()
    for note in settle(model, said, name="m"):
        assert visible(note) == note
    assert {*vars(model.generation_config)} <= {*USUAL, *GenerationSettings.model_fields}


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_a_folder_says_what_was_left_out(tmp_path, file):
    save(tmp_path)
    path = tmp_path / file
    asked = {
        "penalty_alpha": 0.6,
        "repetition_penalty": 1.3,
        "eos_token_id": 99,
        "cache_implementation": "quantized",
    }
    path.write_text(json.dumps({**json.loads(path.read_text()), **asked}))
    if file == "config.json":
        (tmp_path / "generation_config.json").unlink()
    with pytest.warns(UserWarning, match="settings for generating") as said:
        subject = hw.load(tmp_path)
    assert sorted(subject.warnings) == sorted(str(one.message) for one in said)
    whole = " ".join(subject.warnings)
    for part in ("penalty_alpha (0.6)", "99: the model has 16 tokens", "cache_implementation ('quantized')"):
        assert part in whole
    assert "change what it writes: repetition_penalty (1.3)" in whole
    settings = subject.model.generation_config
    assert (settings.repetition_penalty, settings.penalty_alpha, settings.eos_token_id) == (1.3, None, None)
    with hw.capture(subject) as trace:
        subject.model(**subject.prepare(text="a cat"))
    assert set(subject.warnings) <= set(trace.warnings)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"top_k": NaN}', '{"top_k": 1, "top_k": 2}', "[" * 5000]
)
def test_a_file_that_holds_no_settings_is_refused(tmp_path, text):
    save(tmp_path)
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(hw.LoadError, match=r"generation_config\.json"):
        hw.load(tmp_path)


def test_replies_are_greedy_whatever_the_folder_says(tmp_path):
    save(tmp_path)
    path = tmp_path / "generation_config.json"
    plain = hw.load(tmp_path)
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "do_sample": True, "num_beams": 4, "temperature": 9})
    )
    subject = hw.load(tmp_path)
    assert subject.warnings == ()
    assert subject.model.generation_config.num_beams == 4
    inputs = plain.prepare(text="a cat")
    assert run_model(plain, inputs, 8).tolist() == run_model(subject, inputs, 8).tolist()
    calls = []
    subject.model.register_forward_hook(lambda module, given, output: calls.append(len(output.logits)))
    run_model(subject, inputs, 2)
    assert set(calls) == {1}


@pytest.mark.parametrize(
    ("settings", "times"), [({"max_length": 20, "do_sample": True}, 1), ({"max_length": -1}, 2)]
)
def test_settings_are_checked_once_where_all_of_them_are_right(settings, times, monkeypatch):
    seen = []
    check = GenerationSettings.model_validate

    def counted(found, **options):
        seen.append(found)
        return check(found, **options)

    monkeypatch.setattr(GenerationSettings, "model_validate", counted)
    model = tiny_model("gpt2")
    said = list(settle(model, settings, name="it"))
    assert len(seen) == times
    assert bool(said) == (times == 2)
    assert model.generation_config.max_length == (
        20 if times == 1 else type(model.generation_config)().max_length
    )
