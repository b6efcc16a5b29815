"""Tasks of lm-evaluation-harness: by the names it knows, or from task files of your own."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.evaluation.harness.data import data_of
from headwise.evaluation.harness.fields import CODE
from headwise.evaluation.harness.guard import translate_errors
from headwise.evaluation.harness.reading import SUFFIXES, TaskFiles, members
from headwise.readers.content import inside, shown
from headwise.readers.limits import current_limits, require_within


@dataclass(frozen=True)
class Tasks:
    """Tasks that were asked for: their names, and the files of those that the harness does not know itself."""

    names: list[str]
    files: Mapping[str, tuple[Path, Mapping[str, Any]]]
    """Task or group -> its file, and the config in it, as the harness takes it."""
    allow_code: bool


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
            raise InputError(f"There is no task file {shown(task)}.", remedy="Check the path.")
    return several


def read_tasks(tasks: str | Path | Sequence[str | Path], *, allow_code: bool = False) -> Tasks:
    """The task files among the tasks, read and checked; no data are read, and without `allow_code` nothing is run.

    Args:
        tasks: names of tasks, groups and tags; task files; folders, of which every group and task below is taken.
        allow_code: run the Python that they name, and follow them wherever they lead.

    Raises:
        InputError: a task file is malformed or missing, or more than data without `allow_code`.
    """
    names: list[str] = []
    given: dict[str, tuple[Path, Path]] = {}
    files = TaskFiles()
    for task in check_tasks(tasks):
        path = Path(task)
        found = _in_files(path, files) if _is_path(task) else {}
        for name in given.keys() & found.keys():
            raise InputError(
                f"Two task files are about {name!r}.",
                evidence=f"{given[name][0]} and {found[name]}",
                remedy="Give each its own name.",
            )
        root = (path if path.is_dir() else path.parent).resolve()
        given |= {name: (file, root) for name, file in found.items()}
        names += found or [str(task)]
    configs: dict[str, dict[str, Any]] = {}
    rest = list(given)
    while rest:
        name = rest.pop()
        file, root = given[name]
        configs[name] = files.read_config(file, None if allow_code else root)
        several = members(configs[name])
        number = len({*given, *several})
        require_within(number, current_limits().tasks, "tasks and groups", where=shown(file))
        missing = [member for member in several if member not in given]
        found = files.beside(file) if missing else {}
        for member in missing:
            if member in found:
                given[member] = found[member], root
                rest.append(member)
    ready = {
        name: (file, _with_data(configs[name], file, None if allow_code else root, given))
        for name, (file, root) in given.items()
    }
    # a group brings its tasks
    names.sort(key=lambda name: name not in ready or "group" not in ready[name][1])
    return Tasks(names, ready, allow_code)


def load_tasks(tasks: Tasks, *, logged: list[str]) -> Any:
    """What `lm_eval.evaluate` takes as `task_dict`, with the data read.

    Args:
        tasks: what `read_tasks` gave.
        logged: what the harness logs, for errors.

    Raises:
        InputError: the harness has no such task, its data is missing, or it is malformed.
    """
    from lm_eval.tasks.manager import Entry, Kind, TaskManager

    wanted = set(tasks.names)
    if tasks.allow_code:  # as data, a group's tasks stand in files
        wanted |= {member for _, config in tasks.files.values() for member in members(config)}
    # reading the index of the harness's own tasks takes seconds
    manager = TaskManager(include_defaults=not wanted <= tasks.files.keys())
    for name, (_, config) in tasks.files.items():
        kind = Kind.GROUP if "group" in config else Kind.TASK
        manager.task_index[name] = Entry(name=name, kind=kind, yaml_path=None, cfg=dict(config))
    loaded: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in tasks.names:
        if name in loaded["tasks"]:
            continue  # it came with a group
        if name not in manager.task_index:
            close = get_close_matches(name, manager.task_index) or ["arc_easy", "hellaswag", "wikitext"]
            raise InputError(
                f"The harness has no task {name!r}.",
                evidence=f"there are: {', '.join(close)}",
                remedy="Use a name that exists, or give the path of a task file.",
            )
        file = f" of {shown(tasks.files[name][0])}" if name in tasks.files else ""
        fact = f"The task {name!r}{file} could not be loaded."
        with translate_errors(fact, remedy="Check the task and its data.", logged=logged):
            one = manager.load([name])
        for part in loaded:
            loaded[part] |= one.get(part, {})
    logged[:] = [line for line in logged if "--metadata" not in line]  # it says so of every `custom_dataset`
    for name, task in loaded["tasks"].items():
        _require_metrics(name, task.config)
    return loaded


def asked_metrics(loaded: Any) -> dict[str, list[str]]:
    """Task or group of what `load_tasks` gave -> the metrics that it asks for by name.

    Every metric of a text that is written is computed, but may be given under other names.
    """
    asked = {}
    for name, task in loaded["tasks"].items():
        if task.config.output_type != "generate_until" or task.config.process_results is not None:
            several = [item["metric"] for item in task.config.metric_list or []]
            asked[name] = [getattr(metric, "__name__", metric) for metric in several]
    for name, group in loaded["groups"].items():
        asked[name] = [item.metric for item in group.aggregate_metric_list or []]
    return asked


def _require_metrics(task: str, config: Any) -> None:
    """Refuse a task with a metric that the harness could not get; it goes on without.

    Raises:
        InputError: it is neither the harness's own nor one of the package `evaluate` that is at hand.
    """
    from lm_eval.api.registry import get_metric

    for item in (config.metric_list or []) if config.process_results is None else []:
        name = item["metric"]
        if isinstance(name, str) and get_metric(name, item.get("hf_evaluate") is True) is None:
            raise InputError(
                f"The metric {name!r} of the task {task!r} cannot be had.",
                evidence="the harness does not have it, and the package `evaluate` could not load it",
                remedy="Use one of the harness's own, such as acc or exact_match.",
            )


def _is_path(task: str | Path) -> bool:
    return isinstance(task, Path) or Path(task).suffix in SUFFIXES or len(Path(task).parts) > 1


def _in_files(path: Path, known: TaskFiles) -> dict[str, Path]:
    """Name -> file of every task and group in a file or folder."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES)
    found: dict[str, Path] = {}
    for file in files:
        if file != path:
            inside(str(file.relative_to(path)), path, where="a task file in the folder")
        name = known.name_of(file)
        if name in found:
            raise InputError(
                f"Two task files are about {name!r}.",
                evidence=f"{found[name]} and {file}",
                remedy="Give each its own name.",
            )
        if name:
            found[name] = file
        elif path.is_file():
            raise InputError(
                "The file names no task.", evidence=shown(file), remedy="Add a line `task: NAME`."
            )
    if not found:
        raise InputError(
            "There is no task file in the folder.", evidence=shown(path), remedy="Check the path."
        )
    return found


