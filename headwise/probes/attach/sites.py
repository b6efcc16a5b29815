"""Sites of attention in a model: towers, kinds, layers, and the modules behind them."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from headwise.model.embeddings import input_embedding

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_VISION = re.compile(r"vision|visual|image_encoder|(^|\.)vit(\.|$)")
_AUDIO = re.compile(r"audio|speech")
_CROSS = re.compile(r"cross|x_attn|encoder_attn|encdec", re.IGNORECASE)
TOWERS = ("text", "vision", "qformer", "encoder", "decoder")
_KEY_TOWERS = {"decoder": ("encoder", "vision"), "text": ("vision", "encoder"), "qformer": ("vision",)}
_SOUND_INPUTS = ("input_values", "input_features")


@dataclass(frozen=True, order=True)
class Site:
    """One attention computation of a model.

    `call` counts calls of the same module within one forward (the two halves of a differential head); decode steps and
    the windows of a vision tower are not new sites.
    """

    tower: str
    """`text`, `vision`, `encoder`, `decoder` or `qformer` (learned queries between a vision and a text tower)."""
    kind: str
    """`self` or `cross`."""
    layer: int
    module: str = ""
    """Qualified name of the attention module."""
    call: int = 0

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Tower, kind, layer and call: what it is in another checkpoint, which may name its modules differently."""
        return self.tower, self.kind, self.layer, self.call

    def __str__(self) -> str:
        call = f" call {self.call}" if self.call else ""
        return f"{self.tower} {self.kind} {self.layer}{call}"


@dataclass(frozen=True)
class AttentionModule:
    """A module that computes attention, and how headwise can see it."""

    module: nn.Module
    name: str
    tower: str
    kind: str
    layer: int
    interface: bool
    """True when its forward asks the transformers attention interface for its function."""
    shared: bool
    """True when one module serves every layer of its tower (ALBERT); its call number is the layer."""
    block: str
    """Qualified name of the layer around it: the residual stream enters there."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that it serves."""
        if not self.shared:
            return (self.layer,)
        return tuple(range(getattr(self.module.config, "num_hidden_layers", 1)))  # type: ignore[arg-type]

    def site(self, call: int) -> Site:
        """The site of this module's `call`-th call within one forward."""
        if self.shared:
            return Site(self.tower, self.kind, call, self.name)
        return Site(self.tower, self.kind, self.layer, self.name, call)


def attention_modules(model: PreTrainedModel) -> list[AttentionModule]:
    """Every module of `model` that computes attention, in module order.

    A module counts when its class says so by name and it holds projections of its own; a wrapper around such a
    module does not. The layer is the first number in its path, or, where two modules of a tower would share that
    number, their order.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9, n_positions=8))
        >>> [(m.name, m.tower, m.kind, m.layer) for m in attention_modules(model)]
        [('transformer.h.0.attn', 'text', 'self', 0), ('transformer.h.1.attn', 'text', 'self', 1)]
    """
    names = {id(module): name for name, module in model.named_modules()}
    language = _language_part(model)
    candidates = [
        (name, module, _tower(model, name, language), _kind(name, module))
        for name, module in _candidates(model, names)
    ]
    order = Counter()
    numbers = {name: _first_number(name) for name, *_ in candidates}
    taken = Counter((tower, kind, numbers[name]) for name, _, tower, kind in candidates)
    ambiguous = {(tower, kind) for (tower, kind, number), n in taken.items() if n > 1 or number is None}
    selves = [name for name, _, _, kind in candidates if kind == "self"]
    result = []
    for name, module, tower, kind in candidates:
        ordinal = order[tower, kind]
        order[tower, kind] += 1
        number = numbers[name]
        layer = ordinal if number is None or (tower, kind) in ambiguous else number
        result.append(
            AttentionModule(
                module=module,
                name=name,
                tower=tower,
                kind=kind,
                layer=layer,
                interface=uses_interface(module),
                shared=_is_shared(module),
                block=_block(model, name, selves),
            )
        )
    return result


def key_tower(tower: str, kind: str, known: Collection[str]) -> str:
    """The tower whose positions are the keys of a site: its own in self-attention, the source in cross-attention.

    `known` are the towers that exist.

    Example:
        >>> key_tower("decoder", "cross", ["encoder", "decoder"])
        'encoder'
    """
    sources = (tower,) if kind == "self" else _KEY_TOWERS.get(tower, ("encoder",))
    return next((source for source in sources if source in known), sources[0])


def language_tower(towers: list[str]) -> str:
    """The tower that edits address by default: `text`, else `decoder`, else the first one."""
    for tower in ("text", "decoder"):
        if tower in towers:
            return tower
    return towers[0]


