"""Specs: what is written comes back, and only onto the model it was written for."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

import headwise as hw
from headwise import fixes
from headwise.fixes.binding import bound
from headwise.fixes.spec.file import Entry
from headwise.fixes.spec.parameters import from_entry, to_entry
from headwise.fixes.spec.specs import Spec, load_spec, save_spec
from headwise.testing.inputs import first, forward
from tests.tiny import ARCHITECTURES
from tests.tiny.snapshot import snapshot

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LLAVA = ARCHITECTURES["llava"].build()
LAYER, HEAD = st.integers(0, 1), st.integers(0, 3)
HEADS = st.lists(st.tuples(LAYER, HEAD), max_size=4)
LAYERS = st.lists(LAYER, min_size=1, max_size=3)
SHARE = st.floats(0, 1)
PLACE = st.sampled_from([{}, {"tower": "text"}, {"tower": "vision", "kind": "self"}])
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def weights(draw: st.DrawFn) -> dict[int, float]:
    """Key positions with weights that sum to 1."""
    raw = draw(st.dictionaries(st.integers(0, 50), st.floats(0.01, 1), min_size=1, max_size=4))
    return {key: value / sum(raw.values()) for key, value in raw.items()}


def _with(**strategies: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=strategies)


def _choice(kind: type, name: str) -> st.SearchStrategy[str]:
    """The words that a parameter may be."""
    return st.sampled_from(get_args(get_type_hints(kind)[name]))


STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "act": st.builds(
        lambda heads, more: fixes.ACT(heads=heads, **more),
        HEADS,
        _with(
            beta=SHARE,
            alpha=st.floats(0.1, 9),
            tau=SHARE | st.none(),
            layers=LAYERS.map(tuple),
            mode=_choice(fixes.ACT, "mode"),
            decode=_choice(fixes.ACT, "decode"),
            min_rows=st.integers(1, 9),
            variant=_choice(fixes.ACT, "variant"),
            rule=_choice(fixes.ACT, "rule"),
            source=WORDS,
        ),
    ),
    "mask_keys": st.builds(
        lambda keys, more, place: fixes.MaskKeys(keys=keys, **more, **place),
        st.lists(st.integers(0, 2**40), max_size=4),
        _with(heads=HEADS | st.none()),
        PLACE,
    ),
    "scale_heads": st.builds(
        lambda heads, factor, place: fixes.ScaleHeads(heads=heads, factor=factor, **place),
        HEADS,
        st.floats(allow_nan=False, allow_infinity=False),
        PLACE,
    ),
    "set_rows": st.builds(
        lambda heads, row, weights, place: fixes.SetRows(heads=heads, row=row, weights=weights, **place),
        HEADS,
        st.integers(-50, 50),
        weights(),
        PLACE,
    ),
    "var": st.builds(
        lambda dims, layers, more: fixes.VAR(sink_dims=dims, layers=layers, **more),
        st.lists(st.integers(0, 15), min_size=1, max_size=3, unique=True),
        LAYERS,
        _with(
            p=SHARE,
            rho=SHARE,
            tau=st.floats(0.1, 3.9) | st.just("auto"),
            least_mass=SHARE,
            require_visual_sink=st.booleans(),
            no_image=_choice(fixes.VAR, "no_image"),
            variant=_choice(fixes.VAR, "variant"),
            source=WORDS,
        ),
    ),
    "vhr": _with(
        alpha=st.floats(0, 100),
        layers=LAYERS,
        without=_choice(fixes.VHR, "without"),
        choose=_choice(fixes.VHR, "choose"),
        distance=_choice(fixes.VHR, "distance"),
        outliers=st.booleans(),
        deviation=_choice(fixes.VHR, "deviation"),
        scale_both=st.booleans(),
        seed=st.integers(0, 2**31),
        no_image=_choice(fixes.VHR, "no_image"),
        source=WORDS,
    ).map(lambda options: fixes.VHR(**options)),
    "zero_heads": st.builds(lambda heads, place: fixes.ZeroHeads(heads=heads, **place), HEADS, PLACE),
}


def _llama(seed: int = 0, **changes: Any) -> Any:
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**sizes, "num_attention_heads": 4, **changes})).eval()


def _by_hand(path: Path) -> dict[str, Any]:
    """The content of a spec, for somebody who changes it."""
    content = json.loads(path.read_text())
    del content["sha256"]
    return content


ZERO = fixes.ZeroHeads(heads=((0, 1), (1, 3)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that does not exist yet."""
    return tmp_path / "winner.json"


