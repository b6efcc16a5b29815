"""Tasks of lm-evaluation-harness: by the names it knows, or from task files of your own."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.harness.guard import told

SUFFIXES = (".yaml", ".yml")
"""Of task files."""
_GUIDE = "Write it as docs/harness.md and the guide of the harness say."
_READERS = ("arrow", "csv", "json", "parquet", "text")
"""Values of `dataset_path` that stand for a kind of file on disk."""


def check_tasks(tasks: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The tasks as a list.

    What is a `Path`, ends in `.yaml` or `.yml`, or has a separator in it is a file or a folder, all else a name.

    Raises:
        InputError: there is no task, or no such file or folder.

    Example:
        >>> check_tasks("hellaswag")
        ['hellaswag']
    """
    several = [tasks] if isinstance(tasks, str | Path) else list(tasks)
    if not several:
        raise InputError("There is no task to run.", remedy="Name one, or give a task file.")
    for task in several:
        if _is_path(task) and not Path(task).exists():
            raise InputError(f"There is no task file {task}.", remedy="Check the path.")
    return several


def load_tasks(tasks: Sequence[str | Path], *, logged: Sequence[str] = ()) -> Any:
    """What `lm_eval.evaluate` takes as `task_dict`, with the data read.

    Data files that a task file names (`dataset_path: json` with `data_files`) are looked for beside it, then in the
    current folder. A group's file names tasks that stand in files beside it, or that the harness knows.

    Args:
        tasks: names of tasks, groups and tags; task files; folders, of which every group and task below is taken.
        logged: what the harness logs meanwhile, for errors.

    Raises:
        InputError: a name is unknown, a task file is malformed, its data is missing or malformed, or two tasks have
            one name.
    """
    from lm_eval.tasks import TaskManager

    wanted: list[str] = []
    own: dict[str, tuple[Path, dict[str, Any]]] = {}
    for task in tasks:
        found = _in_files(Path(task)) if _is_path(task) else {}
        for name in own.keys() & found.keys():
            _refuse_twice(name, own[name][0], found[name][0])
        own |= found
        wanted += sorted(found, key=lambda name: "group" not in found[name][1]) if found else [str(task)]
    groups = [path for path, config in own.values() if "group" in config]
    own = {name: item for path in groups for name, item in _beside(path).items()} | own
    known = own.keys() | {tag for _, config in own.values() for tag in _listed(config.get("tag"))}
    named = {*wanted, *(name for _, config in own.values() for name in _members(config))}
    manager = TaskManager(
        include_defaults=not named <= known
    )  # reading all of the harness's own takes seconds
    _register(own, manager.task_index)
    loaded: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in wanted:
        if name in loaded["tasks"]:
            continue  # it came with a group
        if name not in manager.task_index:
            close = get_close_matches(name, manager.task_index) or ["arc_easy", "hellaswag", "wikitext"]
            raise InputError(
                f"The harness has no task {name!r}.",
                evidence=f"there are: {', '.join(close)}",
                remedy="Use a name that exists, or give the path of a task file.",
            )
        source = f" of {own[name][0]}" if name in own else ""
        fact = f"The task {name!r}{source} could not be loaded."
        with told(fact, remedy="Check the task and its data.", logged=logged):
            one = manager.load([name])
        for part in loaded:
            loaded[part] |= one.get(part, {})
    return loaded


def _is_path(task: str | Path) -> bool:
    return isinstance(task, Path) or Path(task).suffix in SUFFIXES or len(Path(task).parts) > 1


def _in_files(path: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Name -> file and config of every task and group in a file or folder."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES)
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for file in files:
        config = _read(file)
        name = config.get("group", config.get("task"))
        if isinstance(name, str):
            if name in found:
                _refuse_twice(name, found[name][0], file)
            found[name] = (file, _with_data(config, file))
        elif path.is_file():
            raise InputError("The file names no task.", evidence=str(file), remedy="Add a line `task: NAME`.")
    if not found:
        raise InputError("There is no task file in the folder.", evidence=str(path), remedy="Check the path.")
    return found


def _beside(group: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The tasks in files beside a group's file, those that can be read."""
    found = {}
    for file in sorted(item for item in group.parent.iterdir() if item.suffix in SUFFIXES):
        try:
            found |= _in_files(file)
        except InputError:
            continue  # not one of the group, or the harness says that it is missing
    return found


def _members(config: Mapping[str, Any]) -> list[str]:
    """What a group's file is made of; nothing for a task's."""
    items = config.get("task")
    return [
        str(item.get("task", item.get("group")) if isinstance(item, dict) else item)
        for item in (items if isinstance(items, list) else [])
    ]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _register(own: Mapping[str, tuple[Path, dict[str, Any]]], index: dict[str, Any]) -> None:
    """Put tasks of files into the harness's index, in front of its own of the same name."""
    from lm_eval.tasks._index import TaskIndex

    entries: dict[str, Any] = {}
    for path, config in own.values():
        with told(f"The task file {path} cannot be read.", remedy=_GUIDE):
            TaskIndex.process_cfg(config, path, entries)
    for entry in entries.values():
        entry.yaml_path = None  # the harness would read the file again, without the places of the data
    index.update(entries)


def _read(path: Path) -> dict[str, Any]:
    from lm_eval.tasks._yaml_loader import load_yaml
    from yaml import MarkedYAMLError

    with told(f"The task file {path} cannot be read.", remedy=_GUIDE):
        try:
            return load_yaml(path)
        except MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise InputError(
                f"{path} is not YAML.", evidence=f"{error.problem}{line}", remedy=_GUIDE
            ) from error


def _with_data(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The config with the whole paths of its data files."""
    changed = dict(config)
    if isinstance(config.get("task"), list):  # of a group
        changed["task"] = [
            _with_data(item, path) if isinstance(item, dict) else item for item in config["task"]
        ]
    given = config.get("dataset_kwargs")
    if config.get("dataset_path") in _READERS and isinstance(given, dict):
        places = {key: _found(given[key], path) for key in ("data_files", "data_dir") if key in given}
        changed["dataset_kwargs"] = given | places
    return changed


def _found(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {split: _found(item, path) for split, item in value.items()}
    if isinstance(value, list):
        return [_found(item, path) for item in value]
    if not isinstance(value, str) or "://" in value:
        return value
    for folder in (path.parent, Path()):
        whole = folder.absolute() / value
        if whole.exists() or glob.glob(str(whole), recursive=True):
            return str(whole)
    raise InputError(
        f"There is no data file {value}.", evidence=f"named in {path}", remedy="Put it beside the task file."
    )


def _refuse_twice(name: str, one: Path, other: Path) -> None:
    raise InputError(
        f"Two task files are about {name!r}.", evidence=f"{one} and {other}", remedy="Give each its own name."
    )
