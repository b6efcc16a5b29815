"""What `headwise patch` does once its arguments are known to be good."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import headwise as hw
from headwise.cli._run import heard, load
from headwise.cli.request import Request
from headwise.cli.session import progress, quiet_transformers
from headwise.errors import FixError
from headwise.fixes.baking import bake
from headwise.fixes.spec.parameters import to_entry
from headwise.model.tokenizing import decoded
from headwise.probes.run_examples import ExampleRun, new_tokens, run_examples
from headwise.subject.generation import Generation, prepare_run

if TYPE_CHECKING:
    from headwise.fixes.spec.specs import Spec
    from headwise.subject import Subject


def try_spec(
    request: Request, spec: Spec, *, generate: int, folder: Path | None, force: bool
) -> dict[str, Any]:
    """Load the model, check the spec against it, generate without and with it, bake.

    Args:
        request: the model and what it is to read.
        spec: the fixes.
        generate: tokens to generate; 0 only checks.
        folder: where the baked model goes; None bakes nothing.
        force: accept another model of the same shape.

    Returns:
        The answer of `headwise patch --json`.

    Raises:
        FixError: the spec is of another model, or cannot be baked.
        InputError: the input is not one for this model.
    """
    with quiet_transformers():
        subject, notes = load(request.model)
        overridden = _check(spec, subject, force=force)
        notes += overridden
        with hw.patch(subject, spec.fixes) as handle:
            fixes = handle.fixes
        if all(getattr(fix, "neutral", False) for fix in fixes):
            notes.append("The fixes are neutral: they change nothing.")
        prompts, more = heard(lambda: _prompts(subject, request, generate)) if generate else ([], [])
        notes += more
        for asked in prompts:
            notes += [note for note in asked.notes if note not in notes]
        examples = _side_by_side(subject, spec, prompts, generate)
        if folder is not None:
            with progress("Baking"):
                bake(subject, spec.fixes, folder, inputs=prompts[0].inputs if prompts else None)
    return {
        "model": subject.name,
        "spec": spec.source,
        "fixes": [to_entry(fix).model_dump() for fix in spec.fixes],
        "examples": examples,
        "forced": bool(overridden),
        "folder": None if folder is None else str(folder),
        "warnings": notes,
    }


def _check(spec: Spec, subject: Subject, *, force: bool) -> list[str]:
    """What was overridden, if anything."""
    try:
        spec.check(subject)
    except FixError as error:
        spec.check(subject, force=force)
        return [f"{error.fact} ({error.evidence})"]
    return []


def _prompts(subject: Subject, request: Request, generate: int) -> list[Generation]:
    """The inputs of each example by itself, without padding."""
    arguments = request.arguments()
    if request.empty:  # the zoo's own example, of which the model is to write the target
        arguments.pop("target", None)
    counts = {len(value) for value in arguments.values() if isinstance(value, list)}
    single = [
        name for name in ("text", "image", "audio", "target") if isinstance(arguments.get(name, []), str)
    ]
    if not counts or len(counts) > 1 or single:  # kinds that differ in number are refused there
        return [prepare_run(subject, generate, **arguments)]
    return [
        prepare_run(
            subject,
            generate,
            **{name: v[number] if isinstance(v, list) else v for name, v in arguments.items()},
        )
        for number in range(counts.pop())
    ]


def _side_by_side(
    subject: Subject, spec: Spec, prompts: Sequence[Generation], generate: int
) -> list[dict[str, str]]:
    replies: list[list[str]] = []
    for patched in (False, True):
        with (
            progress("Generating with the fixes" if patched else "Generating"),
            hw.patch(subject, spec.fixes) if patched else contextlib.nullcontext(),
        ):
            runs = run_examples(subject, prompts, generate=generate)
            replies.append([_reply(subject, run) for run in runs])
    return [{"without": before, "with": after} for before, after in zip(*replies, strict=True)]


def _reply(subject: Subject, run: ExampleRun) -> str:
    """What the model wrote behind the prompt; token numbers where there is no tokenizer."""
    ids = new_tokens(subject, run.prepared.inputs, run.output)[0]
    if subject.tokenizer is None:
        return " ".join(map(str, ids.tolist()))
    return decoded(subject.tokenizer, ids, skip_special_tokens=True).strip()
