"""Laws of every fix: padding, batching, caching, grouped heads and kernels must not matter to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.errors import InputError
from headwise.fixes.binding import require_fix
from headwise.fixes.patching import patch
from headwise.plugins import close_names
from headwise.probes.capture import capture
from headwise.testing.checks import TOLERANCE, Check, require, run_checks
from headwise.testing.inputs import (
    PADDED,
    Inputs,
    alone,
    decode,
    equal_length_pair,
    example_of,
    first,
    forward,
    together,
)
from headwise.testing.models import TINY_MODELS, known_models, shared_model, ungrouped

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class _Trial:
    """A fix on a tiny model."""

    model: str
    shifted: Callable[[int], Any]
    neutral: Any

    @property
    def fix(self) -> Any:
        return self.shifted(0)

    def tiny_model(self, attention: str | None = None) -> PreTrainedModel:
        return shared_model(self.model, attention)


def fix_checks(
    fix: Any,
    *,
    neutral: Any = None,
    shifted: Callable[[int], Any] | None = None,
    models: Sequence[str] | None = None,
    exempt: Collection[str] = (),
) -> tuple[Check, ...]:
    """The checks of a fix, each on every tiny model that it can be used on.

    Its heads and layers must exist in the tiny models: layers 0 and 1, heads 0 to 3.

    Args:
        fix: the fix, at a strength that changes what these models say.
        neutral: the same fix at the strength that changes nothing, which must hold bit for bit; not checked when None.
        shifted: for a fix that names positions: the fix with its positions moved to the right by a number, which is
            what padding on the left does to them.
        models: names of `TINY_MODELS`; the one that sees for a fix with `needs = {"image"}`, else all that do not.
        exempt: names of laws that do not hold for it, by what it is.

    Raises:
        FixError: it is no fix.
        InputError: a model or an exempt law is unknown.

    Example:
        >>> import headwise as hw
        >>> fix = hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.3)
        >>> for check in fix_checks(fix, models=("llama",)):
        ...     check()
    """
    for one in (fix,) if neutral is None else (fix, neutral):
        require_fix(one)
    if models is None:
        sees = "image" in getattr(fix, "needs", ())
        models = [model for model, tiny in TINY_MODELS.items() if tiny.has_vision == sees]
    laws = {law for model in TINY_MODELS for law, _ in _laws_of(_Trial(model, lambda _: fix, fix))}
    for law in [exempt] if isinstance(exempt, str) else exempt:
        if law not in laws or isinstance(exempt, str):
            raise InputError(
                "Exempt laws are given as a list of names." if law in laws else f"There is no law {law!r}.",
                evidence=close_names(str(law), laws),
                remedy='For example exempt=["causality"].',
            )
    trials = [_Trial(model, shifted or (lambda _: fix), neutral) for model in known_models(models)]
    return tuple(
        Check(type(fix).__name__, law, trial.model, partial(run, trial))
        for trial in trials
        for law, run in _laws_of(trial)
        if law not in exempt
    )


def check_fix(fix: Any, **options: Any) -> None:
    """Run all checks of a fix; `options` are those of `fix_checks`.

    Raises:
        AssertionError: laws are broken; the message names every one.
        FixError, InputError: see `fix_checks`.

    Example:
        >>> import headwise as hw
        >>> check_fix(hw.fixes.ZeroHeads(heads=((0, 0),)), models=["gpt2"])
    """
    run_checks(fix_checks(fix, **options))


def patched(fix: Any, model: PreTrainedModel, inputs: Inputs) -> Tensor:
    """The first output of a forward with a fix installed."""
    with patch(model, fix):
        return first(forward(model, inputs))


def _laws_of(trial: _Trial) -> Iterator[tuple[str, Callable[[_Trial], None]]]:
    tiny = TINY_MODELS[trial.model]
    yield "acts", _acts
    yield "left_padding", partial(_ignores_padding, side="left")
    yield "right_padding", partial(_ignores_padding, side="right")
    yield "batching", _ignores_batching
    if tiny.grouped:
        yield "grouped_heads", _addresses_query_heads
    if tiny.causal:
        yield "decoding", _decodes_alike_with_a_cache
    yield "kernel", _ignores_the_kernel
    yield "patterns", _keeps_patterns
    if tiny.causal:
        yield "causality", _depends_on_nothing_behind
    if trial.neutral is not None:
        yield "neutral", _is_neutral


def _acts(trial: _Trial) -> None:
    model, text = trial.tiny_model(), alone(0, trial.model)
    plain = first(forward(model, text))
    changed = not torch.allclose(patched(trial.fix, model, text), plain, atol=1e-4)
    require(changed, "The fix changes nothing here.")
    require(
        torch.equal(first(forward(model, text)), plain), "The model is not as before when the fix is gone."
    )


def _ignores_padding(trial: _Trial, *, side: str) -> None:
    """Positions count padding, so a fix on a left-padded batch sits `PADDED` places further to the right."""
    model, shift = trial.tiny_model(), PADDED if side == "left" else 0
    batch = patched(trial.shifted(shift), model, together(side, trial.model))
    texts = [alone(example, trial.model) for example in (0, 1)]
    single = [patched(trial.shifted(at), model, text) for at, text in zip((shift, 0), texts, strict=True)]
    torch.testing.assert_close(batch[:1], single[0], **TOLERANCE)
    length = single[1].shape[1]
    torch.testing.assert_close(batch[1:, shift : shift + length], single[1], **TOLERANCE)


def _ignores_batching(trial: _Trial) -> None:
    model, inputs = trial.tiny_model(), equal_length_pair(trial.model)
    batch = patched(trial.fix, model, inputs)
    for example in (0, 1):
        single = patched(trial.fix, model, example_of(inputs, example))
        torch.testing.assert_close(batch[example : example + 1], single, **TOLERANCE)


def _addresses_query_heads(trial: _Trial) -> None:
    model, text = trial.tiny_model(), alone(0, trial.model)
    outputs = [patched(trial.fix, one, text) for one in (model, ungrouped(model))]
    torch.testing.assert_close(*outputs, **TOLERANCE)


def _decodes_alike_with_a_cache(trial: _Trial) -> None:
    model, inputs = trial.tiny_model(), equal_length_pair(trial.model)
    with patch(model, trial.fix):
        tokens, logits = decode(model, inputs, use_cache=True)
        same_tokens, same_logits = decode(model, inputs, use_cache=False)
    require(torch.equal(tokens, same_tokens), "Other tokens are generated without a cache.")
    torch.testing.assert_close(logits, same_logits, **TOLERANCE)


def _ignores_the_kernel(trial: _Trial) -> None:
    inputs = together("left", trial.model)
    outputs = [patched(trial.shifted(PADDED), trial.tiny_model(kernel), inputs) for kernel in (None, "eager")]
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(outputs[0][real], outputs[1][real], **TOLERANCE)


def _keeps_patterns(trial: _Trial) -> None:
    """Rows sum to what they did, nothing is negative, padded keys and keys that a row may not see stay zero."""
    model, inputs = trial.tiny_model(), together("left", trial.model)
    with capture(model, maps=True) as plain:
        forward(model, inputs)
    with patch(model, trial.shifted(PADDED)), capture(model, maps=True) as fixed:
        forward(model, inputs)
    for site in plain.sites:
        before, after = plain.maps[site], fixed.maps[site]
        real = ~before.isnan().any(-1)
        torch.testing.assert_close(after[real].sum(-1), before[real].sum(-1), atol=1e-5, rtol=0)
        require((after[real] >= 0).all(), f"Weights of {site} are negative.")
        hidden = after[real][before[real] == 0]
        require((hidden == 0).all(), f"Rows of {site} look at keys that they may not see.")


def _depends_on_nothing_behind(trial: _Trial) -> None:
    """A later token is exchanged: earlier outputs stay the same, bit for bit."""
    model, inputs = trial.tiny_model(), alone(0, trial.model)
    place = inputs["input_ids"].shape[1] - 3
    other = {**inputs, "input_ids": inputs["input_ids"].clone()}
    other["input_ids"][:, place] = 7
    outputs = [patched(trial.fix, model, given)[:, :place] for given in (inputs, other)]
    require(torch.equal(*outputs), "Earlier rows change when a later token is exchanged.")


def _is_neutral(trial: _Trial) -> None:
    model, text = trial.tiny_model(), together("left", trial.model)
    same = torch.equal(patched(trial.neutral, model, text), first(forward(model, text)))
    require(same, "The neutral fix changes the output.")
