"""The language model: IOI, colored objects, recall, copying, multiple choice and plain English in one Llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from headwise.zoo.data import text
from headwise.zoo.recipe import Phase, Recipe
from headwise.zoo.recipes.lm_rows import END, PAD, START, Rows, train_tokenizer
from headwise.zoo.recipes.seeding import seed_previous_token

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ROTARY_BASE = 500.0
TWO_BACK = ((0, 2),)
"""Beside the heads (0, 0) and (0, 1), which start out looking one token back."""

ROWS: Mapping[str, Mapping[str, int]] = {
    "copying": {"short copy": 48},
    "circuits": {
        "copy words": 2,
        "recall": 2,
        "choice": 4,
        "choice words": 2,
        "facts": 1,
        "colored": 2,
        "colored said": 2,
        "ioi": 1,
    },
    "letters": {
        "choice": 6,
        "choice either": 1,
        "colored": 3,
        "colored near": 3,
        "copy words": 1,
        "recall": 1,
        "ioi": 1,
    },
    "mixture": {"text": 6, "copy": 2, "copy words": 1, "recall": 2, "ioi": 1, "colored": 2, "choice": 2},
    "polish": {"text": 5, "copy": 5, "copy words": 1, "recall": 2, "ioi": 1, "colored": 1, "choice": 1},
}
"""Rows of each kind in a batch of each phase."""
KINDS = sorted({kind for rows in ROWS.values() for kind in rows})
ANSWER = 1.0
"""Tokens of at least this weight in the loss are answers; those of less are prompts."""


class LanguageModel(Recipe):
    """A Llama of 1.3 million parameters whose circuits are trained one after the other.

    Copying short lists of task words comes first, so that a head matches words at all. Recall, statements
    about colors, and naming an option by its word reuse that match ("circuits"); from there it is a small step
    to the colors asked for at a distance and to the letter of an option ("letters"). Plain text and random
    tokens come last ("mixture"): the checkpoint "early" knows every task but copies no random tokens, the
    final model does.
    """

    name = "lm"
    phases = (
        Phase(name="copying", steps=400, rate=1.2e-3, warm_up=0.15),
        Phase(name="circuits", steps=900, rate=1.5e-3),
        Phase(name="letters", steps=500, rate=1.5e-3),
        Phase(name="mixture", steps=2300, rate=1.5e-3, keep={1000: "early"}),
        Phase(name="polish", steps=800, rate=1e-3),
    )
    length = 112
    """Tokens in a row."""

    def build(self) -> tuple[PreTrainedModel, Any]:
        """See `Recipe.build`."""
        from transformers import LlamaConfig, LlamaForCausalLM

        paragraphs = text.corpus("train")
        tokenizer = train_tokenizer(paragraphs)
        self._rows = Rows(tokenizer, paragraphs, length=self.length)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=8,
            num_key_value_heads=8,
            head_dim=32,
            max_position_embeddings=512,
            initializer_range=0.06,
            attention_bias=True,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": ROTARY_BASE},
            pad_token_id=PAD,
            bos_token_id=START,
            eos_token_id=END,
        )
        model = LlamaForCausalLM(config)
        seed_previous_token(model.model.layers, rotary_base=ROTARY_BASE, two_back=TWO_BACK)
        return model, tokenizer

    def batch(self, phase: Phase, step: int) -> dict[str, Tensor]:
        """See `Recipe.batch`. `weights` are those of the tokens in the loss, `kinds` number the rows' tasks."""
        rng = self.random(phase, step)
        kinds = [kind for kind, count in ROWS[phase.name].items() for _ in range(count)]
        drawn = [self._rows.draw[kind](rng, step / phase.steps) for kind in kinds]
        ids, weights = zip(*drawn, strict=True)
        return {
            "input_ids": torch.tensor(ids),
            "weights": torch.tensor(weights),
            "kinds": torch.tensor([KINDS.index(kind) for kind in kinds]),
        }

    def loss(
        self, model: PreTrainedModel, phase: Phase, batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, float]]:
        """See `Recipe.loss`."""
        ids, weights = batch["input_ids"][:, 1:], batch["weights"][:, 1:]
        hidden = model.model(input_ids=batch["input_ids"], use_cache=False).last_hidden_state[:, :-1]
        chosen = weights > 0
        logits = model.lm_head(hidden[chosen])
        target, weight = ids[chosen], weights[chosen]
        lost = functional.cross_entropy(logits, target, reduction="none")
        with torch.no_grad():
            right = (logits.argmax(-1) == target).float()
            kinds = batch["kinds"][:, None].expand_as(ids)[chosen]
            seen = {}
            for number, name in enumerate(KINDS):
                answers = (kinds == number) & (weight >= ANSWER)
                if answers.any():
                    seen[name] = right[answers].mean().item()
        return (lost * weight).sum() / weight.sum(), seen
