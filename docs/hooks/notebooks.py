"""Notebooks: executed while the site is built, and shown with what they gave, as pages like any other."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
MINUTES = 15
_log = logging.getLogger("mkdocs.plugins.notebooks")
_MARK = "<!-- notebooks -->"
_PLOTLY = "application/vnd.plotly.v1+json"
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_titles: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Execute every notebook and add its page, unless the build is to be quick."""
    _titles.clear()
    if os.environ.get("HEADWISE_DOCS") == "quick":
        return files
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        _log.info("Executing %s", path.name)
        text = "\n\n".join(_page(_executed(path), path.name))
        title = re.search(r"^# (.+)$", text, re.MULTILINE)
        _titles[path.stem] = title[1] if title else path.stem
        head = f"---\ntitle: {json.dumps(_titles[path.stem])}\nhide: [navigation]\n---\n\n"
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=head + text))
    if _titles:
        from plotly.offline import get_plotlyjs

        files.append(File.generated(config, "assets/plotly.min.js", content=get_plotlyjs()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The list of notebooks."""
    if page.file.src_uri != "gallery.md":
        return markdown
    links = "\n".join(f"- [{title}](notebooks/{name}.md)" for name, title in _titles.items())
    return markdown.replace(
        _MARK, links or "*This build leaves the notebooks out; they lie in the folder `notebooks`.*"
    )


def _executed(path: Path) -> Any:
    """The notebook with its outputs; it runs in an empty folder, and an error in a cell ends the build.

    It does not run where the folder HEADWISE_EXECUTED has it from the tests, cell by cell the same.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(path, as_version=4)
    kept = Path(os.environ.get("HEADWISE_EXECUTED", os.devnull), path.name)
    if kept.is_file():
        executed = nbformat.read(kept, as_version=4)
        if [cell.source for cell in executed.cells] == [cell.source for cell in notebook.cells]:
            return executed
    folder = tempfile.mkdtemp(prefix="headwise-notebook-")
    client = NotebookClient(
        notebook,
        timeout=60 * MINUTES,
        kernel_name="python3",
        resources={"metadata": {"path": folder}},
    )
    try:
        client.execute(env={**os.environ, "HF_HUB_OFFLINE": "1"})
    except CellExecutionError as error:
        raise PluginError(f"{path.name} fails: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return notebook


def _page(notebook: Any, name: str) -> Iterator[str]:
    """The cells as Markdown."""
    with_figures = False
    body: list[str] = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            body.append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            body.append(_fence(cell.source, "python"))
            for part, output in enumerate(cell.outputs):
                shown, figure = _output(output, f"figure-{number}-{part}")
                with_figures |= figure
                body += [shown] if shown else []
    if with_figures:
        yield '<script src="../assets/plotly.min.js"></script>'
    yield from body
    yield f"*This page is the notebook `notebooks/{name}`, executed when the site was built.*"


def _output(output: Any, name: str) -> tuple[str, bool]:
    """One output as Markdown or HTML, and whether it is a figure that needs the script."""
    if output.output_type == "stream":
        text = output.text.strip("\n") if output.name == "stdout" else ""
        return (_fence(text, "text") if text else ""), False
    data = output.get("data", {})
    if _PLOTLY in data:
        return _figure(data[_PLOTLY], name), True
    if "text/html" in data:
        return f'<div class="output">{_unbroken(data["text/html"])}</div>', False
    if "image/svg+xml" in data:
        return f'<div class="output">{_unbroken(data["image/svg+xml"])}</div>', False
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            source = "".join(data[kind].split())
            return (
                f'<img class="output" alt="Output of the cell above" src="data:{kind};base64,{source}">',
                False,
            )
    return (_fence(data["text/plain"], "text") if "text/plain" in data else ""), False


def _figure(figure: dict[str, Any], name: str) -> str:
    layout = figure.get("layout", {})
    title = layout.get("title", {})
    text = (title.get("text") if isinstance(title, dict) else title) or "figure"
    text = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    drawn = json.dumps({"data": figure["data"], "layout": layout}).replace("</", "<\\/")
    return (
        f'<div class="output" id="{name}" role="figure" aria-label="{escape(text, quote=True)}"></div>'
        f"<script>(f => Plotly.newPlot('{name}', f.data, f.layout, {{responsive: true}}))({drawn})</script>"
    )


def _unbroken(html: str) -> str:
    """HTML without empty lines, at which Markdown would begin anew."""
    return "\n".join(line for line in html.splitlines() if line.strip())


def _fence(text: str, language: str) -> str:
    text = _ESCAPES.sub("", text).rstrip()
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text}\n{marks}"
