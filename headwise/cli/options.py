"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A folder with a saved model, or the name of a model on the hub."),
]
Text = Annotated[
    list[str] | None, typer.Option("--text", metavar="TEXT", help="Text to read; repeat it for a batch.")
]
TextFile = Annotated[
    list[Path] | None, typer.Option(metavar="FILE", help="File with text to read; repeat it for a batch.")
]
Image = Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Image to look at.")]
Audio = Annotated[list[Path] | None, typer.Option(metavar="FILE", help="Sound to listen to.")]
Target = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="Text for the decoder of an encoder-decoder model.")
]
Language = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Language that a multilingual speech model hears (detected and said without it), or that a translation "
        "model writes; by name or code.",
    ),
]
SpeechTask = Annotated[
    str | None,
    typer.Option(
        metavar="TASK", help="What a multilingual speech model does: transcribe, or translate into English."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
