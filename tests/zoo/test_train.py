"""Training: batches depend on the step alone, a stopped run goes on, and nothing half-made is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from headwise.errors import InputError
from headwise.zoo.recipe import Phase, Recipe
from headwise.zoo.train import STATE, train


class Tiny(Recipe):
    name = "tiny"
    phases = (
        Phase(name="first", steps=3, rate=1e-2, keep={2: "early"}),
        Phase(name="second", steps=12, rate=1e-2),
    )

    def build(self):
        config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=9, n_positions=16)
        words = Tokenizer(models.WordLevel({str(number): number for number in range(9)}, unk_token="0"))
        return GPT2LMHeadModel(config), PreTrainedTokenizerFast(tokenizer_object=words, unk_token="0")

    def batch(self, phase, step):
        rng = self.random(phase, step)
        return {"input_ids": torch.tensor([[rng.randrange(9) for _ in range(6)] for _ in range(4)])}

    def loss(self, model, phase, batch):
        loss = model(**batch, labels=batch["input_ids"]).loss
        return loss, {"twice": 2 * loss.item()}

    def parameters(self, model, phase):
        return model.transformer.h.parameters() if phase.name == "first" else model.parameters()


class Stopped(Exception):
    pass


def stop_at(phase, step):
    def show(name, done, total, seen):
        if (name, done) == (phase, step):
            raise Stopped

    return show


def weights(folder):
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).state_dict()


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_folder_opens_with_plain_transformers_and_is_half_precision(tmp_path):
    folder = train(Tiny(), tmp_path / "tiny", device="cpu", save_every=5)
    assert GPT2LMHeadModel.from_pretrained(folder).dtype == torch.float16
    assert AutoTokenizer.from_pretrained(folder).decode([3]) == "3"
    assert not (folder / STATE).exists()
    about = json.loads((folder / "training.json").read_text())
    assert about["phases"]["first"][-1]["step"] == 3
    assert about["phases"]["second"][-1]["twice"] == pytest.approx(
        2 * about["phases"]["second"][-1]["loss"], abs=1e-3
    )


def test_a_checkpoint_on_the_way_is_kept_beside_the_folder(tmp_path):
    folder = train(Tiny(), tmp_path / "tiny", device="cpu", save_every=5)
    assert not same(weights(folder), weights(tmp_path / "tiny@early"))


def test_a_phase_trains_only_its_own_parameters(tmp_path):
    train(Tiny(), tmp_path / "tiny", device="cpu", save_every=5)
    torch.manual_seed(0)
    untrained = Tiny().build()[0].half().float().state_dict()
    early = weights(tmp_path / "tiny@early")
    assert torch.equal(early["transformer.wte.weight"], untrained["transformer.wte.weight"])
    assert not torch.equal(
        early["transformer.h.0.mlp.c_fc.weight"], untrained["transformer.h.0.mlp.c_fc.weight"]
    )


@pytest.mark.parametrize("place", [("second", 7), ("second", 12)])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(tmp_path, place):
    whole = train(Tiny(), tmp_path / "whole", device="cpu", save_every=5)
    with pytest.raises(Stopped):
        train(Tiny(), tmp_path / "broken", device="cpu", save_every=5, show=stop_at(*place))
    assert (tmp_path / "broken" / STATE).is_file()
    assert same(weights(train(Tiny(), tmp_path / "broken", device="cpu", save_every=5)), weights(whole))


def test_a_stopped_run_of_another_recipe_is_refused(tmp_path):
    with pytest.raises(Stopped):
        train(Tiny(), tmp_path / "tiny", device="cpu", save_every=5, show=stop_at("second", 7))

    class Other(Tiny):
        name = "other"

    with pytest.raises(InputError, match="another recipe"):
        train(Other(), tmp_path / "tiny", device="cpu", save_every=5)
    train(Other(), tmp_path / "tiny", device="cpu", save_every=5, resume=False)


def test_a_damaged_state_is_refused(tmp_path):
    (tmp_path / STATE).write_bytes(b"half of it")
    with pytest.raises(InputError, match="stopped run in the folder is damaged"):
        train(Tiny(), tmp_path, device="cpu")
    train(Tiny(), tmp_path, device="cpu", resume=False)


def test_where_nothing_can_be_written_or_computed(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="folder cannot be made"):
        train(Tiny(), tmp_path / "file", device="cpu")
    with pytest.raises(InputError, match="no device 'abacus'"):
        train(Tiny(), tmp_path / "tiny", device="abacus")
    assert not (tmp_path / "tiny").exists()


def test_the_folder_may_be_the_one_we_are_in(tmp_path, monkeypatch):
    place = tmp_path / "tiny"
    place.mkdir()
    monkeypatch.chdir(place)
    train(Tiny(), Path(), device="cpu")
    assert (tmp_path / "tiny@early" / "config.json").is_file()


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    class Broken(Tiny):
        def loss(self, model, phase, batch):
            return super().loss(model, phase, batch)[0] * float("nan"), {}

    with pytest.raises(InputError, match="loss of tiny is nan"):
        train(Broken(), tmp_path / "tiny", device="cpu", save_every=5)
    assert not (tmp_path / "tiny" / "config.json").exists()
