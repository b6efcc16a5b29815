"""Request of a command: what the model is to read, from options and back to a shell line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwise.errors import InputError
from headwise.files import file_name
from headwise.text import command_line
from headwise.zoo.own_inputs import sample, samples
from headwise.zoo.registry import PREFIX


@dataclass(frozen=True)
class Request:
    """A model and its inputs, as given on the command line; several texts make a batch."""

    model: str
    texts: tuple[str, ...] = ()
    text_files: tuple[Path, ...] = ()
    images: tuple[Path, ...] = ()
    audio: tuple[Path, ...] = ()
    targets: tuple[str, ...] = ()
    samples: int | None = None
    """How many of the task's or the zoo's own inputs, where no other input is given; None for the usual number."""
    language: str | None = None
    task: str | None = None
    """Language that a speech model hears or a translation model writes, and task of a multilingual speech model."""

    @property
    def empty(self) -> bool:
        """True when no input of any kind was given."""
        return not (self.texts or self.text_files or self.images or self.audio or self.targets)

    @property
    def in_zoo(self) -> bool:
        """True for a model of the zoo, which has an input of its own to show."""
        return self.model.startswith(PREFIX)

    def check(self, out: Path | None = None, *, task: bool = False) -> None:
        """Refuse what can be refused before the model is loaded.

        Args:
            out: the file to write; None for a command that writes none and chooses its own input if need be.
            task: there is a task whose examples can be shown.

        Raises:
            InputError: when an input file is missing, `out` cannot be written, or there is nothing to read.
            LoadError: when there can be no model of that name.
        """
        if out is not None:
            check_output(out)
        if not self.in_zoo:
            from headwise.model.location import check_place

            check_place(self.model)
        if self.samples is not None and not (self.empty and (self.in_zoo or task)):
            raise InputError(
                "Only tasks and models of the zoo have inputs of their own.",
                evidence=self.model if self.empty else "other inputs are given, too",
                remedy="Leave --samples out.",
            )
        if out is not None and self.empty and not (self.in_zoo or task):
            raise InputError(
                "There is nothing to read.", remedy="Give --text, --text-file, --image or --audio."
            )
        if self.task and not (self.audio or self.in_zoo):
            raise InputError("A task belongs to sound.", remedy="Give --audio, or leave --speech-task out.")
        if self.language and not (self.audio or self.texts or self.text_files or self.in_zoo):
            raise InputError(
                "A language belongs to sound, or to text that is translated.",
                remedy="Give --audio or --text, or leave --language out.",
            )
        if self.task is not None:
            from headwise.subject.speech_prompt import check_task

            check_task(self.task)
        for path in (*self.text_files, *self.images, *self.audio):
            if not os.path.isfile(path):
                from headwise.readers.content import shown

                raise InputError(
                    "The input file does not exist.", evidence=shown(path), remedy="Check the path."
                )

    def arguments(self) -> dict[str, Any]:
        """Keywords for `Subject.prepare`: one input stands alone, several are a list; the zoo's own if there is
        none.
        """
        if self.empty and self.in_zoo:
            own = sample(self.model)
            written = {"language": own.languages[1]} if own.languages else {}
            return {**own.inputs, **written, **self._speech()}
        return self._keywords()

    def examples(self, generate: int = 0) -> list[dict[str, Any]]:
        """The same, one by one: keywords for `Subject.prepare` per example.

        Args:
            generate: tokens that will be generated after each, in place of the zoo's own target.

        Raises:
            InputError: the kinds of input differ in number.
        """
        if self.empty and self.in_zoo:
            own = samples(self.model, self.samples or 1)
            return [{**one.example(generate), **self._speech()} for one in own]
        return [{**given, **self._speech()} for given in self._split(self._lists())]

    def shell(self, command: str, *options: str) -> str:
        """The command line that makes this request; files by their names, not by where they lie."""
        given: Mapping[str, Sequence[Any]] = {
            "--text": self.texts,
            "--text-file": [file_name(path) for path in self.text_files],
            "--image": [file_name(path) for path in self.images],
            "--audio": [file_name(path) for path in self.audio],
            "--target": self.targets,
        }
        inputs = [part for flag, values in given.items() for value in values for part in (flag, str(value))]
        inputs += ["--samples", str(self.samples)] if self.samples is not None else []
        inputs += ["--language", self.language] if self.language else []
        inputs += ["--speech-task", self.task] if self.task else []
        return command_line("headwise", command, file_name(self.model), *inputs, *options)

    def _keywords(self) -> dict[str, Any]:
        given = self._lists()
        single = {name: values[0] if len(values) == 1 else values for name, values in given.items()}
        return {**single, **self._speech()}

    def _speech(self) -> dict[str, str]:
        """Language and task, where they are given."""
        named = {"language": self.language, "task": self.task}
        return {name: value for name, value in named.items() if value is not None}

    def _lists(self) -> dict[str, list[Any]]:
        from headwise.readers.text import read_text

        given = {
            "text": [*self.texts, *(read_text(path).strip() for path in self.text_files)],
            "image": list(map(str, self.images)),
            "audio": list(map(str, self.audio)),
            "target": list(self.targets),
        }
        return {name: values for name, values in given.items() if values}

    def _split(self, given: dict[str, list[Any]]) -> list[dict[str, Any]]:
        """One mapping per example; several images beside a single text belong to that text."""
        if len(given.get("text", [])) == 1 and len(given.get("image", [])) > 1:
            given = {**given, "image": [given["image"]]}
        sizes = {name: len(values) for name, values in given.items()}
        if len(set(sizes.values())) > 1:
            raise InputError(
                "The kinds of input differ in number.",
                evidence=", ".join(f"{size} {name}" for name, size in sizes.items()),
                remedy="Give one of each kind per example.",
            )
        return [dict(zip(given, values, strict=True)) for values in zip(*given.values(), strict=True)]


def check_output(out: Path) -> None:
    """Refuse a file that could not be written, before any work is done for it."""
    folder = out.parent
    if not folder.is_dir():
        raise InputError(
            "The folder to write into does not exist.", evidence=str(folder), remedy="Create it first."
        )
    if out.is_dir():
        raise InputError("The path to write to is a folder.", evidence=str(out), remedy="Add a file name.")
    if not os.access(folder, os.W_OK):
        raise InputError("The folder cannot be written to.", evidence=str(folder), remedy="Choose another.")
