"""The gallery: `headwise demo` writes the reports, the page `gallery.md` links them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_MARK = "<!-- reports -->"
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_written: tempfile.TemporaryDirectory[str] | None = None


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Write the reports and add them to the site, unless the build is to be quick."""
    global _written
    if os.environ.get("HEADWISE_DOCS") == "quick":
        return files
    _written = tempfile.TemporaryDirectory(prefix="headwise-gallery-")  # removed when the build ends
    folder = Path(_written.name)
    command = [sys.executable, "-m", "headwise", "demo", "--out", str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    if done.returncode:
        raise PluginError(f"headwise demo ended with status {done.returncode}: {done.stderr.strip()[-2000:]}")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            place = f"gallery/{path.relative_to(folder).as_posix()}"
            files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """The list of reports."""
    return markdown.replace(_MARK, _links()) if page.file.src_uri == "gallery.md" else markdown


def _links() -> str:
    if _written is None:
        return "*This build leaves the reports out; `mkdocs build` without `HEADWISE_DOCS=quick` has them.*"
    pages = sorted(
        Path(_written.name).glob("*.html"), key=lambda path: (path.name != "index.html", path.name)
    )
    return "\n".join(f"- [{_title(path)}](gallery/{path.name})" for path in pages)


def _title(path: Path) -> str:
    found = _TITLE.search(path.read_text(encoding="utf-8")[:100_000])
    return re.sub(r"([\[\]*_`])", r"\\\1", unescape(found[1]).strip()) if found else path.stem
