"""Open a model and its processor, or say in one line why that cannot be done."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headwise.errors import InputError, LoadError
from headwise.model.building import Building, check_table
from headwise.model.folder import ModelFolder, values_of
from headwise.model.generation_settings import read_settings, settle
from headwise.model.location import short_name
from headwise.model.tokenizing import check_tokenizer, panicked
from headwise.text import visible

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_HUB = (
    "cache_dir",
    "force_download",
    "local_files_only",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
)
_COUNTS = ("layers", "heads", "n_layer", "n_head")
"""Ends of the names under which configs count layers and heads."""
_NOT_ITS_CONTENT = (MemoryError, torch.OutOfMemoryError)
"""What loading may raise that says nothing about the files."""
_REPAIR = "Repair config.json, or update transformers if the architecture is newer."
_PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "image_processor_config.json",
    "feature_extractor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.*",
    "*.spm",
    "*.model",
)


def load_model(name: str, **options: Any) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """The model of a folder or hub name, in evaluation mode, and what loading it changed; see `headwise.load`."""
    from transformers import GenerationConfig

    options.setdefault("trust_remote_code", False)
    own = options.get("generation_config") is not None
    settings = None if own else read_settings(name, options.get("subfolder") or "")
    if settings is not None:
        options["generation_config"] = GenerationConfig()  # else transformers reads the file, and believes it
    any_shape = options.get("ignore_mismatched_sizes", False)
    options["ignore_mismatched_sizes"] = True  # else transformers refuses them, and names none
    with quiet():
        config = _load_config(name, options)
        try:
            loader = _model_class(config, options["trust_remote_code"])
            with bounded(name, options, config):
                model, report = loader.from_pretrained(name, output_loading_info=True, **options)
        except InputError as error:
            raise LoadError(
                f"The settings of {name} ask for more than its weights hold.",
                evidence=f"{error.evidence}{_asked(config)}",
                remedy=error.remedy,
            ) from error
        except _NOT_ITS_CONTENT as error:
            raise _no_memory(name, error, config) from error
        except Exception as error:  # whatever a damaged file or a wrong value in config.json leads to
            if unknown := _unknown(error, config):
                raise LoadError(
                    f"The config.json of {name} cannot be used.", evidence=unknown, remedy=_REPAIR
                ) from error
            raise LoadError(
                f"The weights of {name} cannot be loaded.",
                evidence=_in_short(error),
                remedy="Copy or download the model again, and check its config.json and the options.",
            ) from error
    _check_counts(name, model.config.to_dict())
    _check_complete(name, model, report["missing_keys"])
    if not any_shape:
        _check_shapes(name, report["mismatched_keys"])
    _check_finite(name, model)
    short = short_name(name)
    notes = () if own else settle(model, settings, name=short)
    return model.eval(), (*_discrepancies(short, model, report), *notes)


def bounded(
    name: str, options: Mapping[str, Any], config: PreTrainedConfig | None = None
) -> AbstractContextManager[Any]:
    """A bound on what building takes, where the weights lie in a folder and not on the hub.

    Raises:
        InputError: the settings ask for a table that the weights do not explain.
    """
    folder = Path(name, options.get("subfolder") or "")
    if not os.path.isdir(folder):
        return nullcontext()
    held = ModelFolder(folder).held()
    if config is not None:
        check_table(config.to_dict(), held, where=name)
    return Building(held, where=name)


def load_processor(name: str, **options: Any) -> Any:
    """The processor of a folder or hub name; None when it has none."""
    from transformers import AutoProcessor

    folder = Path(name, options.get("subfolder", ""))
    if os.path.isdir(folder) and not any(any(folder.glob(pattern)) for pattern in _PROCESSOR_FILES):
        return None
    if os.path.isdir(folder):
        check_tokenizer(folder)
    hub = {key: options[key] for key in _HUB if key in options}
    hub.setdefault("trust_remote_code", False)
    with quiet():
        try:
            return AutoProcessor.from_pretrained(name, **hub)
        except (ImportError, AttributeError) as error:
            raise LoadError(
                f"The processor of {name} needs a package that is not installed.",
                evidence=_in_short(error),
                remedy="Install it (video processors need torchvision), or hw.wrap(model, tokenizer).",
            ) from error
        except _NOT_ITS_CONTENT as error:
            raise _no_memory(name, error) from error
        except BaseException as error:
            if not (isinstance(error, Exception) or panicked(error)):
                raise
            if not os.path.isdir(folder):
                return None
            raise LoadError(
                f"The processor files of {name} cannot be read.",
                evidence=_in_short(error),
                remedy="Copy or download them again, or hw.wrap(model, processor).",
            ) from error


def _load_config(name: str, options: dict[str, Any]) -> PreTrainedConfig:
    from transformers import AutoConfig

    folder = Path(name)
    hub = {key: options[key] for key in _HUB if key in options}
    try:
        return AutoConfig.from_pretrained(name, **hub)
    except _NOT_ITS_CONTENT as error:
        raise _no_memory(name, error) from error
    except Exception as error:  # strict data classes, and whatever code a wrong value leads into
        if "trust_remote_code" in str(error):
            raise LoadError(
                f"The model {name} brings code of its own, which is not run unasked.",
                remedy="Read that code, then load with trust_remote_code=True.",
            ) from error
        if os.path.isdir(folder):
            raise LoadError(
                f"The config.json of {name} cannot be used.", evidence=_in_short(error), remedy=_REPAIR
            ) from error
        raise LoadError(
            f"There is no folder {name}, and no model of that name could be had from the hub.",
            evidence=_in_short(error),
            remedy="Check the name and the connection, or give a local folder.",
        ) from error


def _no_memory(name: str, error: BaseException, config: PreTrainedConfig | None = None) -> LoadError:
    """The error of a model that is larger than the memory, with the largest sizes that it asks for."""
    return LoadError(
        f"There is not enough memory for {name}.",
        evidence=_in_short(error) + _asked(config),
        remedy="Load it in another dtype or on another device, or a smaller model; check those sizes.",
    )


def _asked(config: PreTrainedConfig | None) -> str:
    """The largest sizes of a config, at the end of a sentence."""
    sizes = {} if config is None else {k: v for k, v in values_of(config.to_dict()) if type(v) is int}
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    asked = ", ".join(f"{visible(size, limit=60)} = {min(sizes[size], 10**18):,}" for size in largest)
    return f"; config.json asks for {asked}" if largest else ""


def _unknown(error: Exception, config: PreTrainedConfig) -> str:
    """The setting whose value transformers looked up in vain, such as a function that it does not have."""
    value = error.args[0] if isinstance(error, KeyError) and error.args else None
    named = [key for key, given in values_of(config.to_dict()) if given == value]
    return f"{named[0]} = {visible(repr(value), limit=100)} is not known to transformers" if named else ""


def _model_class(config: PreTrainedConfig, trust: bool) -> Any:
    """The class that was saved: the config names it; AutoModel otherwise."""
    import transformers

    named = getattr(transformers, (config.architectures or [""])[0], None)
    if named is not None:
        return named
    remote = getattr(config, "auto_map", None) or {}
    if trust:
        for auto in sorted(remote, reverse=True):
            if auto.startswith("AutoModel"):
                return getattr(transformers, auto)
    return transformers.AutoModel


def _check_counts(name: str, config: Mapping[str, Any]) -> None:
    """Less than no layers are built like none, and the signs of heads and their width cancel out."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_counts(name, value)
        elif type(value) is int and value < 0 and key.endswith(_COUNTS):
            raise LoadError(
                f"The config of {name} asks for less than nothing.",
                evidence=f"{key} is {value}",
                remedy="Repair config.json or the options: layers and heads are counted from 0.",
            )


