"""Ask a model the examples of a task, and score what it says."""

from __future__ import annotations

import copy
import json
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headwise.errors import InputError
from headwise.evaluation.estimate import Estimate, estimate
from headwise.evaluation.evaluation import Evaluation
from headwise.evaluation.registry import find_task
from headwise.evaluation.task import Example, Metric, Reply, Task
from headwise.fingerprint import fingerprint
from headwise.subject import Subject, wrap

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

BATCH = 32
_PACKAGES = ("headwise", "torch", "transformers", "numpy", "scipy")


def evaluate(
    subject: Subject | PreTrainedModel,
    task: Task | str,
    *,
    n: int | None = None,
    seed: int = 0,
    batch_size: int = BATCH,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a model on a task.

    Args:
        subject: the model with its processor. A patch that is on the model counts: this measures what it does.
            A model in training mode is asked in evaluation mode, and left as it was.
        task: a task, or the name of one (`headwise.evaluation.task_names()`).
        n: how many examples; None takes all of a file, or the task's own number of a generator.
        seed: chooses the examples, and the resamples of the interval.
        batch_size: examples of like length that are run together; does not change what is counted beyond
            the order of floating-point sums.
        progress: told after every batch how many examples are done, and of how many.

    Returns:
        Every example's reply and score, the metrics with 95 % intervals, and the manifest.

    Raises:
        InputError: there is no such task, the model cannot be asked (no tokenizer, wrong kind), or the data
            holds fewer than `n` examples, or none.

    Example:
        >>> import headwise as hw
        >>> result = hw.evaluate(hw.load("zoo:lm"), "ioi", n=20)
        >>> result.estimates["accuracy"].n
        20
    """
    if not isinstance(subject, Subject):
        subject = wrap(subject)
    if isinstance(task, str):
        task = find_task(task)
    if subject.processor is None:
        raise InputError("There is no tokenizer to ask this model with.", remedy="hw.wrap(model, processor)")
    if batch_size < 1 or (n is not None and n < 1):
        raise InputError("n and batch_size count examples.", evidence=f"n={n}, batch_size={batch_size}")
    task.check(subject)
    asked = _own_processor(subject)
    examples = task.draw(n, seed)
    _check(task, examples)
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, len(examples))

    started = time.perf_counter()
    with _without_dropout(subject.model):
        replies = task.ask(asked, examples, batch_size=batch_size, advance=advance)
    seconds = time.perf_counter() - started
    frame = _table(task, examples, replies)
    estimates = {metric.name: _estimate(metric, frame, seed) for metric in task.metrics}
    manifest = _manifest(subject, task, examples, n=n, seed=seed, batch_size=batch_size)
    manifest["notes"] = task.notes(examples)
    manifest["seconds"] = round(seconds, 3)
    manifest["tokens"] = sum(reply.tokens for reply in replies)
    return Evaluation(task.title, estimates, frame, manifest)


def _estimate(metric: Metric, frame: pd.DataFrame, seed: int) -> Estimate:
    if metric.only is not None:
        column, value = metric.only
        frame = frame[frame[column] == value]
    return estimate(metric, {name: frame[name].to_list() for name in metric.columns}, seed=seed)


@contextmanager
def _without_dropout(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode inside the block; every module has its own mode again behind it."""
    trained = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in trained:
            module.training = True


def _own_processor(subject: Subject) -> Subject:
    """The subject with a copy of its processor, so that padding and languages set for a task stay here.

    Prompts are padded on the left, as `generate` needs it; an asker that reads a forward pass pads on the
    right itself.
    """
    own = replace(subject, processor=copy.deepcopy(subject.processor))
    if own.tokenizer is not None and not subject.config.is_encoder_decoder:
        own.tokenizer.padding_side = "left"
        if own.tokenizer.pad_token is None:
            own.tokenizer.pad_token = own.tokenizer.eos_token
    return own


def _check(task: Task, examples: Sequence[Example]) -> None:
    if not examples:
        raise InputError(f"{task.title} has no examples.", remedy="Check its data and options.")
    twice = [id for id, count in Counter(example.id for example in examples).items() if count > 1]
    if twice:
        raise InputError(
            f"Ids of {task.title} occur more than once.",
            evidence=", ".join(twice[:3]),
            remedy="Give every example an id of its own.",
        )


def _table(task: Task, examples: Sequence[Example], replies: Sequence[Reply]) -> Any:
    import pandas as pd

    rows = [
        {
            "id": example.id,
            "prompt": _shown(example.inputs.get("text", "")),
            "answer": _shown(example.answer),
            "reply": reply.text,
            "tokens": reply.tokens,
            **task.score(example, reply),
        }
        for example, reply in zip(examples, replies, strict=True)
    ]
    return pd.DataFrame(rows)


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _manifest(subject: Subject, task: Task, examples: Sequence[Example], **call: Any) -> dict[str, Any]:
    model = subject.model
    return {
        "task": {"name": task.title, "version": task.version, "options": task.options()},
        "template": task.template,
        "decoding": task.ask.manifest(),
        **call,
        "ids": [example.id for example in examples],
        "model": {
            "name": subject.name,
            "class": type(model).__name__,
            "revision": subject.revision,
            "fingerprint": fingerprint(model),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": str(subject.device),
            "generation_config": _generation(model),
        },
        "versions": {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()},
    }


def _generation(model: PreTrainedModel) -> dict[str, Any]:
    """What the model's own generation config sets: what a task does not say is taken from there."""
    config = getattr(model, "generation_config", None)
    return {} if config is None else json.loads(config.to_json_string(use_diff=True))
