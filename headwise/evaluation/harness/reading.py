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
from headwise.readers.limits import current_limits, require_within
from headwise.readers.yaml import parse_yaml
from headwise.text import visible

SUFFIXES = (".yaml", ".yml")
"""Of task files."""
INCLUDED = 200
"""Files that include one another; for a row of many more Python has no room."""
_GUIDE = "Write it as docs/harness.md and the guide of the harness say."


def members(config: Mapping[str, Any]) -> list[str]:
    """Names of what a group's file is made of; nothing for a task's."""
    items = config["task"] if isinstance(config.get("task"), list) else []
    return [
        str(item.get("task", item.get("group"))) if isinstance(item, dict) else str(item) for item in items
    ]


class TaskFiles:
    """The task files that one call reads: each is asked for its name once, and all are no larger than one may be."""

    def __init__(self) -> None:
        self._names: dict[Path, str | None] = {}
        self._beside: dict[Path, Mapping[str, Path]] = {}
        self._sizes: dict[Path, int] = {}

    def name_of(self, file: Path) -> str | None:
        """The name of the group or task that a file is about; None for one that is there to be included.

        Raises:
            InputError: it is no task file, or the files are too large.
        """
        if file not in self._names:
            config, _ = self._parsed(file, lambda *_: None)
            name = config.get("group", config.get("task"))
            self._names[file] = name if isinstance(name, str) else None
        return self._names[file]

    def beside(self, group: Path) -> Mapping[str, Path]:
        """Name -> file of what stands in the folder of a group's file; files that cannot be read are passed over.

        Raises:
            InputError: the files are too large.
        """
        folder = group.parent
        if folder not in self._beside:
            found: dict[str, Path] = {}
            for file in sorted(folder.rglob("*.y*ml")):
                try:
                    inside(str(file.relative_to(folder)), folder, where="")
                    found.setdefault(self.name_of(file) or "", file)
                except InputError as error:
                    if "larger" in error.fact:
                        raise
            self._beside[folder] = found
        return self._beside[folder]

    def read_config(self, file: Path, root: Path | None, seen: set[Path] | None = None) -> dict[str, Any]:
        """The fields of a task file and of those that it includes.

        Args:
            file: the file.
            root: a folder that it lies in and may not leave, as data; None for code, which may do anything.
            seen: files that were read before; the harness reads none twice.

        Raises:
            InputError: it is malformed, or more than data, or the files are too large.
        """
        seen, where = set() if seen is None else seen, shown(file)
        if file.resolve() in seen:
            raise InputError(f"The task file {where} cannot be read: it is included twice.", remedy=_GUIDE)
        seen.add(file.resolve())
        require_within(len(seen), INCLUDED, "files that include one another", where=where)
        config, lines = self._parsed(file, partial(_refuse_code if root else _function, file))
        several = config.pop("include", [])
        found: dict[str, Any] = {}
        for name in several if isinstance(several, list) else [several]:
            line = f"{where}, line {lines.get(('include',), 1)}"
            if not isinstance(name, str):
                raise InputError("An include is no name of a file.", evidence=line, remedy=_GUIDE)
            other = file.parent / name
            if root:
                path = os.path.join(os.path.relpath(file.parent.resolve(), root), name)
                other = inside(path, root, where=line)
            found |= self.read_config(other, root, seen)
        if root:
            check_fields(config, lines, where)
        return found | config

    def _parsed(self, file: Path, construct: Any) -> tuple[dict[str, Any], Any]:
        where, limit = shown(file), current_limits().yaml_bytes
        content = read_bytes(file, limit=limit, what="the task file")
        self._sizes[file] = len(content)
        require_within(sum(self._sizes.values()), limit, "bytes of task files", where=where)
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
