"""Calls of a model's `generate` while something is attached: what was asked for, where it ends, what it returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.probes.generation.sound_windows import PROGRESS, SoundWindows

if TYPE_CHECKING:
    from headwise.probes.engine.instrumentation import Hub


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

    `hub.calls().generate` is the innermost one that the current thread is in, None outside of `generate`;
    `hub.generations` are the outermost ones of all threads. A model around a language model (InstructBLIP) has its
    own call around that of the language model: `outer`. A model may generate several times within one call, window
    after window (Whisper).
    """

    def __init__(self, model: nn.Module, arguments: Mapping[str, Any], outer: GenerateCall | None) -> None:
        self.model = model
        """The model whose `generate` this is: the attached one or a part of it."""
        self.arguments = arguments
        """What the call was given, by name, as it was given."""
        self.outer = outer
        """The call of `generate` around this one."""
        self.loop: DecodingLoop | None = None
        """The loop under way, or the last one; None until the first begins."""
        self.sequences: Tensor | None = None
        """The returned sequences, (sequence, position), once the call has ended with some."""
        self.ended = False
        """True once the call is over, also by an exception."""
        self.windows: SoundWindows | None = None
        """Where it stands in long sounds; None where it does not read any window by window."""
        self._callbacks: list[Callable[[GenerateCall], None]] = []

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

    def end_ids(self) -> frozenset[int]:
        """Ids of the tokens that end a sequence in this call; empty when none does."""
        value = self.option("eos_token_id")
        if value is None:
            return frozenset()
        if isinstance(value, Tensor):
            value = value.flatten().tolist()
        return frozenset(value if isinstance(value, list | tuple) else (value,))

    def when_over(self, callback: Callable[[GenerateCall], None]) -> None:
        """Has `callback` called with this call when it is over, also by an exception; at once when it is."""
        if self.ended:
            callback(self)
        else:
            self._callbacks.append(callback)

    def close(self, result: Any = None) -> None:
        """The call is over, with what it returns."""
        self.sequences = _sequences(result)
        self.ended = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class GenerateWatch:
    """Stands in for the `generate` of a model and of its parts for as long as something is attached."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._shadowed: list[tuple[nn.Module, str, Any]] = []

    def install(self) -> None:
        """Puts the watch on every part that can generate."""
        for module in self._hub.model.modules():
            for name, stand_in in (
                _METHODS.items() if callable(getattr(type(module), "generate", None)) else ()
            ):
                if callable(getattr(type(module), name, None)):
                    before = module.__dict__.get(name)
                    self._shadowed.append((module, name, before))
                    module.__dict__[name] = stand_in(self._hub, module, name, before)

    def remove(self) -> None:
        """Gives every part its own methods back."""
        for module, name, before in self._shadowed:
            if isinstance(module.__dict__.get(name), Shadow):
                if before is None:
                    del module.__dict__[name]
                else:
                    module.__dict__[name] = before
        self._shadowed.clear()


class Shadow:
    """Stands in for a method of one module. In a copy of the module, the module's own method takes its place."""

    def __init__(self, hub: Hub, module: nn.Module, name: str, before: Any) -> None:
        self.hub, self.module, self.name, self.before = hub, module, name, before
        self.__wrapped__ = self.own
        self.__doc__ = self.own.__doc__
        self.__name__ = name

    @property
    def own(self) -> Callable[..., Any]:
        """The method that would be there."""
        return _own(self.module, self.name, self.before)

    def __reduce__(self) -> tuple[Any, tuple]:
        return (_own, (self.module, self.name, self.before))


def _own(module: nn.Module, name: str, before: Any) -> Any:
    return before if before is not None else getattr(type(module), name).__get__(module)


class _Generate(Shadow):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = GenerateCall(self.module, _arguments(self.own, args, kwargs), self.hub.calls().generate)
        if call.outer is None:
            from headwise.probes.check.self_check import require_generate

            require_generate(self.hub, call)
        if PROGRESS in inspect.signature(self.own).parameters:
            copies = call.option("num_return_sequences") or 1
            call.windows = SoundWindows(call.arguments.get(PROGRESS), copies)
            args, kwargs = (), {**call.arguments, PROGRESS: call.windows}
        self.hub.begin_generate(call)
        result = None
        try:
            with _own_depth(self.module):
                result = self.own(*args, **kwargs)
            return result
        finally:
            self.hub.end_generate(call, result)


class _StoppingCriteria(Shadow):
    """Begins a loop, and lets it know what its criteria decide."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        criteria = self.own(*args, **kwargs)
        call = self.hub.calls().generate
        if call is None or call.model is not self.module:
            return criteria
        config = next((value for value in (*args, *kwargs.values()) if hasattr(value, "eos_token_id")), None)
        call.loop = DecodingLoop(call, config)
        return _watched(criteria, call.loop)


class _CandidateGenerator(Shadow):
    """Lets a loop know that it is assisted, and where its drafts begin."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.hub.calls().generate
        if call is not None and call.model is self.module and call.loop is not None:
            ids = _arguments(self.own, args, kwargs).get("input_ids")
            call.loop.accepted = ids.shape[1] if isinstance(ids, Tensor) else 0
        return self.own(*args, **kwargs)


class _Prefill(Shadow):
    """Lets a loop know that its prompt is being read."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = self.hub.calls().generate
        loop = None if call is None or call.model is not self.module else call.loop
        if loop is None:
            return self.own(*args, **kwargs)
        ids = _arguments(self.own, args, kwargs).get("input_ids")
        loop.reading = ids.shape[1] if isinstance(ids, Tensor) else 0
        try:
            return self.own(*args, **kwargs)
        finally:
            loop.reading = 0


@contextmanager
def _own_depth(module: nn.Module) -> Iterator[None]:
    """Gives a model its number of layers back when a draft fails: transformers lowers it for an early exit."""
    base = getattr(module, getattr(module, "base_model_prefix", None) or "", module)
    config = getattr(base, "config", None)
    depth = getattr(config, "num_hidden_layers", None)
    try:
        yield
    except BaseException:
        if depth is not None and config.num_hidden_layers != depth:  # type: ignore[union-attr]
            config.num_hidden_layers = depth  # type: ignore[union-attr]
        raise


_METHODS = {
    "generate": _Generate,
    "_get_stopping_criteria": _StoppingCriteria,
    "_get_candidate_generator": _CandidateGenerator,
    "_prefill": _Prefill,
}


def _watched(criteria: Any, loop: DecodingLoop) -> Any:
    """The same list of criteria, which also tells the loop what it decides."""

    class Watched(type(criteria)):
        def __call__(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
            done = super().__call__(input_ids, *args, **kwargs)
            if isinstance(done, Tensor):
                loop.decide(input_ids, done)
            return done

    return Watched(criteria)


def _arguments(method: Callable[..., Any], args: tuple, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if not args:
        return dict(kwargs)
    names = [
        p.name for p in inspect.signature(method).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _sequences(result: Any) -> Tensor | None:
    """The sequences that `generate` returned: a tensor of ids, a field of an output, an entry of a mapping."""
    if isinstance(result, Mapping):
        result = result.get("sequences")
    if isinstance(result, Tensor) and result.dim() == 2 and not result.is_floating_point():
        return result if result.dtype != torch.bool else None
    return None
