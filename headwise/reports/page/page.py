"""The page: one HTML file, or a folder where that would be too large, that loads nothing from a network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headwise.errors import InputError
from headwise.figures import CATEGORIES, CIVIDIS, DIVERGING, data_uri, map_png
from headwise.figures.colours import stops_of
from headwise.figures.graph import places, thickness
from headwise.figures.labels import without_middle
from headwise.figures.page import json_for_script, policy, templates
from headwise.files import replacing
from headwise.folders import check_folder, replace_folder
from headwise.reports.collect.charts import round_ticks
from headwise.reports.content.content import Content
from headwise.reports.content.formatting import place_name, show, tick
from headwise.reports.content.shown_example import Matrix, Picture, ShownExample, Sound
from headwise.reports.page.contact_sheets import sheet_png
from headwise.reports.page.serialize import page_blobs, page_data
from headwise.results.plain import plain
from headwise.text import token_text, visible

if TYPE_CHECKING:
    from jinja2 import Environment

LIMIT = 10_000_000
SCRIPTS = ("data.js", "grid.js", "maps.js", "head.js", "examples.js", "page.js")
STYLES = ("parts.css", "report.css")
WORD_COLOURS = tuple(zip(CATEGORIES, ("#fff", "#000", "#fff", "#000", "#000", "#fff", "#fff"), strict=True))
"""A colour for each word, and that of its number on it."""
INDEX, KIND = "index.html", "report"


@dataclass(frozen=True)
class Written:
    """What was written."""

    path: Path
    """The page: the file asked for, or `index.html` in a folder of its name."""
    bytes: int
    files: int = 1


def write_page(content: Content, path: str | Path, *, limit: int = LIMIT) -> Written:
    """Write the page whole or not at all; above `limit` bytes as a folder, `index.html` and its data.

    Raises:
        InputError: the folder of `path` does not exist; the page has to be a folder and there is one of its name with
            something in it.
    """
    path = Path(path)
    blobs = page_blobs(content)
    if (
        sum(map(len, blobs.values())) <= limit
    ):  # else there is no need to render the page to see that it is larger
        text = render(content, blobs=blobs)
        size = len(text.encode("utf-8"))
        if size <= limit:
            with replacing(path) as part:
                part.write_text(text, encoding="utf-8")
            return Written(path, size)
    return _write_folder(content, blobs, path.with_suffix("") if path.name else path)


def _write_folder(content: Content, blobs: Mapping[str, str], folder: Path) -> Written:
    """A folder that is a report already is replaced; one that holds anything else is left alone."""
    try:
        check_folder(folder, kind=KIND)
    except InputError as error:
        raise InputError(
            f"The page is too large for one file, and the folder in its place cannot be written. {error.fact}",
            evidence=error.evidence,
            remedy="Choose another name, or raise the limit.",
        ) from error
    scripts = {
        name: f"window.headwiseData[{json.dumps(name)}]({json.dumps(text)});\n"
        for name, text in blobs.items()
    }
    digest = hashlib.sha256("".join(scripts.values()).encode()).hexdigest()[:12]
    paths = {  # by number: names of metrics may be long, or differ in capitals alone
        name: f"data-{digest}/{number}.js" for number, name in enumerate(scripts)
    }
    files = {paths[name]: script for name, script in scripts.items()}
    files[INDEX] = render(content, blobs={}, files=paths)
    replace_folder(folder, files, kind=KIND, entry=INDEX)
    return Written(folder / INDEX, sum(len(text.encode("utf-8")) for text in files.values()), len(files))


def render(
    content: Content,
    *,
    blobs: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> str:
    """The content as one HTML document.

    All text is escaped by the template; a content security policy lets only the page's own scripts run and forbids
    every connection.

    Args:
        content: what it says.
        blobs: numbers that the scripts open when they are needed; None packs them.
        files: of a page in a folder: where its numbers lie, instead of `blobs`.
    """
    from markupsafe import Markup

    scripts: list[str] = []
    if content.metrics or content.comparisons:
        scripts += [f"window.headwiseFiles = {json_for_script(files)};"] if files else []
        scripts += [page_script()]
    # browsers check no hash of a file beside a page that lies on a disk, so a folder is named whole
    also = ("'self'", "file:") if files else ()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            content=content,
            sections=_sections(content),
            diverging=_gradient(DIVERGING),
            pictures=[[_map_picture(m.scale, panel.cells) for panel in m.panels] for m in content.metrics],
            sheets=[
                (group, data_uri(sheet_png(group.patterns)))
                for group in content.groups
                if group.patterns is not None
            ],
            mark=_word_mark,
            groups={group.key for group in content.groups},
            graphs=[(graph, *places(graph)) for graph in content.graphs],
            thickness=thickness,
            ticks=round_ticks,
            markup=Markup,
            **_drawn(content),
            addressed=lambda value: bool(content.groups),
            policy=f"{policy(scripts, also=also)}; media-src data:",
            style=Markup(style()),
            facts=Markup(json_for_script(plain(facts(content)))),
            data=Markup(json_for_script(page_data(content))),
            blobs=[
                (name, Markup(text))
                for name, text in (blobs if blobs is not None else page_blobs(content)).items()
            ]
            if not files
            else [],
            scripts=[Markup(script) for script in scripts],
            files=files,
        )
    )


def render_example(content: Content, example: ShownExample) -> str:
    """One example as it stands on the page, for the notebook viewer."""
    template = environment().get_template("example.html.j2")
    return template.render(content=content, example=example, **_drawn(content))


def facts(content: Content) -> dict[str, Any]:
    """What the page says, see `plain`: verdict, warnings, tables, answers that changed, where it comes from."""
    return {
        "model": content.title,
        "verdict": list(content.verdict),
        "numbers": [
            {"value": item.value, "label": item.label, "detail": item.detail} for item in content.headlines
        ],
        "warnings": list(content.warnings),
        "heads_with_sink": content.sink_share,
        **{table.key: table.records() for table in content.tables},
        **{item.table.key: item.table.records() for item in content.comparisons},
        "words": {item.key: [cell.evidence for cell in item.known] for item in content.words},
        "changed_answers": [vars(flip) for item in content.comparisons for flip in item.flips],
        "fix": content.fix,
        "spec": json.loads(content.spec) if content.spec else None,
        "provenance": dict(content.provenance),
        "call": content.call,
        "command": content.command,
    }


def page_script() -> str:
    """The page's own script: what it shares with the notebook viewer, and what it does by itself."""
    parts = "\n".join(asset("scripts", name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{parts}\n}})();'


