"""`bake`: write a static scaling of heads into W_O of a copy."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from headwise.errors import FixError
from headwise.files import filling
from headwise.fixes._readings import Reading, readings
from headwise.fixes.binding import bound
from headwise.fixes.parsing import read_fixes
from headwise.fixes.patching import patch
from headwise.probes.attach.sites import Site
from headwise.probes.engine.instrumentation import instrument
from headwise.probes.fix_plan import plan_fix
from headwise.subject import unwrap

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from headwise.subject import Subject

_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_TOLERANCE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}
_WHY = {
    "begin": "it looks at every prompt before it acts",
    "edit": "it edits attention patterns, which depend on the input",
    "edit_qkv": "it edits queries, keys and values, which depend on the input",
    "edit_residual": "it edits the residual stream, which depends on the input",
    "scale": "it has no factors(layer, heads), so nothing says that its scaling is the same for every input",
}
"""Why a fix without factors is not a change of weights, by the first step that it has."""


def bake(
    subject: Subject | PreTrainedModel,
    fixes: Any | Iterable[Any],
    path: str | Path | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
) -> Subject:
    """A copy of a model with the scaling of heads written into its weights: a plain checkpoint for any server.

    Scaling a head's output is scaling its columns of W_O, so no hook is left. The copy is compared with the patched
    model before it is handed out. The given subject is not touched.

    Args:
        subject: a `Subject` or a bare transformers model.
        fixes: one fix or several that scale heads, such as `ScaleHeads` and `ZeroHeads`; factors multiply. As in
            `patch`, the path of a spec of this model or a text may stand in place of each.
        path: folder to save model and processor to, with `save_pretrained`; a folder with something in it is refused.
        inputs: keyword arguments of the model's forward, on which every layer in question runs. Without them, inputs
            are made up: some words, and a picture for models that look at pictures.

    Returns:
        The copy, in the mode (training or evaluation) of the original, with the same processor.

    Raises:
        FixError: a fix is no static scaling; or W_O of a layer cannot be scaled: it is not found, is shared with
            layers that need other factors, is tied to another weight, is quantised or not in memory.
        InputError: the folder is not empty or cannot be written to, or no input could be made up.

    Example:
        >>> import headwise as hw
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=8)).eval()
        >>> baked = bake(model, hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.5))
        >>> before, after = (m.transformer.h[0].attn.c_proj.weight for m in (model, baked.model))
        >>> bool((after[4:] == before[4:] / 2).all()), bool((after[:4] == before[:4]).all())
        (True, True)
    """
    from headwise.subject import Subject, wrap

    given = subject if isinstance(subject, Subject) else wrap(unwrap(subject)[0])
    several = tuple(fix for fix in bound(read_fixes(fixes, given), given.model) if not plan_fix(fix).neutral)
    for fix in several:
        _require_factors(fix)
    _require_plain(given.model)
    with filling(path) as folder:
        baked = replace(given, model=copy.deepcopy(given.model), name=str(path or f"{given.name} (baked)"))
        if several:
            modes = {module: module.training for module in baked.model.modules()}
            baked.model.eval()
            with torch.random.fork_rng(devices=[baked.device] if baked.device.type == "cuda" else []):
                _scale(baked, several, inputs)
            for module, training in modes.items():
                module.training = training
        if folder is not None:
            baked.model.save_pretrained(folder)
            if baked.processor is not None:
                baked.processor.save_pretrained(folder)
    return baked


def _require_factors(fix: Any) -> None:
    if callable(getattr(fix, "factors", None)):
        return
    plan = plan_fix(fix)
    has = [step for step in _WHY if step in plan.steps or (step == "begin" and plan.has_begin)]
    raise FixError(
        f"{type(fix).__name__} cannot be baked: it is no static scaling of heads.",
        evidence=_WHY[has[0]],
        remedy="Serve it with hw.patch; hw.save_spec keeps it in a file.",
    )


def _require_plain(model: PreTrainedModel) -> None:
    if instrument(model).sessions:
        raise FixError(
            "The model is captured or patched at the moment.",
            evidence=type(model).__name__,
            remedy="Call bake outside the `with` block, or remove the patch first.",
        )
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            raise FixError(
                "The model's weights are not all in memory.",
                evidence=f"{name} is offloaded",
                remedy="Load it without device_map or with enough memory.",
            )
        if type(parameter).__name__ == "DTensor":
            raise FixError(
                "The model's weights are sharded over processes.",
                evidence=f"{name} is a DTensor",
                remedy="Bake the whole model, then shard the result.",
            )
        if type(parameter) not in (nn.Parameter, Tensor):
            raise _quantised(f"{name} is a {type(parameter).__name__}")
        if parameter.dtype not in _KINDS:
            raise _quantised(f"{name} is {str(parameter.dtype).removeprefix('torch.')}")
    if getattr(model, "is_quantized", False):
        raise _quantised(str(getattr(model, "quantization_method", "") or "is_quantized"))
    _require_own_names(model)


def _quantised(evidence: str) -> FixError:
    return FixError(
        "The model's weights are quantised, and scaling them would round them again.",
        evidence=evidence,
        remedy="Bake the full-precision model, then quantise the result.",
    )


def _scale(subject: Subject, fixes: tuple[Any, ...], inputs: Mapping[str, Any] | None) -> None:
    """Scales W_O of `subject` in place, and compares its outputs with those of the patched model."""
    model = subject.model
    patch(model, fixes).remove()  # refuses what cannot be reached
    read = readings(subject, fixes, inputs)
    _require_found(model, read)
    factors = _by_layer(model, fixes, read)
    with torch.no_grad():
        with patch(model, fixes):
            wanted = [reading.run(model) for reading in read]
        for name, scale in factors.items():
            _multiply(model.get_submodule(name), scale)
        for reading, before in zip(read, wanted, strict=True):
            _require_same(model, reading.run(model), before)


def _require_found(model: PreTrainedModel, read: list[Reading]) -> None:
    through_softmax = {entry.name for entry in instrument(model).modules.values() if not entry.interface}
    for reading in read:
        for site in reading.missing:
            raise FixError(
                f"W_O of {site} was not found, so its heads cannot be scaled in the weights.",
                evidence=f"{site.module} is seen through its softmax alone"
                if site.module in through_softmax
                else f"no linear layer is fed the heads of {site.module} as they are: a norm or a gate stands "
                "between, or several calls are joined",
                remedy="Serve the fix with hw.patch; hw.save_spec keeps it in a file.",
            )


def _by_layer(model: PreTrainedModel, fixes: tuple[Any, ...], read: list[Reading]) -> dict[str, Tensor]:
    """What to multiply the heads of each linear layer by; layers that stay as they are are left out."""
    language = instrument(model).language
    first: dict[str, tuple[Site, Tensor]] = {}
    for reading in read:
        for site, projection in reading.found.items():
            factors = torch.ones(projection.weight.shape[0], dtype=torch.float64)
            for fix in fixes:
                if plan_fix(fix).touches(site, language):
                    factors = factors * fix.factors(site.layer, len(factors)).double().cpu()
            other, known = first.setdefault(projection.name, (site, factors))
            if not torch.equal(known, factors):
                raise FixError(
                    f"{other} and {site} share one W_O, and are to be scaled differently.",
                    evidence=projection.name,
                    remedy="Name the same heads in every layer, or serve the fix with hw.patch.",
                )
    changed = {name: factors for name, (_, factors) in first.items() if bool((factors != 1).any())}
    for name in changed:
        _require_own_weight(model, name)
    return changed


def _require_own_names(model: PreTrainedModel) -> None:
    """Refuses weights that a checkpoint of the model's class would not hold, or would hold under other names."""
    try:
        with torch.device("meta"):
            plain = type(model)(copy.deepcopy(model.config))
    except Exception:  # a class that is not made of its configuration alone
        return
    strange = [name for name in model.state_dict() if name not in plain.state_dict()]
    if strange:
        path, holder = strange[0].split("."), model
        for step in path[:-1]:
            if not isinstance(getattr(holder, step, None), torch.nn.Module):
                break
            holder = getattr(holder, step)
        raise FixError(
            "The model holds weights that its class does not have, so that a saved copy could not be loaded.",
            evidence=f"{strange[0]}, of {type(holder).__module__.partition('.')[0]}'s {type(holder).__name__}",
            remedy="Merge adapters first (merge_and_unload), and remove parametrizations.",
        )


