"""`headwise demo`: a report for every modality of the zoo, on a real input each, and a page that leads to them."""

from __future__ import annotations

from pathlib import Path

from headwise.cli.request import Request
from headwise.cli.work import write_report
from headwise.errors import InputError
from headwise.reports.index import Entry, write_index
from headwise.zoo.registry import PREFIX
from headwise.zoo.samples import sample

MODELS = ("lm", "vlm", "speech", "nmt")


def write_demo(folder: Path) -> list[Path]:
    """Write the reports and `index.html`.

    Returns:
        The pages, the index first.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder cannot be made.", evidence=f"{folder}: {error.strerror}", remedy="Choose another."
        ) from error
    entries = []
    for model in MODELS:
        name = PREFIX + model
        shown = sample(name)
        page = folder / f"{model}.html"
        answer = write_report(Request(name), page, generate=shown.generate)
        entries.append(Entry(f"{name}: {shown.title}", page.name, answer["verdict"], answer["command"]))
    index = write_index(entries, folder / "index.html", title="headwise: four models, four reports")
    return [index, *(folder / entry.page for entry in entries)]
