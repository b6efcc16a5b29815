"""Stand-ins for the methods by which a model generates: they tell when a call begins, decides and ends."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from headwise.probes.generation.generate_call import DecodingLoop, GenerateCall
from headwise.probes.generation.sound_windows import PROGRESS, SoundWindows


class GenerateWatch:
    """Stands in for the `generate` of a model and of its parts for as long as something is attached."""

    def __init__(
        self,
        model: nn.Module,
        *,
        current: Callable[[], GenerateCall | None],
        begin: Callable[[GenerateCall], None],
        end: Callable[[GenerateCall, Any], None],
    ) -> None:
        self.current, self.begin, self.end = current, begin, end
        self._model = model
        self._shadowed: list[tuple[nn.Module, str, Any]] = []

    def install(self) -> None:
        """Puts the watch on every part that can generate."""
        for module in self._model.modules():
            generates = callable(getattr(type(module), "generate", None))
            for name, stand_in in _METHODS.items() if generates else ():
                if callable(getattr(type(module), name, None)):
                    before = module.__dict__.get(name)
                    self._shadowed.append((module, name, before))
                    module.__dict__[name] = stand_in(self, module, name, before)

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

    def __init__(self, watch: Any, module: nn.Module, name: str, before: Any) -> None:
        self.watch, self.module, self.name, self.before = watch, module, name, before
        self.__wrapped__ = self.own
        self.__doc__ = self.own.__doc__
        self.__name__ = name

    @property
    def own(self) -> Callable[..., Any]:
        """The method that would be there."""
        return _own(self.module, self.name, self.before)

    @property
    def call(self) -> GenerateCall | None:
        """The call of this very module's `generate` that is under way."""
        call = self.watch.current()
        return None if call is None or call.model is not self.module else call

    def prompt_length(self, args: tuple, kwargs: Mapping[str, Any]) -> int:
        """Ids that the method was handed; 0 where it was handed none."""
        ids = _arguments(self.own, args, kwargs).get("input_ids")
        return ids.shape[1] if isinstance(ids, Tensor) else 0

    def __reduce__(self) -> tuple[Any, tuple]:
        return (_own, (self.module, self.name, self.before))


def _own(module: nn.Module, name: str, before: Any) -> Any:
    return before if before is not None else getattr(type(module), name).__get__(module)


class _Generate(Shadow):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call = GenerateCall(self.module, _arguments(self.own, args, kwargs), self.watch.current())
        if PROGRESS in inspect.signature(self.own).parameters:
            copies = call.option("num_return_sequences") or 1
            call.windows = SoundWindows(call.arguments.get(PROGRESS), copies)
            args, kwargs = (), {**call.arguments, PROGRESS: call.windows}
        self.watch.begin(call)
        result = None
        try:
            with _own_depth(self.module):
                result = self.own(*args, **kwargs)
            return result
        finally:
            self.watch.end(call, result)


class _StoppingCriteria(Shadow):
    """Begins a loop, and lets it know what its criteria decide."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        criteria, call = self.own(*args, **kwargs), self.call
        if call is None:
            return criteria
        config = next((value for value in (*args, *kwargs.values()) if hasattr(value, "eos_token_id")), None)
        call.loop = DecodingLoop(call, config)
        return _watched(criteria, call.loop)


class _CandidateGenerator(Shadow):
    """Lets a loop know that it is assisted, and where its drafts begin."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.call is not None and self.call.loop is not None:
            self.call.loop.accepted = self.prompt_length(args, kwargs)
        return self.own(*args, **kwargs)


class _Prefill(Shadow):
    """Lets a loop know that its prompt is being read."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        loop = None if self.call is None else self.call.loop
        if loop is None:
            return self.own(*args, **kwargs)
        loop.reading = self.prompt_length(args, kwargs)
        try:
            return self.own(*args, **kwargs)
        finally:
            loop.reading = 0


class _CompiledCall(Shadow):
    """Hands out the model as it is: an attached one would be compiled anew at every layer and step."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.__call__


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
    "get_compiled_call": _CompiledCall,
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