def _with_data(
    config: Mapping[str, Any], file: Path, root: Path | None, known: Mapping[str, Any]
) -> dict[str, Any]:
    """The config of a task, or of a group's tasks that stand in its own file, with its data found.

    Args:
        config: the config.
        file: where it stands.
        root: what data lie in, which headwise reads; None leaves all of it to the harness.
        known: names of tasks in files.

    Raises:
        InputError: a file is missing or elsewhere, or a group gives other data to a task of another file.
    """
    if not isinstance(config.get("task"), list):
        if root is not None:
            return {**config, "custom_dataset": data_of(config, file, root)}
        options = config.get("dataset_kwargs")
        if isinstance(options, dict) and "data_files" in options:
            placed = {**options, "data_files": _placed(options["data_files"], file)}
            return {**config, "dataset_kwargs": placed}
        return dict(config)
    inner = []
    for item, name in zip(config["task"], members(config), strict=True):
        if name not in known and isinstance(item, dict):
            item = _with_data(item, file, root, known)
        elif root is not None and name not in known:
            raise InputError(f"There is no file about the task {name!r}.", evidence=shown(file), remedy=CODE)
        elif root is not None and isinstance(item, dict):
            _refuse_data(item, file)
        inner.append(item)
    if root is not None:
        _refuse_data(config, file)
    return {**config, "task": inner}


def _refuse_data(config: Mapping[str, Any], file: Path) -> None:
    if any(name.startswith("dataset_") for name in config):
        raise InputError(
            "A group gives other data to a task.", evidence=shown(file), remedy="Write a task file for them."
        )


def _placed(named: Any, file: Path) -> Any:
    """Names of data files, with the folder of the task file before those that lie there."""
    if isinstance(named, dict):
        return {split: _placed(names, file) for split, names in named.items()}
    if isinstance(named, list):
        return [_placed(name, file) for name in named]
    here = str(file.parent.resolve() / str(named))
    return here if glob.glob(here, recursive=True) else named
