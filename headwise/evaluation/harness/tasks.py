"""Tasks of lm-evaluation-harness: by the names it knows, or from task files of your own."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.harness.guard import translate_errors

SUFFIXES = (".yaml", ".yml")
"""Of task files."""
_GUIDE = "Write it as docs/harness.md and the guide of the harness say."
Files = dict[str, tuple[Path, dict[str, Any]]]
"""Task or group -> its file, and the config in it."""
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
    wanted: list[str] = []
    own: Files = {}
    for task in tasks:
        found = _in_files(Path(task)) if _is_path(task) else {}
        _add(own, found)
        wanted += sorted(found, key=lambda name: "group" not in found[name][1]) if found else [str(task)]
    manager = _manager(wanted, own)
    loaded: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in wanted:
        if name in loaded["tasks"]:
            continue  # it came with a group
        if name not in own and name not in manager.task_index:
            close = get_close_matches(name, manager.task_index) or ["arc_easy", "hellaswag", "wikitext"]
            raise InputError(
                f"The harness has no task {name!r}.",
                evidence=f"there are: {', '.join(close)}",
                remedy="Use a name that exists, or give the path of a task file.",
            )
        path, config = own.get(name, (None, {}))
        # the harness takes names of data files from the current folder
        folder = Path() if path is None else _data_folder(path, config, manager.task_index)
        fact = f"The task {name!r}{f' of {path}' if path else ''} could not be loaded."
        with translate_errors(fact, remedy="Check the task and its data.", logged=logged), chdir(folder):
            one = manager.load(
                [name if path is None or "group" in config else str(path)]
            )  # groups by name alone
        for part in loaded:
            loaded[part] |= one.get(part, {})
    return loaded


def _manager(wanted: Sequence[str], own: Mapping[str, tuple[Path, Mapping[str, Any]]]) -> Any:
    """The harness's index: of its own tasks, whose reading takes seconds, only where the files do not name all."""
    from lm_eval.tasks import TaskManager

    folders = sorted({str(path.parent) for path, config in own.values() if "group" in config})
    manager = TaskManager(include_path=folders, include_defaults=False)
    named = {*wanted, *(str(name) for _, config in own.values() for name in _members(config))}
    if named <= own.keys() | manager.task_index.keys():
        return manager
    return TaskManager(include_path=folders)


def _is_path(task: str | Path) -> bool:
    return isinstance(task, Path) or Path(task).suffix in SUFFIXES or len(Path(task).parts) > 1


def _in_files(path: Path) -> Files:
    """Name -> file and config of every task and group in a file or folder."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES)
    found: Files = {}
    for file in files:
        config = _read(file)
        name = config.get("group", config.get("task"))
        if isinstance(name, str):
            _add(found, {name: (file.resolve(), config)})
        elif path.is_file():
            raise InputError("The file names no task.", evidence=str(file), remedy="Add a line `task: NAME`.")
    if not found:
        raise InputError("There is no task file in the folder.", evidence=str(path), remedy="Check the path.")
    return found


def _members(config: Mapping[str, Any]) -> list[Any]:
    """Names of what a group's file is made of; nothing for a task's."""
    items = config.get("task")
    return [
        item.get("task", item.get("group")) if isinstance(item, dict) else item
        for item in (items if isinstance(items, list) else [])
    ]


def _read(path: Path) -> dict[str, Any]:
    """The config of a task file and of those that it includes, with nothing in the place of functions."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads the harness's own tags."""

    Loader.add_multi_constructor("!", lambda *_: None)

    def merged(file: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
        if file in above:
            raise ValueError(f"{file} includes itself")
        config = yaml.load(file.read_bytes(), Loader)
        if not isinstance(config, dict):
            raise ValueError("it holds no fields")
        several = config.pop("include", [])
        found: dict[str, Any] = {}
        for name in several if isinstance(several, list) else [several]:
            found |= merged((file.parent / name).resolve(), (*above, file))
        return found | config

    with translate_errors(f"The task file {path} cannot be read.", remedy=_GUIDE):
        try:
            return merged(path.resolve())
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            raise InputError(
                f"{path} is not YAML.", evidence=f"{error.problem}{line}", remedy=_GUIDE
            ) from error


def _data_folder(path: Path, config: Mapping[str, Any], index: Mapping[str, Any]) -> Path:
    """Where the data files of a task, or of a group's tasks, lie: beside the file, or in the current folder.

    Raises:
        InputError: one of them is in neither.
    """
    items = config["task"] if isinstance(config.get("task"), list) else []
    inline = [item for item in items if isinstance(item, dict)]
    named = [index[name].cfg or {} for name in _members(config) if isinstance(name, str) and name in index]
    files = [name for one in (config, *inline, *named) for name in _data_files(one)]
    lost = [[name for name in files if not _is_there(folder / name)] for folder in (path.parent, Path())]
    if all(lost):
        raise InputError(
            f"There is no data file {lost[0][0]}.",
            evidence=f"named in {path}",
            remedy="Put it beside the task file.",
        )
    return Path() if lost[0] else path.parent


def _data_files(config: Mapping[str, Any]) -> Iterator[str]:
    given = config.get("dataset_kwargs")
    if config.get("dataset_path") not in _READERS or not isinstance(given, dict):
        return
    rest = [given.get("data_files"), given.get("data_dir")]
    while rest:
        item = rest.pop()
        if isinstance(item, dict | list):
            rest += item.values() if isinstance(item, dict) else item
        elif isinstance(item, str) and "://" not in item:
            yield item


def _is_there(path: Path) -> bool:
    return path.exists() or bool(glob.glob(str(path), recursive=True))


def _add(known: Files, more: Files) -> None:
    """Put more task files to those that are known.

    Raises:
        InputError: two are about the same task.
    """
    for name in known.keys() & more.keys():
        raise InputError(
            f"Two task files are about {name!r}.",
            evidence=f"{known[name][0]} and {more[name][0]}",
            remedy="Give each its own name.",
        )
    known |= more
