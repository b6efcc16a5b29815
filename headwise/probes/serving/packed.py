"""Continuous batching: many requests side by side in one forward, with a paged cache that they share.

Each request is an example of its own: its rows are split off, run under the fixes that it began with, and joined
again. A fix sees the pattern and the head outputs of one request, with positions that count from its beginning; who
asks for more (the prompt, a memory) is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from headwise.errors import CaptureError, FixError, UnsupportedModel
from headwise.probes.attach import interface
from headwise.probes.engine.attention import attend
from headwise.probes.engine.plan import FixStep, Plan
from headwise.probes.kernels.call import Call, normalise
from headwise.probes.kernels.statistics import CallLayout
from headwise.probes.memory import Memory
from headwise.probes.serving.managers import Batch, batch_under_way

if TYPE_CHECKING:
    from headwise.probes.engine.session import Session
    from headwise.probes.fix_plan import FixPlan

_ASKS = {"edit_qkv": "queries, keys and values", "edit_residual": "residual"}
"""Steps of a fix that a request cannot be shown, and what they ask for."""


@dataclass(frozen=True)
class Packed:
    """Requests of one forward: where their rows and keys lie, and which sessions act on each."""

    cache: Any
    """The paged cache."""
    rows: tuple[int, ...]
    """Bounds of the requests' rows, from 0."""
    keys: Mapping[str, tuple[int, ...]]
    """Bounds of their keys, by kind of layer."""
    starts: tuple[int, ...]
    """Position of every request's first row."""
    batch: Batch
    """Batch of the requests, as the manager knows it."""
    masked: bool
    """True where the manager has made the masks; else the model has made them, of rows alone."""
    sessions: tuple[tuple[Session, ...], ...] = ()

    def attend(
        self,
        plan: Plan,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        kwargs: dict[str, Any],
        kernel: interface.Kernel,
    ) -> Tensor:
        """Head outputs of one attention call, request by request."""
        if kwargs.get("block_table") is not None:
            raise UnsupportedModel(
                "headwise cannot see the keys of continuous batching with block tables.",
                evidence="the manager was made for flash attention",
                remedy='Load the model with attn_implementation="sdpa", or patch it before the manager is made.',
            )
        layer: Any = module.layer_idx
        if is_paged(kwargs.get("cache")):  # the implementation is the one to update it
            cache = kwargs.pop("cache")
            key, value = cache.update(key_states=key, value_states=value, layer_idx=layer, kwargs=kwargs)
        bounds = self.keys[self.cache.layer_to_allocator[layer].layer_type]
        options = {**kwargs, "is_causal": False}

        def native(used: Call) -> Tensor:
            return kernel(module, used.query, used.key, used.value, used.mask, **options)[0]

        parts = []
        for number, sessions in enumerate(self.sessions):
            rows = slice(self.rows[number], self.rows[number + 1])
            part = slice(bounds[number], bounds[number + 1])
            own = (query[:, :, rows], key[:, :, part], value[:, :, part])
            part_mask = None
            if (
                self.masked and mask is not None
            ):  # sdpa on a GPU reads no mask that begins between two words of memory
                part_mask = mask[..., rows, part].clone(memory_format=torch.contiguous_format)
            part_mask = _mask(*own[:2], part_mask, kwargs.get("sliding_window"))
            call = normalise(
                module, *own, part_mask, masked=True, **interface.call_arguments(options, "eager")
            )
            part_plan = _of_request(plan, sessions, self.starts[number])
            parts.append(native(call) if part_plan.idle else attend(part_plan, call, native).z)
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def packed_of(inputs: Mapping[str, Any]) -> Packed | None:
    """The requests that a forward was given; None when it is an ordinary one."""
    cache = next(filter(is_paged, inputs.values()), None) if _batching() else None
    if cache is None:
        return None
    rows = tuple(inputs["cu_seq_lens_q"].tolist())
    positions = inputs["position_ids"][0]
    starts = tuple(positions[torch.tensor(rows[:-1], device=positions.device)].tolist())
    keys = {kind: tuple(bounds.tolist()) for kind, bounds in inputs["cu_seq_lens_k"].items()}
    return Packed(
        cache, rows, keys, starts, batch_under_way(len(starts)), inputs.get("attention_mask") is not None
    )


def is_paged(value: Any) -> bool:
    """True for the cache of continuous batching."""
    module = _batching()
    return module is not None and isinstance(value, module.PagedAttentionCache)


