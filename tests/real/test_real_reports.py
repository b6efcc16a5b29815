"""Reports on real models, written by the command and opened in a browser."""

from __future__ import annotations

import pytest

from tests.kit.browser import MARKS
from tests.kit.cli import run
from tests.real.facts_encoders import REACTIONS, tokens_and_atoms
from tests.real.facts_smollm2 import PROSE
from tests.real.test_real_models import picture

pytestmark = MARKS
REACTION = "".join(tokens_and_atoms(REACTIONS[0])[0])


def page(seen, subject, tmp_path, *arguments) -> str:
    """The text of the page that `headwise report` writes."""
    out = tmp_path / "report.html"
    result = run("report", subject.name, *arguments, "--out", out)
    assert result.exit_code == 0, result.output
    return seen(out).locator("body").inner_text()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("smollm2", "The capital of France is", "of 270 heads have a sink"),
        ("rxnmapper", REACTION, "of 96 heads have a sink"),
        ("minilm", PROSE.split(". ")[0], "[CLS] (position 0) takes"),
    ],
)
def test_report_on_text(name: str, text: str, expected: str, real, seen, tmp_path) -> None:
    generate = ["--generate", "12"] if name == "smollm2" else []
    shown = page(seen, real(name), tmp_path, "--text", text, *generate)
    assert expected in shown
    if generate:
        assert "Paris." in shown


def test_report_on_a_picture(real, seen, tmp_path) -> None:
    from PIL import Image

    file = tmp_path / "flower.png"
    Image.fromarray(picture()).save(file)
    shown = page(seen, real("dinov2"), tmp_path, "--image", file)
    assert "of 72 heads have a sink" in shown
    assert "the picture as the model saw it" in shown


def test_report_on_a_recording_shows_its_words_and_times(real, recordings, seen, tmp_path) -> None:
    shown = page(seen, real("whisper"), tmp_path, "--audio", next(iter(recordings)), "--generate", "60")
    assert "Dashwood" in shown
    assert "7.1 seconds" in shown
    assert "Example 1" not in shown
