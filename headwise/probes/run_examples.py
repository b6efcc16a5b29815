"""Examples run through a model one after the other: by a forward or by generating, captured or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import CaptureError, HeadwiseError, InputError
from headwise.probes.capture import capture as capturing
from headwise.subject.generation import Generation
from headwise.text import visible

if TYPE_CHECKING:
    from headwise.subject import Subject


@dataclass(frozen=True, eq=False)
class ExampleRun:
    """One example, or a batch that is run as one, and what the model made of it."""

    prepared: Generation
    output: Any
    """The ids of `generate`, or the output of the forward."""
    trace: Any
    """The `Trace`; None where nothing was to be captured."""


def run_examples(
    subject: Subject,
    examples: Iterable[Generation],
    *,
    generate: int = 0,
    capture: Mapping[str, Any] | None = None,
    drop_large_maps: bool = False,
    on_forward: Callable[[], object] | None = None,
) -> Iterator[ExampleRun]:
    """Run examples one by one, on the model as it is at that moment: patches on it count.

    Args:
        subject: the model with its processor.
        examples: what `prepare_run` gave.
        generate: tokens to generate, greedily; 0 runs one forward.
        capture: options of `hw.capture`; None captures nothing.
        drop_large_maps: from the first example whose patterns exceed `map_limit`, leave them out, in place of an error.
        on_forward: called after every forward on an example.
    """
    options = None if capture is None else dict(capture)
    for example in examples:
        try:
            yield _run(subject, example, generate, options, on_forward)
        except CaptureError as error:
            if not (drop_large_maps and options and options["maps"] and "map_limit" in str(error)):
                raise
            options["maps"] = False
            yield _run(subject, example, generate, options, on_forward)


def run_model(subject: Subject, inputs: Mapping[str, Any], generate: int = 0, **options: Any) -> Any:
    """The ids that the model generates, greedily unless `options` say otherwise; or the output of a forward.

    Raises:
        InputError: `generate` of the model stops, as where the settings of its folder do not fit it.
    """
    model: Any = subject.model
    with torch.no_grad():
        if generate:
            greedy = {"do_sample": False, "num_beams": 1}  # a folder may ask for beams
            try:
                return model.generate(**inputs, max_new_tokens=generate, **{**greedy, **options})
            except HeadwiseError:
                raise
            except (IndexError, TypeError, ValueError) as error:
                raise InputError(
                    "The model cannot generate from this input with its settings.",
                    evidence=visible(f"{type(error).__name__}: {error}", limit=200),
                    remedy="Look at the generation_config.json of its folder, above all at the ids of tokens.",
                ) from error
        return model(**inputs)


def new_tokens(subject: Subject, inputs: Mapping[str, Any], output: Tensor) -> Tensor:
    """The ids that were generated, without the prompt, which most models give back before them and Whisper does not."""
    prompt = inputs.get("decoder_input_ids" if subject.config.is_encoder_decoder else "input_ids")
    if prompt is None or not torch.equal(output[:1, : prompt.shape[1]], prompt[:1]):
        return output
    return output[:, prompt.shape[1] :]


def _run(
    subject: Subject,
    example: Generation,
    generate: int,
    options: Mapping[str, Any] | None,
    on_forward: Callable[[], object] | None,
) -> ExampleRun:
    with nullcontext() if options is None else capturing(subject, **options) as trace:
        counter = subject.model.register_forward_hook(lambda *_: on_forward and on_forward())
        try:
            output = run_model(subject, example.inputs, generate, **example.options)
        finally:
            counter.remove()
    return ExampleRun(example, output, trace)
