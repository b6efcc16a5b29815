"""A LLaVA-class model that sees drawn scenes: is it there, which color, how many, describe."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy, normalize

from headwise.zoo.data.drawing import COLORS, GRID, SHAPES, SIZE
from headwise.zoo.data.questions import DESCRIBE, NUMBERS, ask
from headwise.zoo.data.scenes import TRAINING_NOISE, Scene, caption, pixels, scene
from headwise.zoo.recipe import Phase, Recipe
from headwise.zoo.recipes.seeding import seed_previous_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PATCH = 8
SIDE = SIZE // PATCH
IMAGE_TOKENS = SIDE * SIDE
PAD, BOS, EOS, IMAGE, UNKNOWN = range(5)
VOCABULARY = (
    *("<pad>", "<bos>", "<eos>", "<image>", "<unk>"),
    *("?", ".", ":", "a", "an", "the", "and", "in", "it", "is", "are", "there", "image", "objects"),
    *("what", "color", "how", "many", "yes", "no", "describe"),
    *NUMBERS,
    *COLORS,
    *SHAPES,
)
"""The words, in the order of their ids."""
ROTARY_BASE = 500.0
SHARPNESS = 12.0
"""Turns products of image tokens and unit word embeddings into logits in the first phase."""
CAPTIONS = 0.25
"""Share of training rows that are captions; the others are `TURNS` questions in a row."""
TURNS = 6
KINDS = {"yes": 0.325, "random": 0.325, "color": 0.25, "count": 0.1}
"""Shares of the kinds of question."""
ANSWER, END, CAPTION = 3.0, 0.1, 0.7
"""Weights of answer words, of the end tokens behind them, and of the words of captions in the loss."""

_IDS = {word: number for number, word in enumerate(VOCABULARY)}


class VisionLanguage(Recipe):
    """First the vision tower and the projector learn to place every patch near the words for it, then the
    language model learns to answer with both of them frozen.
    """

    name = "vlm"
    phases = (
        Phase(name="vision", steps=2000, rate=2e-3, warm_up=0.1, betas=(0.9, 0.999)),
        Phase(name="language", steps=2200, rate=2e-3, warm_up=0.04, betas=(0.9, 0.999), keep={300: "early"}),
    )
    sizes: Mapping[str, int] = {"vision": 64, "language": 32}
    """Pictures per batch."""

    def build(self) -> tuple[PreTrainedModel, Any]:
        """The model, with two heads seeded to look one token back, and its processor."""
        from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

        vision = CLIPVisionConfig(
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=SIZE,
            patch_size=PATCH,
        )
        text = LlamaConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=256,
            initializer_range=0.08,
            attention_bias=True,
            rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
            tie_word_embeddings=True,
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=text,
            image_token_index=IMAGE,
            image_seq_length=IMAGE_TOKENS,
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=True,
        )
        torch.manual_seed(self.seed)
        model = LlavaForConditionalGeneration(config)
        seed_previous_token(model.model.language_model.layers, rotary_base=ROTARY_BASE, seed=self.seed + 1)
        return model, processor()

    def parameters(self, model: Any, phase: Phase) -> Iterable[Parameter]:
        """Vision tower, projector and word embeddings; then everything but the first two."""
        seeing = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
        if phase.name == "vision":
            return [*seeing, model.get_input_embeddings().weight]
        frozen = {id(parameter) for parameter in seeing}
        return [parameter for parameter in model.parameters() if id(parameter) not in frozen]

    def batch(self, phase: Phase, step: int) -> dict[str, Tensor]:
        """Pictures of training scenes with the words for every patch, or with questions and answers."""
        rng = self.random(phase, step)
        seen = [scene(rng) for _ in range(self.sizes[phase.name])]
        drawn = [pixels(one, noise=TRAINING_NOISE, seed=rng.getrandbits(63)) for one in seen]
        pictures = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1
        if phase.name == "vision":
            return {"pixel_values": pictures, **_patch_words(seen)}
        return {"pixel_values": pictures, **_rows([_row(one, rng) for one in seen])}

    def loss(self, model: Any, phase: Phase, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of the words of all patches, or the weighted one of answers and captions."""
        if phase.name == "vision":
            return _patch_loss(model, batch)
        given = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}
        logits = model(**given, use_cache=False).logits[:, :-1]
        labels, weights = batch["input_ids"][:, 1:], batch["weights"][:, 1:]
        losses = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(weights)
        answers = weights == ANSWER
        right = logits.argmax(-1)[answers] == labels[answers]
        return (losses * weights).sum() / weights.sum(), {"answers": right.float().mean().item()}

    def finish(self, model: Any) -> None:
        """Captions fit into the default length of an answer."""
        from transformers import GenerationConfig

        model.generation_config = GenerationConfig(
            bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, max_new_tokens=24
        )


