"""The prompt that a fix of vision-language models asks for."""

from __future__ import annotations

from typing import Any

from headwise.errors import InputError
from headwise.probes.context import PromptContext


def require_images(fix: Any, prompt: PromptContext, *, skip: bool) -> None:
    """Refuses a prompt in which no image stands; with `skip`, such prompts are left alone."""
    if skip or prompt.nested:
        return
    seen = prompt.have_role("image", prompt.batch).any(-1)
    if not bool(seen.all()):
        example = int((~seen).nonzero()[0])
        where = "" if len(seen) == 1 else f" of example {example}"
        cached = int(prompt.have_role("cached", prompt.batch)[example].sum())
        if cached:
            raise InputError(
                f"The beginning of this prompt was cached where {type(fix).__name__} could not see it.",
                evidence=f"{cached} of {prompt.prompt_length} positions",
                remedy="Patch the model before the prompt is read, and go on with the same cache object.",
            )
        raise InputError(
            f"The prompt{where} holds no image for {type(fix).__name__} to work on.",
            evidence=f"{prompt.prompt_length} positions are read, none of them of an image",
            remedy='Give an image, and the prompt in one piece, or use no_image="skip".',
        )
