"""Layer-wise relevance propagation for transformers: gradients under other rules, times the input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from headwise.errors import InputError
from headwise.fixes.patching import patch
from headwise.probes.attach.sites import Site, attention_modules
from headwise.saliency.explained import Explained, Maps
from headwise.saliency.gradients import by_gradient, product

Variant = Literal["attn", "cp"]
GATED = ({"gate_proj", "up_proj", "down_proj"}, {"gate_up_proj", "down_proj"}, {"wi_0", "wi_1", "wo"})
"""Names of the linear layers of a gated MLP; the last takes the product."""
LEAST = 1e-10


def relevance(example: Explained, variant: Variant) -> Maps:
    """Relevance of what enters the first layers.

    AttnLRP (Achtibat et al. 2024): both factors of a product have half of its relevance, activations pass theirs on in
    proportion, norms are linear. CP-LRP: attention patterns and gates are constants; the relevances sum to the logit in
    a model without biases. AttnLRP's do not: its rule for the softmax leaves a part out.

    Args:
        example: what is explained.
        variant: `"attn"` or `"cp"`.

    Raises:
        InputError: activations or norms of the model are no modules, or its experts are mixed, so that no rule reaches
            them.
    """
    with rules(example, variant) as ran:
        maps = by_gradient(example, product)
    tower = example.question.tower
    model: Any = example.question.subject.model
    layers = len(
        {entry.layer for entry in attention_modules(model) if (entry.tower, entry.kind) == (tower, "self")}
    )
    if missing := [what for what in ("norms", "activations") if ran[what] < layers]:
        raise InputError(
            f"Relevance does not pass through the {' and '.join(missing)} of this model: they are no modules.",
            evidence=f"{type(model).__name__}: {layers} layers, {ran['norms']} norms and {ran['activations']} "
            "activations that ran as modules",
            remedy='Use method="gradient x input" or "relevancy".',
        )
    return maps


@contextmanager
def rules(example: Explained, variant: Variant) -> Iterator[Counter[str]]:
    """The model under the rules, its outputs as they are; counts the norms and activations that ran."""
    from transformers.activations import ACT2CLS

    model: Any = example.question.subject.model
    known = tuple({one[0] if isinstance(one, tuple) else one for one in ACT2CLS.values()})
    ran: Counter[str] = Counter()
    sites = {(entry.tower, entry.kind) for entry in attention_modules(model)}
    fixes = [_Products(tower=tower, kind=kind, variant=variant) for tower, kind in sites]
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if "experts" in name or type(module).__name__.endswith(("Experts", "MoE")):
                raise InputError(
                    "There is no rule for mixed experts.",
                    evidence=name,
                    remedy='Use method="gradient x input" or "relevancy".',
                )
            hook: Callable[..., Any] | None = None
            if isinstance(module, nn.LayerNorm) or (
                type(module).__name__.endswith("Norm") and not list(module.children())
            ):
                hook = partial(_norm, ran)
            elif isinstance(module, known):
                hook = partial(_activation, ran, variant == "cp" and _is_gated(model, name))
            if hook is not None:
                stack.callback(module.register_forward_hook(hook).remove)
            if (
                variant == "attn"
                and name
                and name.rpartition(".")[2] in ("down_proj", "wo")
                and _is_gated(model, name)
            ):
                stack.callback(module.register_forward_pre_hook(_half).remove)
        stack.enter_context(patch(example.question.subject, fixes))
        yield ran


@dataclass(frozen=True, kw_only=True)
class _Products:
    """A fix that changes nothing but gradients: those of queries, keys and values."""

    tower: str
    kind: str
    variant: Variant

    def edit_qkv(
        self, q: Tensor, k: Tensor, v: Tensor, site: Site, context: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.variant == "cp":
            return q.detach(), k.detach(), v
        return _scaled(q, 0.25), _scaled(k, 0.25), _scaled(v, 0.5)


def _scaled(value: Tensor, factor: float) -> Tensor:
    """The value as it is, and a share of its gradient."""
    return value.detach() + factor * (value - value.detach())


def _with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """One value, and the gradient of another."""
    return value.detach() + (other - other.detach())


def _norm(ran: Counter[str], module: Any, args: tuple, output: Tensor) -> Tensor:
    """A norm whose scale is a constant."""
    ran["norms"] += 1
    hidden = args[0]
    if isinstance(module, nn.LayerNorm):
        centred = hidden - hidden.mean(-1, keepdim=True)
        scale = (hidden.var(-1, correction=0, keepdim=True) + module.eps).rsqrt().detach()
        return _with_gradient_of(output, centred * scale * (1 if module.weight is None else module.weight))
    return _in_proportion(hidden, output)


def _activation(ran: Counter[str], constant: bool, module: Any, args: tuple, output: Tensor) -> Tensor:
    """An activation that passes relevance on in proportion; of a gate, a constant where so wanted."""
    ran["activations"] += 1
    return output.detach() if constant else _in_proportion(args[0], output)


def _in_proportion(hidden: Tensor, output: Tensor) -> Tensor:
    safe = hidden.where(hidden.abs() > LEAST, LEAST)
    return _with_gradient_of(output, hidden * (output / safe).detach())


def _half(module: nn.Module, args: tuple) -> tuple:
    return (_scaled(args[0], 0.5), *args[1:])


def _is_gated(model: nn.Module, name: str) -> bool:
    """True for a part of a gated MLP."""
    parts = {child for child, _ in model.get_submodule(name.rpartition(".")[0]).named_children()}
    return any(wanted <= parts for wanted in GATED)