def test_every_fix_that_can_be_written_has_a_strategy() -> None:
    assert set(STRATEGIES) | {"replace"} == set(fixes.names())


@pytest.mark.parametrize(
    "name",
    [name if name in ("act", "var") else pytest.param(name, marks=pytest.mark.slow) for name in STRATEGIES],
)
def test_what_is_saved_is_loaded(name: str) -> None:
    @settings(max_examples=20, deadline=None)
    @given(fix=STRATEGIES[name])
    def round_trip(fix: Any) -> None:
        ready = bound(fix, LLAVA)
        with TemporaryDirectory() as folder:
            save_spec(f"{folder}/fix.json", fix, LLAVA)
            spec = load_spec(f"{folder}/fix.json")
        assert spec.fixes == ready
        assert [to_entry(fix) for fix in spec.fixes] == [to_entry(fix) for fix in ready]  # `source` as well
        spec.check(LLAVA)

    round_trip()


def test_the_file_is_what_it_should_be(path: Path) -> None:
    model = _llama()
    save_spec(path, [ZERO, fixes.ScaleHeads(heads=((1, 0),), factor=0.5)], hw.wrap(model))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content.pop("versions")) == {"headwise", "torch", "transformers"}
    assert content.pop("schema") == 3
    assert len(content.pop("sha256")) == 64
    assert content.pop("fixes") == [
        {"fix": "zero_heads", "parameters": {"heads": [[0, 1], [1, 3]], "tower": None, "kind": "self"}},
        {
            "fix": "scale_heads",
            "parameters": {"heads": [[1, 0]], "factor": 0.5, "tower": None, "kind": "self"},
        },
    ]
    assert content.pop("model") == {
        "name": "LlamaForCausalLM",
        "family": "llama",
        "class_name": "LlamaForCausalLM",
        "dtype": "float32",
        "vocabulary": 32,
        "towers": [{"tower": "text", "kind": "self", "layers": [0, 1], "heads": [4, 4], "width": 16}],
        "weights": load_spec(path).model.weights.model_dump(),
    }
    assert content == {}
    assert "[[0, 1], [1, 3]]" in path.read_text()


def test_only_towers_that_are_used_are_described(bart: PreTrainedModel, path: Path) -> None:
    save_spec(path, [fixes.ZeroHeads(heads=((0, 0),), kind="cross"), ZERO], bart)
    assert [tower.name for tower in load_spec(path).model.towers] == ["decoder cross", "decoder self"]


def test_what_depends_on_the_model_is_filled_in(path: Path) -> None:
    save_spec(path, fixes.VHR(), LLAVA)
    assert load_spec(path).fixes[0].layers == bound(fixes.VHR(), LLAVA)[0].layers is not None


def test_a_fix_without_its_constants_is_not_written(path: Path) -> None:
    for fix in (fixes.ACT(), fixes.VAR(layers=(1,))):
        with pytest.raises(hw.errors.NotFitted, match=r"hw\.fit"):
            save_spec(path, fix, LLAVA)
    assert not path.exists()


def test_a_spec_patches_the_model_by_its_path(path: Path) -> None:
    model, inputs = _llama(), {"input_ids": torch.tensor([[3, 1, 2]])}
    save_spec(path, ZERO, model)
    with hw.patch(model, ZERO):
        wanted = first(forward(model, inputs))
    plain = first(forward(model, inputs))
    for place in (path, str(path)):
        with hw.patch(model, place) as handle:
            assert torch.equal(first(forward(model, inputs)), wanted)
        assert handle.fixes == (ZERO,)
    assert not torch.allclose(wanted, plain)
    assert torch.equal(first(forward(model, inputs)), plain)


# Other models