def _batching() -> Any:
    """The module of transformers that has the cache of continuous batching, once somebody has loaded it."""
    return sys.modules.get("transformers.generation.continuous_batching.cache")


def require_packable(sessions: Iterable[Session]) -> None:
    """Refuses what needs more of a request than its pattern and its head outputs."""
    for session in sessions:
        if session.watches:
            raise CaptureError(
                "Continuous batching cannot be captured.",
                evidence="its requests run on a thread of their own, many in one forward",
                remedy="Capture model.generate on the same prompts.",
            )
        if session.examples is not None:
            raise FixError(
                "A patch of examples has no meaning in continuous batching.",
                evidence=f"examples={list(session.examples)}",
                remedy="Patch the whole model, or use model.generate.",
            )
        for plan in session.plans:
            others = [_ASKS[step] for step in plan.steps if step in _ASKS] + ["beginning"] * plan.has_begin
            if others or plan.needs_residual:
                _refuse(plan.fix, others[0] if others else "residual")


class _Unknown(Memory):
    """The memory that a fix has of no request."""

    def __init__(self, fix: Any) -> None:
        super().__init__()
        self._fix = fix

    def __getattribute__(self, name: str) -> Any:
        """Refuses whatever is asked for."""
        if name.startswith("_"):
            return super().__getattribute__(name)
        _refuse(self._fix, "memory")

    def __setitem__(self, name: Any, value: Any) -> NoReturn:
        _refuse(self._fix, "memory")

    def __contains__(self, name: Any) -> NoReturn:
        _refuse(self._fix, "memory")


def _refuse(fix: Any, what: str) -> NoReturn:
    raise FixError(
        f"{type(fix).__name__} cannot act in continuous batching.",
        evidence=f"it asks for the {what} of a prompt, and requests come and go side by side",
        remedy="Serve it with model.generate (transformers serve without --continuous-batching), or use a fix that "
        "edits patterns or scales heads: ScaleHeads, ZeroHeads, MaskKeys.",
    )


class Stand:
    """Stands in for a session and its tracker while one request is in hand."""

    watches = False
    examples = layer_residual = None

    def __init__(self, plan: FixPlan, start: int) -> None:
        self.plans, self.start = (plan,), start
        self.current = self.followed = self

    def tracker(self) -> Stand:
        """The tracker that tells where rows and keys are."""
        return self

    def memory(self, number: int) -> _Unknown:
        """Memory that a fix has of it."""
        return _Unknown(self.plans[0].fix)

    def revocable(self, tower: str) -> int:
        """Rows that may be rolled back."""
        return 0

    def once(self, name: Any, find: Callable[[], Any]) -> Any:
        """Result of `find`, found anew for every request."""
        return find()

    def call_layout(self, tower: str, kind: str, call: Call, *, labels: bool = True) -> CallLayout:
        """Positions of the rows and keys; the keys end where the rows do."""
        return self.rows(call.shape[2], call.shape[3], call.query.device)

    def rows(self, rows: int, keys: int, device: torch.device) -> CallLayout:
        """Positions of this many rows and keys."""
        stop = self.start + rows
        return CallLayout(
            positions=torch.arange(self.start, stop, device=device),
            roles=(),
            classes=torch.zeros(1, keys, 0, device=device),
            cross=False,
            key_start=stop - keys,
        )

    def __getattr__(self, name: str) -> NoReturn:
        _refuse(self.plans[0].fix, name)


def _of_request(plan: Plan, sessions: Sequence[Session], start: int) -> Plan:
    """The part of a plan that is for one request."""

    def own(steps: Iterable[FixStep]) -> tuple[FixStep, ...]:
        stands: list[Any] = [(step, Stand(step.plan, start)) for step in steps if step.session in sessions]
        return tuple(FixStep(step.plan, stand, step.number) for step, stand in stands)

    return replace(plan, edit=own(plan.edit), scale=own(plan.scale), edit_qkv=(), watch=())


def _mask(query: Tensor, key: Tensor, mask: Tensor | None, window: Any) -> Tensor | None:
    """The mask of one request; where the manager makes none, each row sees what is not behind it, and its window."""
    rows, keys = query.shape[2], key.shape[2]
    if mask is not None or rows == 1:
        return mask
    row = torch.arange(keys - rows, keys, device=query.device)[:, None]
    column = torch.arange(keys, device=query.device)
    visibility = column <= row
    if isinstance(window, int):
        visibility &= column > row - window
    return query.new_zeros(1, 1, rows, keys).masked_fill(~visibility, torch.finfo(query.dtype).min)
