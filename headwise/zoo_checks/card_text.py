"""A model card as Markdown, with the front matter that hubs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def card_text(card: Mapping[str, Any]) -> str:
    """The README of a model of the zoo."""
    name = card["name"]
    parts = [
        f"---\nlicense: {card['license']}\nlibrary_name: transformers\n---\n",
        f"# zoo:{name}\n\n{card['summary']}\n",
        f"`{card['class']}`, {card['parameters']:,} parameters, {card['bytes'] / 1e6:.1f} MB in float16.\n",
        f'```python\nimport headwise as hw\n\nsubject = hw.load("zoo:{name}")\n{card["usage"].strip()}\n```\n',
        f"## Measured\n\n{_figures(card['figures'])}\n\n"
        f"Test split; 95 % intervals by bootstrap over examples. `headwise zoo verify {name}` measures them again.\n",
        f"## Data and licence\n\n{card['data'].strip()}\n",
        f"## Recipe\n\n{card['recipe'].strip()}\n\n{_training(name, card['training'])}\n",
        f"## What it shows\n\n{_list(card['findings'])}\n",
        f"## Priors that were put in, and limits\n\n{_list(card['limits'])}\n",
    ]
    return "\n".join(parts)


def _figures(figures: Sequence[Mapping[str, Any]]) -> str:
    rows = ["| what | task | metric | n | value | 95 % interval |", "| --- | --- | --- | --- | --- | --- |"]
    for figure in figures:
        options = "".join(f", {key}={value}" for key, value in figure["options"].items())
        rows.append(
            f"| {figure['about']} | {figure['task']}{options} | {figure['metric']} | {figure['n']} | "
            f"{figure['value']:.3f} | {figure['low']:.3f} to {figure['high']:.3f} |"
        )
    return "\n".join(rows)


def _training(name: str, training: Mapping[str, Any] | None) -> str:
    if training is None:
        return f"A checkpoint that the training of `zoo:{name.partition('@')[0]}` keeps on its way."
    steps = ", ".join(f"{phase} {rows[-1]['step']:,} steps" for phase, rows in training["phases"].items())
    return (
        f"Seed {training['seed']}; {steps}; {training['cpu_seconds'] / 60:.1f} minutes of processor time on "
        f"{training['threads']} thread(s) of a {training['device'].upper()}; torch "
        f"{training['versions']['torch']}, transformers {training['versions']['transformers']}. "
        f"`headwise zoo train {name}` does it again."
    )


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
