"""A subject as lm-evaluation-harness wants it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from headwise.errors import InputError
from headwise.evaluation.harness.guard import translate_errors
from headwise.evaluation.solvers.batching import continues
from headwise.evaluation.task_run import with_own_processor
from headwise.optional import extra

if TYPE_CHECKING:
    from headwise.subject import Subject


def require_harness() -> Any:
    """The package `lm_eval`.

    Raises:
        InputError: it, or accelerate that it needs to run a model, is not installed.
    """
    extra("accelerate", "Models of the harness are run", group="harness")
    return extra("lm_eval", "Tasks of the harness are run", group="harness")


def require_texts(subject: Subject) -> None:
    """Refuse a model that does not continue a text.

    Raises:
        InputError: there is no tokenizer, or the model is an encoder, has one, or sees or hears.
    """
    model = subject.model
    if subject.tokenizer is None:
        raise InputError("There is no tokenizer to ask this model with.", remedy="hw.wrap(model, tokenizer).")
    kinds = model.input_modalities
    if not continues(subject) or kinds not in ("text", ["text"], ("text",)):
        raise InputError(
            "The harness asks models that continue a text, and this is none.",
            evidence=type(model).__name__,
            remedy="Take a decoder of text alone; hw.evaluate has tasks for the others.",
        )


def as_harness_model(subject: Subject, *, batch_size: int) -> Any:
    """The model for `lm_eval.evaluate`: same object, tokenizer copied.

    Log-probabilities are taken in float32 at least. The harness pads rows on the right without telling the model
    where; here rows of unequal length never share a batch, so nothing is padded, and a fix that looks at the whole
    prompt sees the prompt alone.
    """
    from lm_eval.models.huggingface import HFLM

    class Texts(HFLM):
        whole = False

        @property
        def model(self) -> Any:
            """None while HFLM is set up: it would tie the weights and leave the model in evaluation mode."""
            return self._model if self.whole else None

        def _loglikelihood_tokens(
            self, requests: Any, disable_tqdm: bool = True, override_bs: int | None = None
        ) -> Any:
            places = defaultdict(list)
            for place, (texts, before, after) in enumerate(requests):
                if not after:
                    raise InputError(
                        "A continuation has no tokens.", evidence=repr(texts), remedy="Check the task's data."
                    )
                places[len(before) + len(after)].append(place)
            found: dict[int, Any] = {}
            for length in sorted(places):
                chosen = [requests[place] for place in places[length]]
                answers = super()._loglikelihood_tokens(chosen, True, override_bs)
                found.update(zip(places[length], answers, strict=True))
            return [found[place] for place in range(len(requests))]

    half = subject.model.dtype in (torch.float16, torch.bfloat16)
    with translate_errors(
        "The harness cannot take this model.", remedy="Give it a tokenizer of transformers."
    ):
        ready = Texts(
            pretrained=subject.model,
            tokenizer=with_own_processor(subject).tokenizer,
            batch_size=batch_size,
            softmax_dtype=torch.float32 if half else None,
        )
    ready.whole = True
    return ready
