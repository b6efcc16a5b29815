"""`headwise demo`: a report for every modality of the zoo, with a fix compared, and a page that leads to them."""

from __future__ import annotations

from pathlib import Path

from headwise.cli._run_report import FixComparison, write_report
from headwise.cli.request import Request
from headwise.errors import InputError
from headwise.optional import extra
from headwise.reports.page.index import Entry, write_index

MODELS = {
    "lm": ("zoo:lm+text-sink", FixComparison(("ACT",), "multiple-choice", number=200), 1),
    "vlm": ("zoo:vlm", FixComparison(("VHR",), "pope-adversarial", number=200), 4),
    "speech": ("zoo:speech", FixComparison(("MaskKeys:keys=[0]",), "transcription", number=40), 12),
    "nmt": ("zoo:nmt", FixComparison(("MaskKeys:keys=[0]",), "translation", number=40), 24),
}
"""What each report compares: ACT on a language model with a planted sink, VHR as its paper has it, and for the two
others what hiding the first key of the decoder does. Last, how many tokens are generated after the examples."""


def write_demo(folder: Path) -> list[Path]:
    """Write the reports and `index.html`.

    Returns:
        The pages, the index first.

    Raises:
        InputError: the folder cannot be made, or what scores translation and speech is not installed.
    """
    for package in ("jiwer", "sacrebleu"):
        extra(package, "The demo scores translation and speech")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder cannot be made.", evidence=f"{folder}: {error.strerror}", remedy="Choose another."
        ) from error
    entries = []
    for model, (name, fix_comparison, generate) in MODELS.items():
        page = folder / f"{model}.html"
        request = Request(name)
        answer = write_report(request, page, generate=generate, fix_comparison=fix_comparison)
        title = f"{name}: {fix_comparison.fixes[0]} on {fix_comparison.task}"
        entries.append(Entry(title, page.name, answer["verdict"], answer["command"]))
    index = write_index(entries, folder / "index.html", title="headwise: four models, four reports")
    return [index, *(folder / entry.page for entry in entries)]
