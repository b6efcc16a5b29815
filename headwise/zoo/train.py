"""Run a recipe: progress, checkpoints, resume, and the folder that the zoo ships."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from headwise.errors import InputError
from headwise.files import replacing
from headwise.zoo.recipe import Phase, Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATE = "training.pt"
"""The file in the output folder that a stopped run goes on from."""

Show = Callable[[str, int, int, Mapping[str, float]], None]
"""Told after every step: phase, steps done, steps in all, the loss and what the recipe shows beside it."""


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: str | torch.device | None = None,
    resume: bool = True,
    save_every: int = 200,
    show: Show | None = None,
) -> Path:
    """Train a model of the zoo and write it to `folder` in float16, with its processor.

    Checkpoints that the recipe keeps on the way are written beside it, as `folder@name`. A run that was
    stopped leaves `training.pt` in the folder and goes on from there; the result is the same up to the order
    of floating-point sums.

    Args:
        recipe: what to train.
        folder: where the model is written; created if need be.
        device: the GPU where there is one, else the CPU.
        resume: False starts again even if there is a stopped run.
        save_every: steps between two states that a stopped run can go on from.
        show: called after every step.

    Raises:
        InputError: the device is not there, the folder cannot be made, it holds a stopped run of another recipe
            or a damaged one, or the loss is no longer finite.
    """
    device = _device(device)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder cannot be made.", evidence=f"{folder}: {error.strerror}", remedy="Choose another."
        ) from error
    with torch.random.fork_rng():
        return _train(recipe, folder, device, resume, save_every, show or (lambda *_: None))


def _train(
    recipe: Recipe, folder: Path, device: torch.device, resume: bool, save_every: int, show: Show
) -> Path:
    torch.manual_seed(recipe.seed)
    model, processor = recipe.build()
    model = _moved(model, device)
    state = _read(folder / STATE, recipe) if resume else None
    log = state["log"] if state else {"seconds": 0.0, "cpu_seconds": 0.0, "phases": {}}
    clock = _Clock(log)
    for number, phase in enumerate(recipe.phases):
        if state and number < state["phase"]:
            continue
        started = state if state and number == state["phase"] else None
        saved = _Saver(folder, recipe, number, clock, save_every)
        _run(recipe, phase, model, processor, started, saved, show)
        state = None
    recipe.finish(model)
    _write(model, processor, folder)
    clock.stop()
    with replacing(folder / "training.json") as part:
        part.write_text(json.dumps(_about(recipe, log, device), indent=1), encoding="utf-8")
    (folder / STATE).unlink(missing_ok=True)
    return folder


def _run(
    recipe: Recipe,
    phase: Phase,
    model: PreTrainedModel,
    processor: Any,
    started: dict[str, Any] | None,
    saver: _Saver,
    show: Show,
) -> None:
    model.train()
    model.requires_grad_(False)
    parameters = list(recipe.parameters(model, phase))
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, phase.rate, betas=phase.betas, weight_decay=phase.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, phase.rate, total_steps=phase.steps, pct_start=phase.warm_up
    )
    first = 0
    if started:
        model.load_state_dict(started["model"])
        optimizer.load_state_dict(started["optimizer"])
        schedule.load_state_dict(started["schedule"])
        first = started["step"]
    for step in range(first, phase.steps):
        batch = {name: value.to(model.device) for name, value in recipe.batch(phase, step).items()}
        torch.manual_seed(recipe.random(phase, step).getrandbits(63))  # dropout, the same after a resume
        loss, seen = recipe.loss(model, phase, batch)
        if not loss.isfinite():
            raise InputError(
                f"The loss of {recipe.name} is {loss.item()} after {step} steps of {phase.name}.",
                remedy="Lower the learning rate of the recipe.",
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, phase.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        show(phase.name, step + 1, phase.steps, {"loss": loss.item(), **seen})
        saver.note(phase, step + 1, {"loss": loss.item(), **seen})
        if step + 1 in phase.keep:
            recipe.finish(model)
            place = saver.folder.resolve()  # "." has a name, too
            _write(model, processor, place.with_name(f"{place.name}@{phase.keep[step + 1]}"))
        if (step + 1) % saver.every == 0 or step + 1 == phase.steps:
            saver.save(step + 1, model, optimizer, schedule)
    model.requires_grad_(True)


class _Clock:
    """Wall and processor seconds, summed over the stretches of a run that was stopped and resumed."""

    def __init__(self, log: dict[str, Any]) -> None:
        self.log = log
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.log["seconds"] += wall - self._wall
        self.log["cpu_seconds"] += cpu - self._cpu
        self._wall, self._cpu = wall, cpu


class _Saver:
    """Where a phase writes its state, and the curve it has drawn so far."""

    def __init__(self, folder: Path, recipe: Recipe, number: int, clock: _Clock, every: int) -> None:
        self.folder, self.recipe, self.number, self.clock, self.every = folder, recipe, number, clock, every

    def note(self, phase: Phase, step: int, seen: Mapping[str, float]) -> None:
        """Keep every hundredth step for the card."""
        if step % 100 == 0 or step == phase.steps:
            row = {"step": step, **{name: round(value, 4) for name, value in seen.items()}}
            self.clock.log["phases"].setdefault(phase.name, []).append(row)

    def save(self, step: int, model: PreTrainedModel, optimizer: Any, schedule: Any) -> None:
        self.clock.stop()
        state = {
            "recipe": self.recipe.name,
            "seed": self.recipe.seed,
            "phase": self.number,
            "step": step,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "log": self.clock.log,
        }
        with replacing(self.folder / STATE) as part:
            torch.save(state, part)


def _read(path: Path, recipe: Recipe) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = {"recipe", "seed", "phase", "step", "model", "optimizer", "schedule", "log"} <= set(state)
    except Exception:  # a damaged pickle may raise anything
        known = False
    if not known:
        raise InputError(
            "The stopped run in the folder is damaged.",
            evidence=str(path),
            remedy="Give another folder, or start again without resuming.",
        )
    if (state["recipe"], state["seed"]) != (recipe.name, recipe.seed):
        raise InputError(
            "The folder holds a stopped run of another recipe.",
            evidence=f"{path}: {state['recipe']}, seed {state['seed']}",
            remedy="Give another folder, or start again without resuming.",
        )
    return state


def _device(name: str | torch.device | None) -> torch.device:
    """The device, after something was put there."""
    try:
        found = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"There is no device {str(name)!r} here.",
            evidence=str(error).partition("\n")[0][:80],
            remedy="cpu, or cuda with a GPU.",
        ) from error
    return found


def _write(model: PreTrainedModel, processor: Any, folder: Path) -> None:
    """Save a float16 copy; the model that is being trained stays float32."""
    from copy import deepcopy

    half = _moved(deepcopy(model), torch.float16).eval()
    half.requires_grad_(True)
    half.save_pretrained(folder)
    processor.save_pretrained(folder)


def _moved(model: Any, place: torch.device | torch.dtype) -> PreTrainedModel:
    """The model on that device, or in that type."""
    return model.to(place)


def _about(recipe: Recipe, log: dict[str, Any], device: torch.device) -> dict[str, Any]:
    import transformers

    from headwise._version import __version__

    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "device": device.type,
        "threads": torch.get_num_threads(),
        **{name: round(log[name], 1) for name in ("seconds", "cpu_seconds")},
        "phases": log["phases"],
        "versions": {
            "headwise": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
