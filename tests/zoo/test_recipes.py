"""The shipped weights are what the recipes in this repository give: the first steps are those of their training."""

from __future__ import annotations

import json

import pytest

from headwise.zoo import zoo_folder
from headwise.zoo.recipes import find_recipe
from headwise.zoo.train import train

STEP = 100


class Enough(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["nmt", "vlm"]
)  # lm depends on the Python version, speech on the synthesiser
def test_the_first_steps_are_those_of_the_shipped_training(name, tmp_path):
    seen = {}

    def show(phase, step, total, values):
        if step == STEP:
            seen.update(step=step, **values)
            raise Enough

    with pytest.raises(Enough):
        train(find_recipe(name), tmp_path / name, device="cpu", show=show)
    training = json.loads((zoo_folder(name) / "training.json").read_text(encoding="utf-8"))
    shipped = next(iter(training["phases"].values()))[0]
    assert seen == pytest.approx(shipped, abs=0.02)
