"""What builds the site: formulas, hidden code, and notebooks as pages."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.kit.pages import DOCS

pytest.importorskip("mkdocs", reason="pip install 'headwise[docs]'")


def hook(name: str) -> ModuleType:
    spec = spec_from_file_location(f"docs_hook_{name}", DOCS / "hooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(uri: str) -> SimpleNamespace:
    return SimpleNamespace(file=SimpleNamespace(src_uri=uri))


def cell(kind: str, source: str, *outputs: dict) -> SimpleNamespace:
    return SimpleNamespace(cell_type=kind, source=source, outputs=[Output(output) for output in outputs])


def shown(data: dict) -> dict:
    return {"output_type": "display_data", "data": data}


class Output(dict):
    """As nbformat gives them: keys are attributes, too."""

    __getattr__ = dict.__getitem__


def test_a_formula_becomes_mathml_and_its_signs_are_not_markup() -> None:
    pytest.importorskip("latex2mathml", reason="formulas are made by latex2mathml")
    html = hook("formulas").on_page_content(
        '<p><span class="arithmatex">\\(a &lt; b\\)</span> and a &lt; b</p>'
    )
    assert html.startswith("<p><math")
    assert "<mi>a</mi><mo>&lt;</mo><mi>b</mi>" in html.replace("&#x0003C;", "&lt;")
    assert html.endswith(" and a &lt; b</p>")


def test_hidden_code_stays_out_and_cards_have_pages() -> None:
    text = "before\n<!-- hidden\n```python\nx = 1\n```\n-->\n[card](../../headwise/zoo/weights/vlm@early/README.md)\n"
    shown = hook("pages").on_page_markdown(text, page=page("methods/x.md"))
    assert shown == "before\n[card](../cards/vlm@early.md)\n"


def test_a_quick_build_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWISE_DOCS", "quick")
    for name, mark in (("gallery", "<!-- reports -->"), ("notebooks", "<!-- notebooks -->")):
        module = hook(name)
        module.on_files([], None)
        assert "leaves the" in module.on_page_markdown(mark, page=page("gallery.md"))
        assert module.on_page_markdown(mark, page=page("index.md")) == mark


def test_cells_and_outputs_of_a_notebook_become_a_page() -> None:
    figure = {"data": [], "layout": {"title": {"text": "<b>a</b> & b"}}}
    notebook = SimpleNamespace(
        cells=[
            cell("markdown", "# Title"),
            cell(
                "code",
                "print('```')",
                {"output_type": "stream", "name": "stdout", "text": "\x1b[31m```\x1b[0m\n"},
                {"output_type": "stream", "name": "stderr", "text": "a warning"},
            ),
            cell("code", "x", shown({"text/plain": "1", "text/html": "<b>1</b>\n\n<i>2</i>"})),
            cell("code", "f", shown({"application/vnd.plotly.v1+json": figure})),
            cell("code", "  "),
        ]
    )
    script, title, code, printed, *rest = hook("notebooks")._page(notebook, "x.ipynb")
    assert script.startswith("<script src=")
    assert title == "# Title"
    assert code == "````python\nprint('```')\n````"
    assert printed == "````text\n```\n````"
    assert '<div class="output"><b>1</b>\n<i>2</i></div>' in rest
    assert any('aria-label="a &amp; b"' in part for part in rest)
    assert not any("a warning" in part for part in rest)


def test_a_notebook_that_the_tests_executed_is_shown_and_one_that_has_changed_since_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat = pytest.importorskip("nbformat")
    output = nbformat.v4.new_output("stream", text="4")
    for folder, source, outputs in (
        ("now", "2 + 2", []),
        ("kept", "2 + 2", [output]),
        ("old", "2 + 1", [output]),
    ):
        cells = [nbformat.v4.new_code_cell(source, outputs=outputs)]
        (tmp_path / folder).mkdir()
        nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / folder / "x.ipynb")
    module = hook("notebooks")
    ran: list[object] = []
    monkeypatch.setattr("nbclient.NotebookClient.execute", lambda client, **_: ran.append(client))
    for folder, times in (("kept", 0), ("old", 1), ("nowhere", 2)):
        monkeypatch.setenv("HEADWISE_EXECUTED", str(tmp_path / folder))
        found = module._executed(tmp_path / "now" / "x.ipynb")
        assert (len(ran), len(found.cells[0].outputs)) == (times, int(folder == "kept"))
