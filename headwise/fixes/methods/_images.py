"""What fixes of vision-language models ask of a model and of a prompt."""

from __future__ import annotations

from typing import Any

from headwise.errors import FixError, InputError
from headwise.fixes.anatomy import Anatomy
from headwise.probes.context import PromptContext


def require_sight(fix: Any, anatomy: Anatomy) -> None:
    """Refuses a model that takes no images."""
    if not anatomy.sees:
        raise FixError(
            f"{type(fix).__name__} works on images, and this model takes none.",
            evidence=f"{anatomy.name}: {anatomy.family}",
            remedy="Use it on a vision-language model, such as zoo:vlm.",
        )


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