def style() -> str:
    """The page's style sheet."""
    return "\n".join(asset("templates", name) for name in STYLES)


def environment() -> Environment:
    """The templates, with everything escaped that is not markup, and the filters that show values."""
    environment = templates("headwise.reports.page")
    environment.filters.update(
        show=show,
        tick=tick,
        visible=visible,
        token=token_text,
        place=place_name,
        shortened=without_middle,
        along=lambda value, marks: f"{100 * (value - marks[0]) / (marks[-1] - marks[0]):.2f}%",
        percent=lambda share: f"{100 * min(max(share, 0.0), 1.0):.1f}%",
        lines=lambda text: "\n".join(visible(line) for line in text.split("\n")),
    )
    return environment


def asset(folder: str, name: str) -> str:
    """The text of a file of this package."""
    return resources.files("headwise.reports.page").joinpath(folder, name).read_text(encoding="utf-8")


def _sections(content: Content) -> list[tuple[str, str]]:
    sections = [("verdict", "Verdict"), ("warnings", "Warnings")]
    sections += [("maps", "Maps")] if content.metrics else []
    sections += [(f"words-{item.key}", item.title) for item in content.words]
    sections += [("examples", "Examples")] if content.examples else []
    sections += [("evaluation", "Did the fix help?")] if content.comparisons else []
    sections += [(table.key, table.title.partition(",")[0]) for table in content.tables]
    sections += [(f"graph-{number}", graph.title) for number, graph in enumerate(content.graphs, start=1)]
    sections += [(f"finding-{number}", item.title) for number, item in enumerate(content.findings, start=1)]
    return [*sections, ("provenance", "Provenance")]


def _drawn(content: Content) -> dict[str, Any]:
    """What the markup of an example draws with."""
    return {
        "gradient": _gradient(CIVIDIS),
        "overlay": lambda picture: _overlay(picture, content.largest_patch),
        "matrix": _matrix,
        "seconds": _seconds,
    }


def _word_mark(words: Sequence[tuple[str, int]], place: int) -> tuple[str, str]:
    """The mark of a word and its style: "none" is a dot; a word beyond the colours has a number on grey."""
    if words[place][0] == "none":
        return "·", ""
    number = sum(word != "none" for word, _ in words[:place])
    paper, ink = WORD_COLOURS[number] if number < len(WORD_COLOURS) else ("#767676", "#fff")
    return str(number + 1), f"background:{paper};color:{ink}"


def _gradient(colours: Any) -> str:
    return f"linear-gradient(to right, {', '.join(stops_of(colours, 13))})"


def _map_picture(scale: tuple[float, float], cells: Sequence[Sequence[float | None]]) -> str:
    values = np.array([[np.nan if cell is None else cell for cell in row] for row in cells], dtype=float)
    return data_uri(map_png(values, *scale, cell=1 if max(values.shape) > 64 else 8, missing=None))


def _overlay(picture: Picture, top: float) -> str:
    return data_uri(map_png(picture.shares, 0, top, cell=16))


def _matrix(matrix: Matrix) -> str:
    return data_uri(map_png(matrix.weights, 0, matrix.top, cell=max(1, 480 // max(matrix.weights.shape))))


def _seconds(sound: Sound) -> list[float]:
    """Times that stand under a spectrogram, in seconds of the recording."""
    step = next((s for s in (0.25, 0.5, 1, 2, 5, 10) if sound.seconds / s <= 8), 30)
    first, last = math.ceil(sound.start / step), int((sound.start + sound.seconds) / step)
    return [step * number for number in range(first, last + 1)]
