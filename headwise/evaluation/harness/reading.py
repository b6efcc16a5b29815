"""Task files of lm-evaluation-harness: YAML that includes other YAML, as data or as code."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NoReturn

from headwise.errors import InputError
from headwise.evaluation.harness.fields import CODE, check_fields
from headwise.evaluation.harness.guard import translate_errors
from headwise.readers.content import inside, read_bytes, shown
from headwise.readers.limits import current_limits
from headwise.readers.yaml import parse_yaml
from headwise.text import visible

SUFFIXES = (".yaml", ".yml")
"""Of task files."""
_GUIDE = "Write it as docs/harness.md and the guide of the harness say."


def name_of(file: Path) -> str | None:
    """The name of the group or task that a file is about; None for one that is there to be included.

    Raises:
        InputError: it is no task file.
    """
    config, _ = _parsed(file, lambda *_: None)
    name = config.get("group", config.get("task"))
    return name if isinstance(name, str) else None


def members(config: Mapping[str, Any]) -> list[str]:
    """Names of what a group's file is made of; nothing for a task's."""
    items = config["task"] if isinstance(config.get("task"), list) else []
    return [
        str(item.get("task", item.get("group"))) if isinstance(item, dict) else str(item) for item in items
    ]


def read_config(file: Path, root: Path | None, seen: set[Path] | None = None) -> dict[str, Any]:
    """The fields of a task file and of those that it includes.

    Args:
        file: the file.
        root: a folder that it lies in and may not leave, as data; None for code, which may do anything.
        seen: files that were read before; the harness reads none twice.

    Raises:
        InputError: it is malformed, or more than data.
    """
    seen, where = set() if seen is None else seen, shown(file)
    if file.resolve() in seen:
        raise InputError(f"The task file {where} cannot be read: it is included twice.", remedy=_GUIDE)
    seen.add(file.resolve())
    config, lines = _parsed(file, partial(_refuse_code if root else _function, file))
    several = config.pop("include", [])
    found: dict[str, Any] = {}
    for name in several if isinstance(several, list) else [several]:
        line = f"{where}, line {lines.get(('include',), 1)}"
        if not isinstance(name, str):
            raise InputError("An include is no name of a file.", evidence=line, remedy=_GUIDE)
        other = file.parent / name
        if root:
            other = inside(os.path.join(os.path.relpath(file.parent.resolve(), root), name), root, where=line)
        found |= read_config(other, root, seen)
    if root:
        check_fields(config, lines, where)
    return found | config


def _parsed(file: Path, construct: Any) -> tuple[dict[str, Any], Any]:
    where = shown(file)
    content = read_bytes(file, limit=current_limits().yaml_bytes, what="the task file")
    config, lines = parse_yaml(content, where=where, construct=construct)
    if not isinstance(config, dict):
        raise InputError(f"The task file {where} cannot be read: it holds no fields.", remedy=_GUIDE)
    return config, lines


def _refuse_code(file: Path, tag: str, text: str, line: int) -> NoReturn:
    fact = f"A task file names code: {visible(f'{tag} {text}', limit=100)}."
    raise InputError(fact, evidence=f"{shown(file)}, line {line}", remedy=CODE)


def _function(task: Path, tag: str, name: str, line: int) -> Any:
    """What a `!function` names: in a Python file beside the task file, or else in an installed module."""
    if tag != "!function":
        raise InputError(
            f"The harness has no tag {tag!r}.", evidence=f"{shown(task)}, line {line}", remedy=_GUIDE
        )
    module, _, attribute = name.rpartition(".")
    file = task.parent.resolve() / f"{module.replace('.', '/')}.py"
    with translate_errors(f"The function {name!r} of {shown(task)} cannot be had.", remedy=_GUIDE):
        spec = spec_from_file_location(str(file.with_suffix("")), file) if file.exists() else None
        if spec is None or spec.loader is None:
            return getattr(import_module(module), attribute)
        if spec.name not in sys.modules:  # where the harness puts it, too
            sys.modules[spec.name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[spec.name])
        return getattr(sys.modules[spec.name], attribute)
