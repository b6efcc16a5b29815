"""`headwise zoo`: the trained models that come with headwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from headwise.cli.options import Debug, Json
from headwise.cli.session import FAILED, progress_count, session

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The trained models that come with headwise."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="lm, lm@early, nmt, speech, vlm or vlm@early.")]


@app.command("list")
def list_models() -> None:
    """List the models with the first figures of their cards."""
    with session(debug=False):
        from headwise.zoo.registry import NAMES
        from headwise.zoo_checks.cards import read_card

        cards = {name: read_card(name) for name in NAMES}
    for name, card in cards.items():
        size = f"{card['parameters'] / 1e6:.2f} M parameters, {card['bytes'] / 1e6:.1f} MB"
        typer.echo(f"zoo:{name:<10} {card['class']}, {size}\n{'':<14} {card['summary'].splitlines()[0]}")


@app.command()
def card(name: Name, debug: Debug = False) -> None:
    """Print the card of a model: data, licence, recipe, figures with intervals, limits."""
    with session(debug=debug):
        from headwise.zoo.registry import zoo_folder

        text = (zoo_folder(name) / "README.md").read_text(encoding="utf-8")
    typer.echo(text)


@app.command()
def path(name: Name, debug: Debug = False) -> None:
    """Print the folder of a model, for plain `from_pretrained`."""
    with session(debug=debug):
        from headwise.zoo.registry import zoo_folder

        folder = zoo_folder(name)
    typer.echo(str(folder))


@app.command()
def train(
    name: Annotated[str, typer.Argument(metavar="NAME", help="lm, nmt, speech or vlm.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write it; zoo-NAME without it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; a GPU where there is one.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; torch's own choice.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on from a stopped run.")] = False,
    debug: Debug = False,
) -> None:
    """Train a model again from its recipe; a stopped run goes on where it was."""
    with session(debug=debug):
        import torch

        from headwise.cli.session import quiet_transformers
        from headwise.cli.training import training_bar
        from headwise.zoo.recipes import find_recipe
        from headwise.zoo.train import train as run

        recipe = find_recipe(name)
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with quiet_transformers(), training_bar(recipe) as show:
                folder = run(
                    recipe, out or Path(f"zoo-{recipe.name}"), device=device, resume=not restart, show=show
                )
        finally:
            torch.set_num_threads(before)
    typer.echo(f"wrote {folder}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Models; all of them without one.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure every figure on the cards again; status 1 if one lies outside its stated interval."""
    with session(debug=debug):
        from headwise.cli.session import quiet_transformers
        from headwise.zoo.registry import NAMES, zoo_folder
        from headwise.zoo_checks.cards import verify as checks

        chosen = names or list(NAMES)
        for name in chosen:
            zoo_folder(name)
        with quiet_transformers(), progress_count("Measuring") as show:
            found = list(checks(chosen, show=lambda _, done, total: show(done, total)))
    if as_json:
        rows = [{"model": name, **vars(check), "holds": check.holds} for name, check in found]
        typer.echo(json.dumps(rows, indent=1))
    else:
        for name, check in found:
            mark = "ok" if check.holds else "OFF"
            span = f"[{check.low:.3f}, {check.high:.3f}]"
            typer.echo(
                f"{mark:<4}{name:<10} {check.figure:<60} stated {check.stated:.3f} {span}, found {check.found:.3f}"
            )
    raise typer.Exit(0 if all(check.holds for _, check in found) else FAILED)


@app.command()
def measure(name: Name, debug: Debug = False) -> None:
    """Measure every figure of a model and write its card; for those who retrain the zoo."""
    with session(debug=debug):
        from headwise.cli.session import quiet_transformers
        from headwise.zoo.registry import zoo_folder
        from headwise.zoo_checks.cards import measure as run

        folder = zoo_folder(name)
        with quiet_transformers(), progress_count("Measuring") as show:
            run(name.removeprefix("zoo:"), show=lambda _, done, total: show(done, total))
    typer.echo(f"wrote {folder / 'card.json'}")
