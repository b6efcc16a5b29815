"""Arguments and options that several commands have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from headwise.cli.request import Request

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A folder with a saved model, or the name of a model on the hub."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Command = Callable[..., None]
_INPUTS: dict[str, Any] = {
    "text": Annotated[
        list[str] | None, typer.Option("--text", metavar="TEXT", help="Text to read; repeat it for a batch.")
    ],
    "text_file": Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="File with text to read; repeat it for a batch.")
    ],
    "image": Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Image to look at.")],
    "audio": Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Sound to listen to.")],
    "target": Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Text for the decoder of an encoder-decoder model."),
    ],
    "language": Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Language that a multilingual speech model hears (detected and said without it), or that a "
            "translation model writes; by name or code.",
        ),
    ],
    "speech_task": Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="What a multilingual speech model does: transcribe, or translate into English.",
        ),
    ],
}
"""Option of a command that reads inputs -> what it is."""


def reads_inputs(model: Any = Model, default: Any = inspect.Parameter.empty) -> Callable[[Command], Command]:
    """A command whose parameter `request` stands for the argument MODEL and the options about inputs.

    Args:
        model: annotation of the argument MODEL.
        default: its default; where that is None and no model is named, `request` is None.
    """

    def decorate(command: Command) -> Command:
        rest = [
            p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "request"
        ]
        shared = {name: (kind, None) for name, kind in _INPUTS.items()}
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)
            for name, (kind, value) in (
                {"model": (model, default)} | shared | {p.name: (p.annotation, p.default) for p in rest}
            ).items()
        ]

        @wraps(command)
        def with_request(
            *, model: str | None, language: str | None, speech_task: str | None, **values: Any
        ) -> None:
            inputs: list[Any] = [tuple(values.pop(name) or ()) for name in list(_INPUTS)[:5]]
            request = None if model is None else Request(model, *inputs, language=language, task=speech_task)
            command(request=request, **values)

        with_request.__dict__["__signature__"] = inspect.Signature(parameters)
        with_request.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_request

    return decorate