def _check_complete(name: str, model: PreTrainedModel, missing: set[str]) -> None:
    """Weights that the checkpoint lacks are random, and numbers about random weights mean nothing."""
    if len(missing) > len(list(model.parameters())) / 2:
        raise LoadError(
            f"The weights of {name} are not those of a {type(model).__name__}.",
            evidence=f"{len(missing)} are missing: {_some(missing)}",
            remedy="Give a folder whose config and weights belong together.",
        )


def _check_shapes(name: str, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Weights whose shapes are not those of the config would be random."""
    found = sorted((key, tuple(saved), tuple(built)) for key, saved, built in mismatched)
    if found:
        key, saved, built = found[0]
        raise LoadError(
            f"The weights of {name} do not have the shapes that its config.json asks for.",
            evidence=f"{len(found)} differ: {key} is {saved} in the file, and the config asks for {built}",
            remedy="Give a folder whose config and weights belong together; ignore_mismatched_sizes=True sets these at "
            "random.",
        )


def _discrepancies(name: str, model: PreTrainedModel, report: Mapping[str, Any]) -> Iterator[str]:
    """What was set at random and what was left out; a buffer that the model computes by itself is neither."""
    found = {
        "are missing and were set at random": report["missing_keys"],
        "have another shape and were set at random": {key for key, *_ in report["mismatched_keys"]},
        "of the file have no place in the model and were left out": report["unexpected_keys"]
        - dict(model.named_buffers()).keys(),
    }
    for what, keys in found.items():
        if keys:
            yield f"{name}: {len(keys)} weights {what}: {_some(keys)}"


def _some(keys: Collection[str]) -> str:
    """The first of some names, which may come out of a file."""
    return ", ".join(visible(key, limit=200) for key in sorted(keys)[:3]) + (", ..." if len(keys) > 3 else "")


def _check_finite(name: str, model: PreTrainedModel) -> None:
    for key, value in model.named_parameters():
        if value.is_meta or not value.is_floating_point():
            continue
        with torch.no_grad():  # the sum spreads any NaN; only a suspicious tensor is looked at in full
            bad = not value.sum(dtype=torch.float32).isfinite() and not value.isfinite().all()
        if bad:
            raise LoadError(
                f"The weights of {name} are not finite.",
                evidence=f"{key} holds {'NaN' if value.isnan().any() else 'infinity'}",
                remedy="Use another checkpoint: this one is damaged.",
            )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars and notes of transformers out of the way; they come back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _in_short(error: BaseException) -> str:
    """What an exception says, in one line, with its kind where the words alone say little."""
    text = " ".join(str(error).split())
    short = text if len(text) <= 200 else f"{text[:197]}..."
    return short if " " in short else f"{type(error).__name__}: {short}" if short else type(error).__name__