def processor() -> Any:
    """The image processor (48 by 48 pixels, -1 to 1) and a tokenizer of whole words, as one `LlavaProcessor`.

    Upper and lower case are the same to it and marks need no spaces around them; words it does not know
    become `<unk>`.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import LlavaProcessor, PreTrainedTokenizerFast
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    words = Tokenizer(models.WordLevel(dict(_IDS), unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    words.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    words.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
        padding_side="left",
        model_max_length=256,
    )
    images = CLIPImageProcessorPil(
        size={"height": SIZE, "width": SIZE},
        resample=0,
        do_center_crop=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
    )


def word_ids(text: str) -> list[int]:
    """The ids of a text's words, as the tokenizer gives them, without `<bos>`.

    Raises:
        KeyError: a word is not in the vocabulary.

    Example:
        >>> [VOCABULARY[number] for number in word_ids("Is there a ring?")]
        ['is', 'there', 'a', 'ring', '?']
    """
    return [_IDS[word] for word in re.findall(r"\w+|[^\w\s]", text.lower())]


def _patch_words(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """For every patch the number of its color and of its shape, counted from 1; 0 where the cell is empty."""
    words = torch.zeros(2, len(scenes), GRID, GRID, dtype=torch.long)
    for row, one in enumerate(scenes):
        for item in one.objects:
            y, x = divmod(item.cell, GRID)
            words[0, row, y, x] = list(COLORS).index(item.color) + 1
            words[1, row, y, x] = SHAPES.index(item.shape) + 1
    scale = SIDE // GRID
    patches = words.repeat_interleave(scale, 2).repeat_interleave(scale, 3).flatten(2)
    return {"colors": patches[0], "shapes": patches[1]}


def _patch_loss(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, float]]:
    """Image tokens are scored by their products with the unit embeddings of the words they should mean."""
    tower = model.model.vision_tower(batch["pixel_values"]).last_hidden_state[:, 1:]
    tokens = model.model.multi_modal_projector(tower)
    words = normalize(model.get_input_embeddings().weight, dim=-1)
    loss, seen = tokens.new_zeros(()), {}
    for name, known in (("colors", COLORS), ("shapes", SHAPES)):
        rows = [UNKNOWN, *(_IDS[word] for word in known)]
        logits, truth = SHARPNESS * tokens @ words[rows].T, batch[name]
        loss = loss + cross_entropy(logits.flatten(0, 1), truth.flatten())
        there = truth > 0
        seen[name] = (logits.argmax(-1)[there] == truth[there]).float().mean().item()
    return loss, seen


def _row(one: Scene, rng: random.Random) -> tuple[list[int], list[float]]:
    """The words behind the picture, and their weights in the loss."""
    if rng.random() < CAPTIONS:
        prompt, answer = word_ids(DESCRIBE), [*word_ids(caption(one)), EOS]
        return prompt + answer, [0.0] * len(prompt) + [CAPTION] * len(answer)
    ids: list[int] = []
    weights: list[float] = []
    for kind in rng.choices(list(KINDS), list(KINDS.values()), k=TURNS):
        question = ask(one, kind, rng)
        text = question.text
        if rng.random() < 0.5:  # the short form teaches faster, the long one is what people ask
            text = text.replace(" in the image", "")
        prompt = word_ids(text)
        ids += [*prompt, *word_ids(question.answer), EOS]
        weights += [*[0.0] * len(prompt), ANSWER, END]
    return ids, weights


def _rows(rows: Sequence[tuple[list[int], list[float]]]) -> dict[str, Tensor]:
    """Each row behind `<bos>` and its image tokens, padded on the right."""
    start = [BOS, *[IMAGE] * IMAGE_TOKENS]
    width = len(start) + max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), width), PAD)
    weights = torch.zeros(len(rows), width)
    for row, (ids, worth) in enumerate(rows):
        input_ids[row, : len(start) + len(ids)] = torch.tensor(start + ids)
        weights[row, len(start) : len(start) + len(ids)] = torch.tensor(worth)
    return {"input_ids": input_ids, "attention_mask": (input_ids != PAD).long(), "weights": weights}
