"""`hw.bake`: a scaling of heads in the weights does what the hooks do, and is refused where it could not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import AlbertConfig, AlbertModel

import headwise as hw
from headwise import fixes
from headwise.fixes.baking import bake
from headwise.fixes.binding import bound
from headwise.fixes.spec.specs import save_spec
from headwise.probes.attach.sites import attention_modules
from headwise.testing.inputs import first, forward
from tests.kit import subjects
from tests.tiny import ARCHITECTURES
from tests.tiny.reference import tensors
from tests.tiny.snapshot import snapshot
from tests.tiny.telling import telling

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SOFTMAX, NORM = "is seen through its softmax alone", "a norm or a gate stands between"
HIDDEN = "cannot see this model's attention"
REFUSED: dict[str, dict[str, str]] = {
    "bitnet": {"text self": NORM},
    "qwen3_next": {"text self": NORM},
    "diffllama": {"text self": "several calls are joined"},
    "longformer": {"text self": HIDDEN},
    "wavlm": {"encoder self": HIDDEN},
    "git": {"text self": SOFTMAX},
    "blip": {"vision self": SOFTMAX, "text self": SOFTMAX, "text cross": SOFTMAX},
    "led": {"decoder self": SOFTMAX, "decoder cross": SOFTMAX},
    "fsmt": {"encoder self": SOFTMAX, "decoder self": SOFTMAX, "decoder cross": SOFTMAX},
    "perceiver": {"text self": SOFTMAX, "text cross": SOFTMAX},
    "ibert": {"text self": SOFTMAX},
    "squeezebert": {"text self": SOFTMAX},
    "vitdet": {"vision self": SOFTMAX},
    "kosmos2_5": {"vision self": SOFTMAX},
    "clap": {"encoder self": SOFTMAX},
    **{
        name: {"text self": SOFTMAX} for name in ("bloom", "codegen", "falcon", "gpt_neo", "gptj", "imagegpt")
    },
    **{name: {"text self": SOFTMAX} for name in ("mpt", "xglm", "deberta", "deberta_v2", "mpnet", "xlnet")},
}
"""Towers that cannot be baked, and why."""
CAN = [
    name
    for name, row in ARCHITECTURES.items()
    if row.expected != "none" and set(row.sites) - set(REFUSED.get(name, ()))
]
CANNOT = [(name, place) for name, places in REFUSED.items() for place in places]


def _on_every_tower(name: str, model: PreTrainedModel) -> list[Any]:
    """For every tower and kind that can be baked: head 0 scaled everywhere, head 1 of the last layer silent."""
    row, several = ARCHITECTURES[name], []
    for place in set(row.sites) - set(REFUSED.get(name, ())):
        tower, kind = place.split()
        entries = [e for e in attention_modules(model) if (e.tower, e.kind) == (tower, kind)]
        layers = [entry.layer for entry in entries if entry.name not in row.unreached]
        silent = layers[-1:]
        if entries[0].shared:  # one W_O for all layers
            layers = silent = list(range(row.sites[place]))
        several += [
            fixes.ScaleHeads(heads=[(layer, 0) for layer in layers], factor=-0.3, tower=tower, kind=kind),
            fixes.ZeroHeads(heads=[(layer, 1) for layer in silent], tower=tower, kind=kind),
        ]
    return several


@pytest.mark.parametrize("name", telling(CAN))
def test_baked_weights_give_the_logits_of_the_patched_model(name: str) -> None:
    row = ARCHITECTURES[name]
    model, inputs = row.build(), row.inputs["plain"]()
    several = _on_every_tower(name, model)
    plain, before = tensors(forward(model, inputs)), snapshot(model)
    baked = bake(model, several, inputs=inputs)
    assert snapshot(model) == before
    with hw.patch(model, several):
        patched = tensors(forward(model, inputs))
    own = tensors(forward(baked.model, inputs))
    for field, value in patched.items():
        torch.testing.assert_close(own[field], value, rtol=1e-5, atol=1e-5)
    assert any(not torch.allclose(own[field], value, atol=1e-3) for field, value in plain.items())
    for field, value in tensors(forward(model, inputs)).items():
        assert torch.equal(plain[field], value)
    assert set(baked.model.__dict__) == set(model.__dict__)


@pytest.mark.parametrize(("name", "place"), telling(CANNOT))
def test_heads_that_no_weight_can_scale_are_refused_with_the_reason(name: str, place: str) -> None:
    row = ARCHITECTURES[name]
    model, (tower, kind) = row.build(), place.split()
    layer = next(e.layer for e in attention_modules(model) if (e.tower, e.kind) == (tower, kind))
    before = snapshot(model)
    with pytest.raises(hw.HeadwiseError, match=REFUSED[name][place]):
        bake(
            model, fixes.ZeroHeads(heads=((layer, 0),), tower=tower, kind=kind), inputs=row.inputs["plain"]()
        )
    assert snapshot(model) == before


def test_every_architecture_is_accounted_for() -> None:
    without = {name for name, row in ARCHITECTURES.items() if row.expected == "none"}
    assert set(CAN) | set(REFUSED) | without == set(ARCHITECTURES)


# By hand


def test_rows_of_a_conv1d_and_columns_of_a_linear_are_scaled(llama: PreTrainedModel) -> None:
    gpt2 = ARCHITECTURES["gpt2"].build()
    several = [
        fixes.ScaleHeads(heads=((1, 1),), factor=0.5),
        fixes.ScaleHeads(heads=((1, 1), (1, 2)), factor=4.0),
        fixes.ZeroHeads(heads=((1, 3),)),
    ]
    wanted = torch.tensor([1.0, 2.0, 4.0, 0.0])
    for model, path, axis in (
        (gpt2, "transformer.h.{}.attn.c_proj", 0),
        (llama, "model.layers.{}.self_attn.o_proj", 1),
    ):
        baked = bake(model, several).model
        for layer in (0, 1):
            old: Any = model.get_submodule(path.format(layer)).weight
            new: Any = baked.get_submodule(path.format(layer)).weight
            factors = (wanted if layer else torch.ones(4)).repeat_interleave(old.shape[axis] // 4)
            assert torch.equal(new, old * (factors[:, None] if axis == 0 else factors))
        changed = [
            name
            for (name, old), new in zip(model.named_parameters(), baked.parameters(), strict=True)
            if not torch.equal(old, new)
        ]
        assert changed == [f"{path.format(1)}.weight"]


def test_albert_takes_the_same_factors_in_every_layer_or_none() -> None:
    model = ARCHITECTURES["albert"].build()
    with pytest.raises(hw.FixError, match="text self 0 and text self 1 share one W_O"):
        bake(model, fixes.ZeroHeads(heads=((1, 0),)))
    model = AlbertModel(AlbertConfig.from_dict({**model.config.to_dict(), "num_hidden_layers": 1})).eval()
    bake(model, fixes.ZeroHeads(heads=((0, 0),)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_number_formats_stay_what_they_are(dtype: torch.dtype, llama: Any) -> None:
    baked = bake(llama.to(dtype), fixes.ScaleHeads(heads=((0, 1),), factor=0.3))
    assert {parameter.dtype for parameter in baked.model.parameters()} == {dtype}


def test_mode_and_random_state_stay_what_they_are() -> None:
    model = ARCHITECTURES["vit_mae"].build()  # draws what it masks
    model.train()
    next(model.children()).eval()
    state = torch.get_rng_state()
    baked = bake(model, fixes.ZeroHeads(heads=((0, 0),), tower="vision"))
    assert torch.equal(torch.get_rng_state(), state)
    modes = [{name: m.training for name, m in some.named_modules()} for some in (model, baked.model)]
    assert modes[0] == modes[1]


def test_neutral_fixes_give_a_plain_copy(llama: PreTrainedModel) -> None:
    neutral = [fixes.ScaleHeads(heads=((0, 1),), factor=1.0), fixes.MaskKeys(keys=())]
    baked = bake(hw.wrap(llama, subjects.word_tokenizer()), neutral)
    assert baked.tokenizer is not None
    for old, new in zip(llama.parameters(), baked.model.parameters(), strict=True):
        assert torch.equal(old, new)
        assert old is not new


def test_a_spec_is_baked_into_its_own_model_alone(llama: PreTrainedModel, tmp_path: Path) -> None:
    zero = fixes.ZeroHeads(heads=((0, 1),))
    save_spec(tmp_path / "winner.json", zero, llama)
    for path in (tmp_path / "winner.json", str(tmp_path / "winner.json")):
        for one, other in zip(
            bake(llama, path).model.parameters(), bake(llama, zero).model.parameters(), strict=True
        ):
            assert torch.equal(one, other)
    with pytest.raises(hw.FixError, match="architecture"):
        bake(ARCHITECTURES["mistral"].build(), tmp_path / "winner.json")


# Made-up inputs


def test_a_picture_is_made_up_for_a_model_that_takes_one() -> None:
    subject, fix = subjects.llava(), fixes.ZeroHeads(heads=((0, 0),), tower="vision")
    baked = bake(subject, fix)
    inputs = dict(subject.prepare(text="a cat", image=subjects.picture()))
    with hw.patch(subject, fix):
        patched = first(forward(subject.model, inputs))
    torch.testing.assert_close(first(forward(baked.model, inputs)), patched, rtol=1e-5, atol=1e-5)
    with pytest.raises(hw.FixError, match=r"vision_tower.* did not.*inputs=subject\.prepare"):
        bake(subject.model, fix)  # nothing to make a picture with
    with pytest.raises(hw.FixError, match="on the inputs given"):
        bake(subject, fix, inputs=subject.prepare(text="a cat"))


def test_inputs_of_another_model_are_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(hw.InputError, match="does not run on these inputs"):
        bake(llama, fixes.ZeroHeads(heads=((0, 0),)), inputs={"pixel_values": torch.zeros(1)})
    with pytest.raises(hw.InputError, match="No input could be made up"):
        bake(ARCHITECTURES["perceiver"].build(), fixes.ZeroHeads(heads=((0, 0),)))


# Refusals


class Gate:
    """Scales by what the input says."""

    def scale(self, z: torch.Tensor, site: Any, context: Any) -> torch.Tensor:
        """Each position by its own mean."""
        return z * z.mean(-1, keepdim=True)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        (fixes.MaskKeys(keys=(0,)), "edits attention patterns"),
        (fixes.SetRows(heads=((0, 0),), row=0, weights={0: 1.0}), "edits attention patterns"),
        (
            fixes.Replace(quantity="q", layer=0, value=torch.zeros(1, 4, 3, 8)),
            "edits queries, keys and values",
        ),
        (
            fixes.Replace(quantity="residual", layer=0, value=torch.zeros(1, 3, 32)),
            "edits the residual stream",
        ),
        (fixes.Replace(quantity="z", layer=0, value=torch.zeros(1, 3, 4, 8)), "no factors"),
        (fixes.VHR(), "looks at every prompt"),
        (fixes.ACT(heads=((0, 0),)), "edits attention patterns"),
        (Gate(), "no factors"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_static_scaling_is_refused_with_the_reason(fix: Any, said: str, tmp_path: Path) -> None:
    model = ARCHITECTURES["llava"].build()
    bound(fix, model)
    with pytest.raises(hw.FixError, match=said):
        bake(model, [fixes.ZeroHeads(heads=((0, 0),)), fix], tmp_path / "baked")
    assert list(tmp_path.iterdir()) == []


def _tied(model: PreTrainedModel) -> None:
    layers: Any = model.get_submodule("model.layers")
    layers[1].self_attn.o_proj.weight = layers[0].self_attn.o_proj.weight


def _computed(model: PreTrainedModel) -> None:
    torch.nn.utils.parametrizations.weight_norm(model.get_submodule("model.layers.0.self_attn.o_proj"))


def _offloaded(model: PreTrainedModel) -> None:
    model.get_submodule("lm_head").to("meta")


def _quantised(model: PreTrainedModel) -> None:
    module: Any = model.get_submodule("model.layers.0.self_attn.o_proj")
    module.weight = torch.nn.Parameter(module.weight.to(torch.int8), requires_grad=False)


def _marked_quantised(model: PreTrainedModel) -> None:
    model.is_quantized = True  # type: ignore[assignment]


def _adapted(model: PreTrainedModel) -> None:
    """A low-rank adapter that is not fed through W_O."""
    module: Any = model.get_submodule("model.layers.0.self_attn.o_proj")
    extra = torch.randn(module.weight.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    module.register_forward_hook(lambda _, args, output: output + args[0] @ extra.T)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_tied, "is tied to another one"),
        (_computed, r"could not be loaded.*o_proj\.parametrizations"),
        (_offloaded, "lm_head.weight is offloaded"),
        (_quantised, r"o_proj\.weight is int8"),
        (_marked_quantised, "quantised"),
        (_adapted, "does not compute what the patched model does"),
    ],
)
def test_weights_that_cannot_be_scaled_are_refused(damage: Any, said: str, llama: PreTrainedModel) -> None:
    damage(llama)
    with pytest.raises(hw.FixError, match=said):
        bake(llama, fixes.ZeroHeads(heads=((0, 0), (1, 2))))


def test_a_patched_model_is_refused(llama: PreTrainedModel) -> None:
    zero = fixes.ZeroHeads(heads=((0, 0),))
    with hw.patch(llama, zero), pytest.raises(hw.FixError, match="captured or patched at the moment"):
        bake(llama, zero)
    with pytest.raises(hw.FixError, match="There is no head L"):
        bake(llama, Beyond())


class Beyond(Gate):
    """A scaling of a head that does not exist."""

    def factors(self, layer: int, heads: int) -> torch.Tensor:
        """Refused."""
        raise hw.FixError(f"There is no head L{layer}H{heads}.")


# Folders


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zero, subject = fixes.ZeroHeads(heads=((0, 0),)), subjects.language(subjects.word_tokenizer())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for path, said in (
        (tmp_path / "full", "has something in it"),
        (tmp_path / "full" / "note.txt", "is a file"),
        (tmp_path / "none" / "baked", "does not exist"),
    ):
        with pytest.raises(hw.InputError, match=said):
            bake(subject, zero, path)
    baked = bake(subject, zero, tmp_path / "empty")
    assert baked.name == str(tmp_path / "empty")
    again = hw.load(tmp_path / "empty")
    inputs = dict(again.prepare(text="a cat sat"))
    assert torch.equal(first(forward(again.model, inputs)), first(forward(baked.model, inputs)))

    def fails(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(subject.model), "save_pretrained", fails)
    with pytest.raises(hw.InputError, match="No space left"):
        bake(subject, zero, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


PLAIN = """
import sys, torch, transformers
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "headwise":
            raise ImportError("headwise is blocked")
