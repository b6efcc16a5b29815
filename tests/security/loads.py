"""A process that loads one file of each kind and writes down what the interpreter opened, started and asked meanwhile.

`python -m tests.security.loads FOLDER` reads `FOLDER/KIND/...`, and writes `FOLDER/events.json`: kind -> events.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

WATCHED = (
    *("open", "import", "ctypes.dlopen", "subprocess.Popen", "pty.spawn"),
    *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "os.startfile"),
)
MARK = "/headwise-begins-and-ends/"
"""A file that is not there; looking for it marks the beginning and the end of a kind for `strace`."""


def _draw(name: str, **options: Any) -> None:
    from headwise.evaluation import find_task

    find_task(name, **options).draw(2, 0)


def _hw() -> Any:
    import headwise

    return headwise


def _prepared(**given: str) -> None:
    from headwise.subject.media import read_audio, read_image

    for path in given.values():
        read_image(path) if "image" in given else read_audio(path, 16000)


KINDS: dict[str, Callable[[Path], object]] = {
    "model folder": lambda at: _hw().load(at / "m"),
    "spec": lambda at: _hw().load_spec(at / "spec.json"),
    "trace": lambda at: _hw().load_trace(at / "run.safetensors").to_frame("head"),
    "evaluation": lambda at: _hw().load_evaluation(at / "e.json").summary,
    "evaluation in Parquet": lambda at: _hw().load_evaluation(at / "e.parquet").summary,
    "comparison": lambda at: _hw().load_comparison(at / "c.json").summary,
    "comparison in Parquet": lambda at: _hw().load_comparison(at / "c.parquet").summary,
    "search": lambda at: _hw().load_search(at / "s.json").summary,
    "search in Parquet": lambda at: _hw().load_search(at / "s.parquet").summary,
    "harness result": lambda at: _hw().load_harness(at / "h.json").summary,
    "harness result in Parquet": lambda at: _hw().load_harness(at / "h.parquet").summary,
    "task file": lambda at: _draw("multiple-choice", data=at / "q.jsonl"),
    "task file with pictures": lambda at: _draw("pope", data=at / "q.jsonl", images=at),
    "text": lambda at: _draw("perplexity", data=at / "notes.txt"),
    "picture": lambda at: _prepared(image=str(at / "a.png")),
    "sound": lambda at: _prepared(audio=str(at / "a.wav")),
}
HOSTILE: dict[str, Callable[[Path], object]] = {
    "folder that names a backbone": lambda at: _hw().load(at / "m"),
    "folder that names a kernel": lambda at: _hw().load(at / "m"),
    "folder with a link": lambda at: _hw().load(at / "m"),
    "folder with a tokenizer of the hub": lambda at: _hw().load(at / "m"),
    "task file with pictures elsewhere": lambda at: _draw("pope", data=at / "q.jsonl", images=at),
    "PostScript for a picture": lambda at: _prepared(image=str(at / "a.png")),
    "text for a sound": lambda at: _prepared(audio=str(at / "a.wav")),
}
"""What must be refused."""


def main(folder: Path) -> None:
    """Load all, and write what happened."""
    now: list[list[str]] = []

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket.") or event in WATCHED:
            shown = arguments[1] if event == "import" else arguments[0] if arguments else None
            if event == "open" and isinstance(shown, int):
                return
            now.append([event, os.fsdecode(shown) if isinstance(shown, bytes | os.PathLike) else str(shown)])

    sys.addaudithook(note)
    events = {}
    for kind, load in {**KINDS, **HOSTILE}.items():
        from headwise.errors import HeadwiseError

        now.clear()
        _mark(kind)
        try:
            load(folder / kind)
            refused = ""
        except HeadwiseError as error:
            refused = str(error)
        _mark(kind)
        events[kind] = {"refused": refused, "events": list(now)}
    (folder / "events.json").write_text(json.dumps(events), encoding="utf-8")


def _mark(kind: str) -> None:
    try:
        os.close(os.open(MARK + kind.replace(" ", "-"), os.O_RDONLY))
    except FileNotFoundError:
        return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
