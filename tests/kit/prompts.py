"""Every kind of prompt of the language model's tasks, by name: (random numbers, split) -> prompt."""

from __future__ import annotations

from headwise.zoo.data.colored_objects import colored_objects_prompt
from headwise.zoo.data.ioi import ioi_prompt
from headwise.zoo.data.multiple_choice import multiple_choice_prompt
from headwise.zoo.data.recall import copying_prompt, recall_prompt

DRAWS = {
    "ioi": ioi_prompt,
    "colored objects": colored_objects_prompt,
    "colored objects, no example": lambda rng, split: colored_objects_prompt(rng, split, shots=0),
    "recall": recall_prompt,
    "copying": copying_prompt,
    "multiple choice": multiple_choice_prompt,
    "multiple choice in words": lambda rng, split: multiple_choice_prompt(rng, split, answer_with="word"),
}