def uses_interface(module: nn.Module) -> bool:
    """True when the class's forward asks the transformers attention interface for its function.

    Kosmos-2.5 asks it for an attribute, which never gives a registered function.
    """
    names = names_in(type(module).forward)
    asks = "get_interface" in names or "getattr" not in names
    return asks and "ALL_ATTENTION_FUNCTIONS" in names


def names_in(function: Any) -> set[str]:
    """The globals and attributes that a function names, also in comprehensions and inner functions."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return set()
    return set(code.co_names).union(*(getattr(constant, "co_names", ()) for constant in code.co_consts))


def head_count(module: nn.Module) -> int | None:
    """Query heads of an attention module, where it says."""
    for owner in (module, getattr(module, "config", None)):
        for name in ("num_heads", "num_attention_heads", "n_heads", "n_head"):
            count = getattr(owner, name, None)
            if isinstance(count, int):
                return count
    return None


def _candidates(model: nn.Module, names: dict[int, str]) -> list[tuple[str, nn.Module]]:
    named = [
        (names[id(module)], module)
        for module in model.modules()
        if _computes_attention(module) and id(module) in names
    ]
    paths = {name for name, _ in named}
    inner = [(n, m) for n, m in named if uses_interface(m) or not any(p.startswith(n + ".") for p in paths)]
    reached = {n for n, m in inner if uses_interface(m)}
    return [
        (n, m) for n, m in inner if n in reached or not any(n.startswith(outer + ".") for outer in reached)
    ]


def _computes_attention(module: nn.Module) -> bool:
    if "attention" not in type(module).__name__.lower():
        return uses_interface(module)
    if uses_interface(module) or isinstance(module, nn.MultiheadAttention):
        return True
    return any(_projects(child) for child in module.children()) or any(
        name in ("q", "k", "v", "o") for name, _ in module.named_parameters(recurse=False)
    )


def _projects(module: nn.Module) -> bool:
    """True for a linear layer or a convolution, of whatever class (I-BERT has its own)."""
    if isinstance(module, nn.Linear) or type(module).__name__ in ("Conv1D", "Conv2d", "Linear"):
        return True
    weight = module._parameters.get("weight")
    return weight is not None and weight.dim() > 1 and not isinstance(module, nn.Embedding)


def _language_part(model: PreTrainedModel) -> str:
    """Path of the part that reads words, in a model that looks at pictures beside it; else the whole model."""
    from transformers import PreTrainedModel as Base

    config = model.config
    if getattr(config, "text_config", None) is None or getattr(config, "vision_config", None) is None:
        return ""
    embedding = input_embedding(model)
    if embedding is None:
        return ""
    parts = [
        path
        for path, module in model.named_modules()
        if isinstance(module, Base) and any(inner is embedding for inner in module.modules())
    ]
    return max(parts, key=len, default="")


def _tower(model: PreTrainedModel, name: str, language: str) -> str:
    from transformers import PreTrainedModel as Base

    owner, path = model, ""
    module: nn.Module = model
    walked = []
    for part in name.split("."):
        module = getattr(module, part)
        walked.append(part)
        if isinstance(module, Base):
            owner, path = module, ".".join(walked)
    inside = name[len(path) :]
    if "qformer" in name.lower():
        return "qformer"
    if _VISION.search(name) or (owner.main_input_name == "pixel_values" and not _speaks(owner)):
        return "vision"
    if _AUDIO.search(path) and not _is_seq2seq(owner):
        return "encoder"
    if _is_seq2seq(model) or _is_seq2seq(owner):
        for part in name.split("."):
            if "decoder" in part:
                return "decoder"
            if "encoder" in part and "attn" not in part:
                return "encoder"
    if owner.main_input_name in _SOUND_INPUTS and "decoder" not in inside:
        return "encoder"
    return "text" if name.startswith(language) else "qformer"  # queries that resample a picture


def _is_seq2seq(model: PreTrainedModel) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _speaks(model: PreTrainedModel) -> bool:
    return getattr(model.config, "text_config", None) is not None


def _kind(name: str, module: nn.Module) -> str:
    if _CROSS.search(name) or getattr(module, "is_cross_attention", False) is True:
        return "cross"
    return "self"


def _first_number(name: str) -> int | None:
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _is_shared(module: nn.Module) -> bool:
    config = getattr(module, "config", None)
    return (
        getattr(config, "num_hidden_groups", None) is not None and getattr(config, "inner_group_num", 0) == 1
    )


def _block(model: nn.Module, name: str, selves: list[str]) -> str:
    """The outermost member of a module list around `name` that holds one self-attention at most."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        if parts[end - 1].isdigit():
            prefix = ".".join(parts[:end])
            if sum(other.startswith(prefix + ".") for other in selves) <= 1:
                return prefix
    return ".".join(parts[:-1])