OTHERS = {
    "weights": (_llama(seed=1), ["weights: the spec has"], True),
    "dtype": (
        _llama(seed=1).to(torch.bfloat16),
        ["in float32, this model", "in bfloat16", "by more than"],
        True,
    ),
    "vocabulary": (_llama(vocab_size=40), ["vocabulary: the spec has 32, this model 40"], True),
    "layers": (
        _llama(num_hidden_layers=3),
        [
            "text self: the spec has layers 0 to 1 of 4 heads, width 16, this model layers 0 to 2 of 4 heads, width 16"
        ],
        False,
    ),
    "heads": (
        _llama(num_attention_heads=2),
        ["of 4 heads, width 16, this model layers 0 to 1 of 2 heads"],
        False,
    ),
    "width": (_llama(hidden_size=32), ["width 16, this model layers 0 to 1 of 4 heads, width 32"], False),
    "tower": (ARCHITECTURES["bart"].build(), ["this model none", "BartFor"], False),
    "architecture": (
        ARCHITECTURES["gpt2"].build(),
        ["LlamaForCausalLM (llama), this model GPT2LMHeadModel"],
        False,
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_is_refused_with_what_differs(name: str, path: Path) -> None:
    other, said, fits = OTHERS[name]
    save_spec(path, ZERO, _llama())
    before = snapshot(other)
    for use in (lambda: load_spec(path).check(other), lambda: hw.patch(other, path)):
        with pytest.raises(hw.FixError) as caught:
            use()
        for words in said:
            assert words in str(caught.value)
        assert ("force=True" in str(caught.value)) == fits
    if not fits:
        with pytest.raises(hw.FixError, match="differs"):
            load_spec(path).check(other, force=True)
    assert snapshot(other) == before
    if fits:
        load_spec(path).check(other, force=True)
        with hw.patch(other, path, force=True) as handle:
            assert handle.fixes == (ZERO,)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        (ZERO, "text self: the spec has none"),
        (fixes.ZeroHeads(heads=((0, 0),), tower="vision"), "vision self"),
    ],
)
def test_a_spec_must_describe_the_towers_that_its_fixes_act_on(fix: Any, said: str, path: Path) -> None:
    save_spec(path, fix, LLAVA)
    content = _by_hand(path)
    other = {**content["model"]["towers"][0], "kind": "cross"}
    for towers in ([], [other]):
        path.write_text(json.dumps({**content, "model": {**content["model"], "towers": towers}}))
        for force in (False, True):
            with pytest.raises(hw.FixError, match=said):
                load_spec(path).check(LLAVA, force=force)
            with pytest.raises(hw.FixError, match=said):
                hw.patch(LLAVA, path, force=force)


def test_a_spec_of_neutral_fixes_needs_no_towers(path: Path) -> None:
    save_spec(path, fixes.ZeroHeads(heads=()), LLAVA)
    content = _by_hand(path)
    content["model"]["towers"] = []
    path.write_text(json.dumps(content))
    load_spec(path).check(LLAVA)


def test_force_takes_another_architecture_of_the_same_shape(path: Path) -> None:
    mistral = ARCHITECTURES["mistral"].build()
    save_spec(path, ZERO, ARCHITECTURES["llama"].build())
    with pytest.raises(hw.FixError, match=r"LlamaForCausalLM \(llama\), this model MistralForCausalLM"):
        load_spec(path).check(mistral)
    load_spec(path).check(mistral, force=True)


def test_a_spec_of_a_language_tower_fits_the_same_tower_inside_another_model(path: Path) -> None:
    inner = LlamaForCausalLM(LLAVA.config.text_config).eval()
    save_spec(path, fixes.ZeroHeads(heads=((1, 1),)), LLAVA)
    load_spec(path).check(inner, force=True)


def test_names_of_a_spec_cannot_paint_the_terminal(path: Path) -> None:
    save_spec(path, ZERO, _llama())
    content = _by_hand(path)
    content["model"]["name"] = "\x1b[31m\u202eevil" + "x" * 10_000
    path.write_text(json.dumps(content))
    with pytest.raises(hw.FixError) as caught:
        load_spec(path).check(_llama(seed=1))
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_numbers_of_other_libraries_are_numbers() -> None:
    import numpy as np

    fix = fixes.ScaleHeads(heads=((np.int64(1), np.int64(0)),), factor=np.float32(0.5))  # type: ignore[arg-type]
    assert from_entry(to_entry(fix)) == fix
    entry = Entry(fix="mask_keys", parameters={"keys": [3]})
    assert from_entry(entry) == fixes.MaskKeys(keys=(3,))


def test_a_spec_says_what_it_is(path: Path) -> None:
    save_spec(path, [ZERO, ZERO], _llama())
    spec = load_spec(path)
    assert isinstance(spec, Spec)
    assert repr(spec) == f"Spec(ZeroHeads, ZeroHeads; for LlamaForCausalLM; {path})"
