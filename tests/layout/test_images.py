"""Where images lie among text tokens and in vision towers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from headwise.layout import ROLES, Axis, ImageSpan, TokenLayout, describe
from headwise.layout.vision import default_unit, image_spans, image_units
from tests.kit.subjects import llava, llava_processor, picture, word_tokenizer
from tests.tiny import ARCHITECTURES
from tests.tiny.telling import telling

IMAGE = ROLES.index("image")


def places(images: tuple[ImageSpan, ...]) -> list[tuple]:
    return [(span.example, span.image, span.start, span.length, span.grid) for span in images]


def spans(axis: Axis) -> list[tuple]:
    return places(axis.images)


def held(*rows: str) -> torch.Tensor:
    """True where a letter is `i`."""
    return torch.tensor([[letter == "i" for letter in row] for row in rows])


def found(*rows: str, units=None, default=None) -> list[tuple]:
    return spans(
        Axis("text", torch.zeros(1, 1, dtype=torch.uint8), images=image_spans(held(*rows), units, default))
    )


# Spans


def test_runs_are_images():
    assert found("tiit", "iiii", "tttt") == [(0, 0, 1, 2, None), (1, 0, 0, 4, None)]


def test_runs_with_text_between_are_several_images():
    assert found("iitii", default=(2, (1, 2))) == [(0, 0, 0, 2, (1, 2)), (0, 1, 3, 2, (1, 2))]


def test_adjacent_images_are_told_apart_by_their_size():
    assert found("tiiiit", default=(2, (2, 1))) == [(0, 0, 1, 2, (2, 1)), (0, 1, 3, 2, (2, 1))]


def test_a_run_that_the_size_does_not_explain_has_no_grid():
    assert found("iiiii", default=(2, (2, 1))) == [(0, 0, 0, 5, None)]
    assert found("iiiii", units=iter([(2, (2, 1)), (4, (2, 2))])) == [(0, 0, 0, 5, None)]


def test_grids_of_the_processor_are_used_in_order():
    units = iter([(2, (1, 2)), (3, (3, 1)), (4, (2, 2))])
    assert found("tiiiii", "iiiitt", units=units) == [
        (0, 0, 1, 2, (1, 2)),
        (0, 1, 3, 3, (3, 1)),
        (1, 0, 0, 4, (2, 2)),
    ]


def test_merged_patches_of_qwen():
    config = SimpleNamespace(vision_config=SimpleNamespace(spatial_merge_size=2))
    assert list(image_units(config, torch.tensor([[1, 4, 8], [2, 2, 2]]))) == [
        (8, (2, 4)),
        (1, (1, 1)),
        (1, (1, 1)),
    ]


@pytest.mark.parametrize(
    ("words", "grid"),
    [
        ({}, (4, 8)),
        ({"scale_factor": 2}, (2, 4)),
        ({"downsample_factor": 2}, (2, 4)),
        ({"downsample_ratio": 0.5}, (2, 4)),
    ],
)
def test_grids_that_are_not_square(words, grid):
    vision = SimpleNamespace(image_size=(32, 64), patch_size=8)
    config = SimpleNamespace(model_type="", vision_config=vision, **words)
    assert default_unit(config, None) == (grid[0] * grid[1], grid)


def test_pixels_at_hand_count_more_than_the_config():
    config = SimpleNamespace(model_type="", image_size=224, patch_size=16)
    assert default_unit(config, torch.zeros(1, 3, 32, 48)) == (6, (2, 3))


# Whole models


def test_llava_places_images_and_their_grids():
    subject = llava()
    inputs = subject.prepare(text=["a <image> cat", "a"], image=[[picture()], [picture()]])
    layout = subject.layout(inputs)
    text, vision = layout.axes["text"], layout.axes["vision"]
    assert spans(text) == [(0, 0, 2, 16, (4, 4)), (1, 0, 2, 16, (4, 4))]
    assert torch.equal(text.roles == IMAGE, inputs["input_ids"] == 4)
    assert spans(vision) == [(0, 0, 1, 16, (4, 4)), (1, 0, 1, 16, (4, 4))]
    assert vision.roles[:, 0].tolist() == [ROLES.index("special")] * 2


def test_two_adjacent_images_that_are_not_square():
    subject = llava(llava_processor(width=16))
    inputs = subject.prepare(text="<image><image> a", image=[picture(), picture()])
    axis = subject.layout(inputs).axes["text"]
    assert spans(axis) == [(0, 0, 1, 8, (4, 2)), (0, 1, 9, 8, (4, 2))]


def test_places_in_the_frame():
    subject = llava(llava_processor(width=16))
    frame = subject.layout(subject.prepare(text="<image> a", image=picture())).to_frame()
    text = frame[frame["tower"] == "text"]
    assert text["row"].tolist()[1:9] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert text["column"].tolist()[1:9] == [0, 1] * 4
    assert text["image"].isna().tolist() == [True] + [False] * 8 + [True]
    vision = frame[frame["tower"] == "vision"]
    assert vision["modality"].unique().tolist() == ["image"]
    assert vision["row"].isna().tolist() == [True] + [False] * 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen2_vl", [(0, 0, 1, 4, (2, 2))]),
        ("qwen2_5_vl", [(0, 0, 1, 4, (2, 2))]),
        ("qwen3_vl", [(0, 0, 1, 4, (2, 2))]),
        ("idefics3", [(0, 0, 1, 4, (2, 2))]),
        ("smolvlm", [(0, 0, 1, 4, (2, 2))]),
        ("gemma3", [(0, 0, 1, 4, (2, 2))]),
        ("paligemma", [(0, 0, 1, 16, (4, 4))]),
        ("llava_next", [(0, 0, 1, 36, None)]),
        ("blip2", [(0, 0, 1, 4, None)]),
        ("instructblip", [(0, 0, 1, 4, None)]),
        ("git", [(0, 0, 1, 16, (4, 4))]),
        ("mllama", []),
    ],
)
def test_families(name, expected):
    row = ARCHITECTURES[name]
    layout = describe(row.build(), None, row.inputs["plain"]())
    assert spans(layout.axes["text"]) == expected


def test_queries_and_the_instruction_of_a_q_former():
    row = ARCHITECTURES["instructblip"]
    axis = describe(row.build(), None, row.inputs["plain"]()).axes["qformer"]
    assert [ROLES[role] for role in axis.roles[0]] == ["image"] * 4 + ["content"] * 5
    assert spans(axis) == [(0, 0, 0, 4, None)]


def test_the_image_token_of_mllama_is_a_marker():
    model = ARCHITECTURES["mllama"].build()
    layout = describe(model, None, {"input_ids": torch.tensor([[1, model.config.image_token_index, 9]])})
    assert [ROLES[role] for role in layout.axes["text"].roles[0]] == ["bos", "special", "content"]


def test_video_frames_are_images():
    model = ARCHITECTURES["qwen2_vl"].build()
    ids = torch.tensor([[1, *[model.config.video_token_id] * 4, 9]])
    inputs = {"input_ids": ids, "video_grid_thw": torch.tensor([[2, 2, 4]])}
    axis = describe(model, None, inputs).axes["text"]
    assert spans(axis) == [(0, 0, 1, 2, (1, 2)), (0, 1, 3, 2, (1, 2))]


def test_rows_parted_by_break_tokens_are_not_taken_for_images():
    model = ARCHITECTURES["llava"].build()
    model.config.vision_config.model_type = "pixtral"
    ids = torch.tensor([[model.config.image_token_id] * 2 + [9] + [model.config.image_token_id] * 2])
    axis = describe(model, None, {"input_ids": ids}).axes["text"]
    assert (axis.roles == IMAGE).sum() == 4
    assert axis.images == ()


TOWERS = ["vit", "deit", "dinov2", "dinov2_with_registers", "dinov3_vit", "beit", "ijepa", "clip_vision"]


@pytest.mark.parametrize("name", [*TOWERS, "siglip_vision"])
def test_vision_towers_have_the_positions_that_are_described(name):
    row = ARCHITECTURES[name]
    model, inputs = row.build(), row.inputs["plain"]()
    axis = describe(model, None, inputs).axes["vision"]
    assert axis.roles.shape == model(**inputs).last_hidden_state.shape[:2]
    assert spans(axis)[1] == (1, 0, axis.roles.shape[1] - 16, 16, (4, 4))


@pytest.mark.parametrize("name", ["swin", "segformer", "vit_mae", "mllama"])
def test_towers_of_windows_and_tiles_are_left_out(name):
    row = ARCHITECTURES[name]
    assert "vision" not in describe(row.build(), None, row.inputs["plain"]()).axes


def test_images_larger_than_the_tower_was_trained_on():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8))
    layout = describe(model, None, {"pixel_values": torch.zeros(1, 3, 16, 24)})
    assert spans(layout.axes["vision"]) == [(0, 0, 1, 6, (2, 3))]


@pytest.mark.parametrize("name", telling(ARCHITECTURES))
def test_every_architecture_can_be_described(name):
    row = ARCHITECTURES[name]
    model = row.build()
    for make in row.inputs.values():
        layout = describe(model, word_tokenizer(), make())
        assert isinstance(layout, TokenLayout)
        assert all(tower == axis.tower for tower, axis in layout.axes.items())
