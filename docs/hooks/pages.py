"""Pages that are written elsewhere in the repository: the changelog and the cards of the zoo."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
_CARD = re.compile(r"\((?:\.\./)+headwise/zoo/weights/([\w@]+)/README\.md\)")
_HEADER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_HIDDEN = re.compile(r"^<!-- (?:hidden|notest)\b.*?-->\n", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=changes))
    for card in sorted((ROOT / "headwise" / "zoo" / "weights").glob("*/README.md")):
        text = _HEADER.sub("", card.read_text(encoding="utf-8"))
        files.append(File.generated(config, f"cards/{card.parent.name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Leave out hidden code, which only tests run, and lead links to the cards to their pages."""
    top = "../" * page.file.src_uri.count("/")
    return _CARD.sub(rf"({top}cards/\1.md)", _HIDDEN.sub("", markdown))
