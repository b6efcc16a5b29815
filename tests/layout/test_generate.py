"""What `generate` says of a prompt is what one forward on the same inputs says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import headwise as hw
from headwise.layout import ROLES, Axis, TokenLayout
from headwise.testing.inputs import random_normal
from headwise.testing.models import IMAGE_TOKEN
from tests.tiny import ARCHITECTURES
from tests.tiny.multimodal import ROWS

GENERATED = ROLES.index("generated")
NEW = 3
MODES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "no cache": {"use_cache": False},
    "beams": {"num_beams": 2},
    "beams without cache": {"num_beams": 2, "use_cache": False},
}
OWN_PROMPT = {
    "blip": "its generate replaces the first token and drops the last",
    "clap": "it has no generate",
}
SEEING = [row.name for row in ROWS if row.name not in OWN_PROMPT]
HEARING = ["whisper", "speech_to_text", "moonshine"]
QUICK = ("qwen2_vl", "instructblip", "whisper")


def cases(names: list[str]) -> list[Any]:
    """Every way of generating; those of a few telling models are quick."""
    return [
        pytest.param(name, mode, marks=() if name in QUICK and mode != "no cache" else pytest.mark.slow)
        for name in names
        for mode in MODES
    ]


def layouts(name: str, inputs: dict[str, torch.Tensor], mode: str) -> tuple[TokenLayout, TokenLayout, int]:
    """The layouts of a forward and of `generate` on the same inputs, and the number of examples that it wrote."""
    model = ARCHITECTURES[name].build()
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    with torch.no_grad():
        with hw.capture(model, check=False) as read:
            model(**inputs)
        with hw.capture(model, check=False) as written:
            model.generate(**inputs, **options, **MODES[mode])
    return read.layout, written.layout, written.examples


def assert_extends(long: Axis, short: Axis, *, written: bool) -> None:
    """`long` says of the positions of `short` what `short` says, for every copy of an example."""
    copies, rest = divmod(len(long.roles), len(short.roles))
    assert rest == 0
    known = short.repeat(copies)
    length = known.roles.shape[1]
    assert torch.equal(long.roles[:, :length], known.roles)
    assert set(long.roles[:, length:].unique().tolist()) <= ({GENERATED} if written else set())
    assert long.images == known.images
    assert (long.ids is None) == (known.ids is None)
    if long.ids is not None and known.ids is not None:
        assert torch.equal(long.ids[:, :length], known.ids)
    if long.tokens is not None and known.tokens is not None:
        assert [row[:length] for row in long.tokens] == list(known.tokens)
    assert (long.seconds is None) == (known.seconds is None)
    if long.seconds is not None and known.seconds is not None:
        assert torch.equal(long.seconds, known.seconds)


def assert_same_layout(read: TokenLayout, written: TokenLayout, examples: int, language: str) -> None:
    assert set(read.axes) == set(written.axes)
    assert len(written.axes[language].roles) == examples
    for tower, axis in read.axes.items():
        assert_extends(written.axes[tower], axis, written=tower == language)
    assert written.axes[language].roles.shape[1] == read.axes[language].roles.shape[1] + NEW - 1


@pytest.mark.parametrize("name", [name for name in SEEING if name == "git" or name in QUICK])
@pytest.mark.parametrize("cached", [True, False])
def test_a_picture_has_the_rows_of_one_forward_however_often_it_is_read(name: str, cached: bool) -> None:
    model, inputs = ARCHITECTURES[name].build(), ARCHITECTURES[name].inputs["plain"]()
    with torch.no_grad():
        with hw.capture(model, maps=True, check=False) as read:
            model(**inputs)
        with hw.capture(model, maps=True, check=False) as written:
            model.generate(
                **inputs, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, use_cache=cached
            )
    for site in read.sites:
        if site.tower == "vision":
            torch.testing.assert_close(written.maps[site], read.maps[site], atol=1e-5, rtol=1e-4)
            assert len(written.positions[site]) == len(read.positions[site])


@pytest.mark.parametrize("variant", ["plain", "padded"])
@pytest.mark.parametrize(("name", "mode"), cases(SEEING))
def test_pictures_in_generate(name: str, mode: str, variant: str) -> None:
    inputs = ARCHITECTURES[name].inputs[variant]()
    assert_same_layout(*layouts(name, inputs, mode), language="text")


@pytest.mark.parametrize(("name", "mode"), cases(HEARING))
def test_sounds_in_generate(name: str, mode: str) -> None:
    inputs = ARCHITECTURES[name].inputs["plain"]()
    start = ARCHITECTURES[name].build().generation_config.decoder_start_token_id
    inputs["decoder_input_ids"][:, 0] = start  # else generate puts it there
    assert_same_layout(*layouts(name, inputs, mode), language="decoder")


def two_prompts(name: str, side: str) -> tuple[list[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Two prompts of different length, two images in the first and one in the second, alone and as a batch."""
    qwen, tokens = name.startswith("qwen"), 16 if name == "llava" else 4
    image = (
        [102, *[IMAGE_TOKEN] * tokens, 103] if qwen else [IMAGE_TOKEN] * tokens
    )  # else images are adjacent
    alone = []
    for grids, words in (([[1, 4, 4], [1, 2, 8]], 3), ([[1, 4, 4]], 8)):
        ids = torch.tensor([[1, *image * len(grids), *range(20, 20 + words)]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if qwen:
            inputs["pixel_values"] = random_normal(16 * len(grids), 3 * 2 * 8 * 8, seed=words)
            inputs["image_grid_thw"] = torch.tensor(grids)
            inputs["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()
        else:
            inputs["pixel_values"] = random_normal(len(grids), 3, 32, 32, seed=words)
        alone.append(inputs)
    longest = max(item["input_ids"].shape[1] for item in alone)
    batch = {}
    for key in alone[0]:
        rows = [item[key] for item in alone]
        if not key.startswith(("pixel", "image")):
            rows = [torch.nn.functional.pad(row, _padding(longest - row.shape[1], side)) for row in rows]
        batch[key] = torch.cat(rows)
    return alone, batch


def _padding(size: int, side: str) -> tuple[int, int]:
    return (size, 0) if side == "left" else (0, size)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["qwen2_vl", pytest.param("llava", marks=pytest.mark.slow)])
@pytest.mark.parametrize("written", [False, True])
def test_a_batch_of_two_says_of_each_example_what_it_says_alone(name: str, side: str, written: bool) -> None:
    """Roles, ids, and every image with its grid, whatever side the padding is on and however many images there are."""
    model = ARCHITECTURES[name].build()
    alone, batch = two_prompts(name, side)

    def text(inputs: dict[str, torch.Tensor]) -> Axis:
        with torch.no_grad(), hw.capture(model, check=False) as trace:
            if written:
                model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False)
            else:
                model(**inputs)
        return trace.layout.axes["text"]

    together = text(batch)
    for example, inputs in enumerate(alone):
        own = text(inputs)
        length, real = inputs["input_ids"].shape[1], batch["attention_mask"][example].bool()
        assert torch.equal(together.roles[example, : len(real)][real], own.roles[0, :length])
        assert together.ids is not None
        assert torch.equal(together.ids[example, : len(real)][real], inputs["input_ids"][0])
        assert (together.roles[example, : len(real)][~real] == ROLES.index("padding")).all()
        shift = int(real.int().argmax())
        images = [replace(span, example=example, start=span.start + shift) for span in own.images]
        assert [span for span in together.images if span.example == example] == images
        assert [span.image for span in images] == list(range(2 - example))


@pytest.mark.parametrize("every", [False, True])
def test_two_pictures_are_not_the_copies_of_one_for_two_beams(every: bool) -> None:
    """A picture that is read before `generate` copies the prompt has its rows, however many beams there are."""
    model = ARCHITECTURES["llava"].build()
    inputs = two_prompts("llava", "left")[0][0]
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "num_beams": 2}
    with torch.no_grad():
        with hw.capture(model, maps=True, check=False) as read:
            model(**inputs)
        with hw.capture(model, maps=True, check=False, beams="all" if every else "returned") as written:
            model.generate(**inputs, **options)
    assert written.examples == (2 if every else 1)
    assert len(read.layout.axes["vision"].images) == 2
    assert written.layout.axes["vision"].images == read.layout.axes["vision"].images
    for site in read.sites:
        if site.tower == "vision":
            torch.testing.assert_close(written.maps[site], read.maps[site], atol=1e-5, rtol=1e-4)


def reader() -> tuple[Any, dict[str, torch.Tensor]]:
    """A vision encoder with a text decoder, as TrOCR and ViT-GPT2 are."""
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    eye = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8)
    talk = GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=60, n_positions=32, add_cross_attention=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(eye, talk, decoder_start_token_id=1)
    torch.manual_seed(0)
    inputs = {
        "pixel_values": random_normal(2, 3, 32, 40),
        "decoder_input_ids": torch.tensor([[1, 5], [1, 6]]),
    }
    return VisionEncoderDecoderModel(config).eval(), inputs | {"interpolate_pos_encoding": True}


@pytest.mark.parametrize("mode", MODES)
def test_a_vision_encoder_with_a_text_decoder(mode: str) -> None:
    model, inputs = reader()
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "eos_token_id": 59}
    with torch.no_grad():
        with hw.capture(model, check=False) as read:
            model(**inputs)
        with hw.capture(model, check=False) as written:
            model.generate(**inputs, **options, **MODES[mode])
    assert [span.grid for span in read.layout.axes["vision"].images] == [(4, 5), (4, 5)]
    assert_same_layout(read.layout, written.layout, written.examples, "decoder")
    assert "special" in hw.analyses.mass(written).frame["role"].tolist()  # the class token