def _require_own_weight(model: PreTrainedModel, name: str) -> None:
    module = model.get_submodule(name)
    weight = module._parameters.get("weight")
    if weight is None:
        raise FixError(
            f"The weight of {name} is not stored as it is used.",
            evidence=f"{type(module).__name__} computes it",
            remedy="Remove the parametrization or adapter first, for example by merging it.",
        )
    place = weight.untyped_storage().data_ptr()
    for other_name, other in model.named_modules():
        for part, parameter in other._parameters.items():
            if parameter is None or (other is module and part == "weight"):
                continue
            if parameter.untyped_storage().data_ptr() == place and parameter.numel():
                raise FixError(
                    f"The weight of {name} is tied to another one, which would be scaled with it.",
                    evidence=f"{other_name}.{part}",
                    remedy="Serve the fix with hw.patch; hw.save_spec keeps it in a file.",
                )


def _multiply(module: nn.Module, factors: Tensor) -> None:
    """Scale the columns of W_O (rows, for Conv1D) that each head feeds."""
    weight: Any = module.weight
    axis = 0 if type(module).__name__ == "Conv1D" else 1
    every = factors.repeat_interleave(weight.shape[axis] // len(factors))
    every = every.to(device=weight.device, dtype=torch.promote_types(weight.dtype, torch.float32))
    weight.copy_(weight * (every[:, None] if axis == 0 else every))


def _require_same(model: PreTrainedModel, after: Tensor, before: Tensor) -> None:
    tolerance = _TOLERANCE.get(model.dtype, 1e-4)
    scale = max(1.0, float(before[before.isfinite()].abs().max()))
    if not torch.allclose(after.float(), before.float(), rtol=0, atol=tolerance * scale, equal_nan=True):
        difference = float((after - before).abs().nan_to_num(nan=torch.inf).max()) / scale
        raise FixError(
            "The baked model does not compute what the patched model does.",
            evidence=f"{type(model).__name__}: logits differ by {difference:.2g} of the largest",
            remedy="Serve the fix with hw.patch; an adapter on W_O would explain it, and can be merged first.",
        )
