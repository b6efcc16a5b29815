"""Calls of a model's `generate` and their decoding loops: what was asked for, where it ends, what it returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headwise.probes.generation.sound_windows import SoundWindows


class DecodingLoop:
    """One loop of a call of `generate` that decodes token by token: one per call, one per window of a long sound."""

    def __init__(self, call: GenerateCall, config: Any) -> None:
        self.call = call
        self.config = config
        """The `GenerationConfig` in force."""
        self.checks: list[Callable[[Tensor, Tensor], None]] = []
        """Each is called with the ids so far, (example, position), and which of them the stopping criteria end; the
        examples of a beam search are its candidates."""
        self.ended: Tensor | None = None
        """True for every example that the stopping criteria have ended; None before their first decision."""
        self.ends_at: Tensor | None = None
        """Place, among the ids, of the token that ended an example; beyond the last one where none has."""
        self.accepted: int | None = None
        """Ids that an assisted loop has accepted so far, those of the prompt included; None for another loop."""
        self.reading = 0
        """Ids of its prompt while that is read, perhaps in pieces; 0 afterwards."""

    def decide(self, ids: Tensor, done: Tensor) -> None:
        """The stopping criteria have decided which examples are done."""
        if self.accepted is not None:
            self.accepted = ids.shape[1]
        if self.ended is None or self.ends_at is None or len(self.ended) != len(done):
            self.ended = torch.zeros_like(done, dtype=torch.bool)
            self.ends_at = torch.full_like(done, torch.iinfo(torch.long).max, dtype=torch.long)
        fresh = done.bool() & ~self.ended
        self.ends_at = torch.where(fresh, ids.shape[1] - 1, self.ends_at)
        self.ended = self.ended | fresh
        for check in self.checks:
            check(ids, done)

    def ended_examples(self, batch: int) -> Tensor | None:
        """`ended` for a batch; None where the criteria have not decided about these examples."""
        return self.ended if self.ended is not None and len(self.ended) == batch else None


class GenerateCall:
    """One call of `generate` on one thread.

    `Instrumentation.thread_state().generate` is the innermost one that the current thread is in, None outside of
    `generate`; `Instrumentation.generations` are the outermost ones of all threads. A model around a language model
    (InstructBLIP) has its own call around that of the language model: `outer`. A model may generate several times
    within one call, window after window (Whisper).
    """

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any], outer: GenerateCall | None) -> None:
        self.model = model
        """The model whose `generate` this is: the attached one or a part of it."""
        self.arguments = arguments
        """Arguments of the call by name, as they were given."""
        self.outer = outer
        """The call of `generate` around this one."""
        self.loop: DecodingLoop | None = None
        """The loop under way, or the last one; None until the first begins."""
        self.sequences: Tensor | None = None
        """The returned sequences, (sequence, position), once the call has ended with some."""
        self.ended = False
        """True once the call is over, also by an exception."""
        self.windows: SoundWindows | None = None
        """Progress through long sounds; None where it does not read any window by window."""

    @property
    def accepted(self) -> int | None:
        """Ids that the assisted loop around this call has accepted, for which this call drafts; None for others."""
        around = None if self.outer is None else self.outer.loop
        return None if around is None else around.accepted

    @property
    def outermost(self) -> GenerateCall:
        """The call of `generate` that the user made."""
        call = self
        while call.outer is not None:
            call = call.outer
        return call

    @property
    def within(self) -> GenerateCall | None:
        """The call of the same model around this one, as where a logits processor generates."""
        call = self.outer
        while call is not None and call.model is not self.model:
            call = call.outer
        return call

    def option(self, name: str) -> Any:
        """An option of generation that is in force, such as `eos_token_id`, by the rule of transformers.

        The configuration that transformers made, where it has; else the call's own argument, None included, before
        the `generation_config` of the call, before that of the model.
        """
        if self.loop is not None and self.loop.config is not None:
            return getattr(self.loop.config, name, None)
        if name in self.arguments:
            return self.arguments[name]
        for config in (
            self.arguments.get("generation_config"),
            getattr(self.model, "generation_config", None),
        ):
            value = getattr(config, name, None)
            if value is not None:
                return value
        return None

    def close(self, result: Any = None) -> None:
        """The call is over, with what it returns."""
        self.sequences = _sequences(result)
        self.ended = True


def _sequences(result: Any) -> Tensor | None:
    """The sequences that `generate` returned: a tensor of ids, a field of an output, an entry of a mapping."""
    if isinstance(result, Mapping):
        result = result.get("sequences")
    if isinstance(result, Tensor) and result.dim() == 2 and not result.is_floating_point():
        return result if result.dtype != torch.bool else None
    return None
