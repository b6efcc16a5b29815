"""Notebooks as they are stored: no outputs, no execution counts, nothing of the machine, cell ids that count.

Run as `python notebooks/strip.py notebooks/*.ipynb`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stripped(text: str) -> str:
    """The stored form of a notebook's JSON; that of a stored notebook is itself."""
    notebook = json.loads(text)
    cells = []
    for number, cell in enumerate(notebook["cells"], start=1):
        kept = {"cell_type": cell["cell_type"], "id": f"cell-{number:02d}", "metadata": {}}
        source = "".join(cell["source"]).rstrip()
        kept["source"] = source.splitlines(keepends=True)
        if cell["cell_type"] == "code":
            kept |= {"execution_count": None, "outputs": []}
        cells.append(kept)
    stored = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Strip the files that are named."""
    for name in sys.argv[1:]:
        path = Path(name)
        before = path.read_text(encoding="utf-8")
        after = stripped(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"stripped {name}")


if __name__ == "__main__":
    main()
