"""Modules that headwise did not reach in a forward, and what that means for those who acted on it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_batchedtensor, peek_interpreter_stack

from headwise.errors import CaptureError, UnsupportedModel
from headwise.probes.attach.sites import AttentionModule, names_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.probes.engine.instrumentation import Instrumentation
    from headwise.probes.engine.session import Session

_FUSED = "scaled_dot_product_attention"
EAGER = 'Load the model with attn_implementation="eager"'


def skipping(entry: AttentionModule) -> str:
    """Reason for a module that ran without asking the interface: nobody saw it, no fix reached it."""
    return f"{type(entry.module).__name__} ran without asking the attention interface for its function"


def require_reached(
    instrumented: Instrumentation, hidden: Iterable[tuple[AttentionModule, str]], sessions: Iterable[Session]
) -> None:
    """Refuses a forward in which a fix did not reach a module that it was to act on."""
    acting = [plan for session in sessions for plan in session.plans if not plan.neutral]
    for entry, reason in hidden:
        for plan in acting:
            if plan.touches(entry.site(0), instrumented.language):
                raise UnsupportedModel(
                    f"{plan.name} did not reach {entry.name}.",
                    evidence=reason,
                    remedy="What this forward gave is not patched there. "
                    + remedy([entry.module], instrumented.implementation, otherwise="Name other layers."),
                )


def remedy(modules: Collection[nn.Module], implementation: str | None, *, otherwise: str) -> str:
    """Remedy for modules that ran unseen: eager attention, where they have it and did not run it."""
    if implementation != "eager" and modules and all(_has_eager_form(module) for module in modules):
        return f"{EAGER}."
    return otherwise


def no_attention(model: PreTrainedModel) -> UnsupportedModel:
    """The refusal of a model in which headwise knows of no attention module."""
    alike = {
        type(module).__name__ for module in model.modules() if "attention" in type(module).__name__.lower()
    }
    if alike:
        return UnsupportedModel(
            "headwise does not know the form of this model's attention.",
            evidence=f"{type(model).__name__}: {', '.join(sorted(alike))}",
            remedy="It stays out of reach, whatever implementation the model is loaded with.",
        )
    return UnsupportedModel(
        "This model has no attention that headwise knows of.",
        evidence=type(model).__name__,
        remedy="Models that mix positions without attention have no heads to look at.",
    )


def _has_eager_form(module: nn.Module) -> bool:
    """True for a module that calls a fused kernel because of the implementation that its configuration names.

    It asks for the name (Falcon), or stands in for the class that it derives from (SAM).
    """
    names = names_in(type(module).forward)
    bases = [base for base in type(module).__mro__[1:] if "forward" in vars(base) and base is not nn.Module]
    derived = any(_FUSED not in names_in(base.forward) for base in bases)
    return _FUSED in names and ("_attn_implementation" in names or derived)


def require_no_vmap(inputs: Mapping[str, Any]) -> None:
    """Refuses a forward under `torch.func.vmap`, whose tensors hide their examples from what looks at them."""
    if peek_interpreter_stack() is None:  # no transform of torch.func is under way
        return
    if any(isinstance(value, Tensor) and is_batchedtensor(value) for value in inputs.values()):
        raise CaptureError(
            "A captured or patched model cannot run under torch.func.vmap.",
            remedy="Give the examples as a batch, or leave the `with` block for this call.",
        )


def require_no_cuda_graph(sessions: Iterable[Session]) -> None:
    """Refuses a forward that is recorded as a CUDA graph: its replays run no code of ours.

    Raises:
        CaptureError: a session concerns the forward.
    """
    if not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
        return
    if any(session.listens() for session in sessions):
        raise CaptureError(
            "A captured or patched model cannot be recorded as a CUDA graph: replays would pass headwise by.",
            remedy="Record it without captures and patches, or write the fix into the weights with hw.bake.",
        )


def require_one_model(module: nn.Module) -> None:
    """Refuses the forward of a copy that shares what headwise has put on its original."""
    if module.__dict__.get("_is_replica"):
        raise UnsupportedModel(
            "A model that is captured or patched cannot be replicated over devices.",
            evidence=f"DataParallel runs a copy of {type(module).__name__}",
            remedy="Use DistributedDataParallel, or device_map to spread one model.",
        )


def missing_hooks(module: nn.Module) -> UnsupportedModel:
    """The refusal of a call of attention where headwise's hooks are gone."""
    return UnsupportedModel(
        "Somebody has taken headwise's hooks off the model while a patch or a capture was on it.",
        evidence=f"{type(module).__name__} ran",
        remedy="Remove the patch or end the capture, and attach again.",
    )
