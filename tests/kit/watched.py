"""Windows that report whatever a page does but show text: scripts, requests, dialogs, links, hidden letters."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from headwise.text import HIDDEN_CATEGORIES
from tests.kit.payloads import MARK, Hostile

LOOK = """() => {
  const texts = [], links = [];
  for (const part of document.querySelectorAll("*")) {
    if (["SCRIPT", "STYLE", "NOSCRIPT"].includes(part.tagName.toUpperCase())) continue;
    for (const { name, value } of part.attributes) {
      if (!["data-unformatted", "data-math"].includes(name)) texts.push(value); // what plotly was given
      if (/^on|href$|^src|action$|^data$|^poster$/.test(name)) links.push(`${part.tagName} ${name}=${value}`);
    }
    if (part.tagName === "text") texts.push(part.textContent);
    else if (!part.closest("text"))
      for (const node of part.childNodes) if (node.nodeType === Node.TEXT_NODE) texts.push(node.data);
  }
  return { texts, links, ran: window.ran };
}"""
HOVER = """async () => {
  const figure = document.getElementById("figure"), texts = [];
  for (let number = 0; number < figure.data.length; number++) {
    const { type, xaxis, yaxis } = figure.data[number];
    const point = { curveNumber: number, pointNumber: type === "heatmap" ? [0, 0] : 0 };
    Plotly.Fx.hover(figure, [point], [(xaxis ?? "x") + (yaxis ?? "y")]);
    await new Promise((done) => setTimeout(done, 60));
    for (const text of figure.querySelectorAll(".hoverlayer text")) texts.push(text.textContent);
  }
  return texts;
}"""


class Watched:
    """A window without a content security policy, so that nothing but escaping keeps a payload from running."""

    def __init__(self, browser: Any, folder: Path, **options: Any) -> None:
        context = browser.new_context(offline=True, bypass_csp=True, **options)
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.complaints: list[str] = []
        own = folder.as_uri()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("framenavigated", lambda frame: frame.parent_frame and self.complaints.append(frame.url))
        self.page.on(
            "request",
            lambda request: (
                (request.url.startswith((own, "data:", "about:blank")) and not request.url.endswith("/x"))
                or self.complaints.append(request.url)
            ),
        )

    def check(self, hostile: Hostile, more: list[str] | None = None) -> set[int]:
        """Whether payloads are shown as they were written, and nothing else; the numbers of those that are shown."""
        found = self.page.evaluate(LOOK)
        texts = [*found["texts"], *(more or [])]
        assert found["ran"] is None
        assert self.complaints == []
        assert not [link for link in found["links"] if not re.search("=(#|data:image/|data:audio/)", link)]
        assert hostile.altered(texts) == []
        assert not [text for text in texts if any(map(_hidden, text))]
        return {int(mark[1]) for text in texts for mark in MARK.finditer(text)}


def _hidden(letter: str) -> bool:
    return letter not in "\n\xad" and unicodedata.category(letter) in HIDDEN_CATEGORIES