sys.meta_path.insert(0, Blocker())
try:
    import headwise
except ImportError:
    pass
else:
    raise SystemExit("headwise was imported")
for folder in sys.argv[1:]:
    given = torch.load(folder + ".inputs")
    loader = getattr(transformers, given.pop("loader"))
    with torch.no_grad():
        torch.save(loader.from_pretrained(folder).eval()(**given).logits, folder + ".logits")
assert "headwise" not in sys.modules
"""


@pytest.mark.slow
def test_a_baked_folder_loads_where_there_is_no_headwise(tmp_path: Path) -> None:
    loaders = {
        "gpt2": "AutoModelForCausalLM",
        "llama": "AutoModelForCausalLM",
        "bart": "AutoModelForSeq2SeqLM",
        "llava": "AutoModelForImageTextToText",
    }
    wanted = {}
    for name, loader in loaders.items():
        row = ARCHITECTURES[name]
        model, inputs = row.build(), row.inputs["plain"]()
        several = _on_every_tower(name, model)
        bake(model, several, tmp_path / name, inputs=inputs)
        torch.save({**inputs, "loader": loader}, tmp_path / f"{name}.inputs")
        with hw.patch(model, several):
            wanted[name] = first(forward(model, inputs))
    folders = [str(tmp_path / name) for name in wanted]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *folders], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, logits in wanted.items():
        torch.testing.assert_close(torch.load(tmp_path / f"{name}.logits"), logits, rtol=1e-5, atol=1e-5)
