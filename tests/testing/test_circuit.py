"""The hand-built circuit model: what captures, ablations, patches and repairs must find is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
import torch

import headwise as hw
from headwise import fixes
from headwise.testing.circuit import (
    BOS,
    FILLERS,
    HEAD_WIDTH,
    HEADS,
    IND_HEADS,
    INERT_HEADS,
    IOI_HEADS,
    LAYERS,
    ind_prompts,
    ioi_prompts,
    known_circuit,
    logit_difference,
)

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

ALL_HEADS = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
S2 = 5
"""Position of the repeated name in an IOI prompt."""


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return known_circuit()


class Task:
    """Prompts of one task with their answers."""

    def __init__(self, prompts: Iterable[tuple[torch.Tensor, int, int]]) -> None:
        ids, right, wrong = zip(*prompts, strict=True)
        self.ids, self.right, self.wrong = torch.stack(ids), torch.tensor(right), torch.tensor(wrong)

    def difference(self, model: GPT2LMHeadModel, ids: torch.Tensor | None = None) -> torch.Tensor:
        """(example,) logit difference."""
        with torch.no_grad():
            logits = model(input_ids=self.ids if ids is None else ids).logits
        return logit_difference(logits, self.right, self.wrong)

    def accuracy(self, model: GPT2LMHeadModel) -> float:
        """Share of prompts whose right answer has the largest logit."""
        with torch.no_grad():
            best = model(input_ids=self.ids).logits[:, -1].argmax(-1)
        return (best == self.right).float().mean().item()


@pytest.fixture(scope="module")
def ioi() -> Task:
    return Task(ioi_prompts())


@pytest.fixture(scope="module")
def ind() -> Task:
    return Task(ind_prompts())


def test_the_model_solves_both_tasks(model: GPT2LMHeadModel, ioi: Task, ind: Task) -> None:
    for task in (ioi, ind):
        assert task.accuracy(model) == 1.0
        torch.testing.assert_close(task.difference(model), torch.ones(len(task.ids)), rtol=0, atol=1e-5)


def one_hot(keys: list[int]) -> torch.Tensor:
    return torch.eye(8)[keys]


def uniform() -> torch.Tensor:
    return torch.ones(8, 8).tril() / torch.arange(1, 9)[:, None]


def test_patterns_are_what_the_roles_say(model: GPT2LMHeadModel, ioi: Task) -> None:
    with hw.capture(model, stats=False, maps=True) as trace, torch.no_grad():
        model(input_ids=ioi.ids[:1])  # BOS a f b g b h END
    expected = {
        (0, 0): one_hot([0, 0, 1, 2, 3, 4, 5, 6]),
        (0, 1): one_hot([0, 0, 0, 0, 0, 3, 0, 0]),
        (0, 3): one_hot([0] * 8),
        (1, 0): one_hot([0, 0, 0, 0, 0, 4, 0, 0]),
        (1, 1): one_hot([0, 0, 0, 0, 0, 5, 5, 5]),
        (2, 0): mover_on_ioi(),
    }
    for layer, head in ALL_HEADS:
        captured = trace.maps[trace.site(layer)][0, head]
        pattern = expected.get((layer, head), uniform())
        torch.testing.assert_close(captured, pattern, rtol=0, atol=1e-6, msg=f"head {layer}.{head}")


def mover_on_ioi() -> torch.Tensor:
    """Without a flag, and with nothing gathered, the mover is split between the candidates so far."""
    pattern = one_hot([0, 1, 1, 1, 1, 1, 1, 1])
    pattern[3:5] = (one_hot([1]) + one_hot([3])) / 2
    pattern[5] = torch.tensor([0, 1, 0, 0, 1, 0, 0, 0]) / 2
    return pattern


ZERO_ABLATION = {(0, 0): 1.0498, (1, 0): 1.1640, (0, 1): -0.3629, (1, 1): -0.4058, (2, 0): 0.0}


@pytest.mark.parametrize("head", ALL_HEADS, ids=str)
def test_zero_ablation(model: GPT2LMHeadModel, ioi: Task, head: tuple[int, int]) -> None:
    with hw.patch(model, fixes.ZeroHeads(heads=(head,))):
        mean = ioi.difference(model).mean().item()
    assert mean == pytest.approx(ZERO_ABLATION.get(head, 1.0), abs=1e-3)


def swap_subject(task: Task) -> torch.Tensor:
    """The repeated name becomes the other one: the answer flips."""
    ids = task.ids.clone()
    ids[:, S2] = task.right
    return ids


def third_name(task: Task) -> torch.Tensor:
    """The repeated name becomes a third one: nothing is repeated."""
    ids = task.ids.clone()
    for row, right, wrong in zip(ids, task.right, task.wrong, strict=True):
        row[S2] = next(name for name in range(4, 12) if name not in (right, wrong))
    return ids


def swap_query(task: Task) -> torch.Tensor:
    """The last token becomes the other filler."""
    ids = task.ids.clone()
    ids[:, -1] = FILLERS[2]
    return ids


def swap_keys(task: Task) -> torch.Tensor:
    """The two fillers in the context change places."""
    ids = task.ids.clone()
    ids[:, 3], ids[:, 5] = FILLERS[2], FILLERS[1]
    return ids


def patching_effects(
    model: GPT2LMHeadModel, task: Task, corrupt: torch.Tensor, *, denoise: bool
) -> dict[tuple[int, int], float]:
    """Effect of replacing z of each head, at all positions, by its value in the other run.

    Denoising puts clean values into the corrupt run and is 1 when that restores the clean logit difference;
    noising does the reverse and is 1 when the corrupt one appears.
    """
    source, target = (task.ids, corrupt) if denoise else (corrupt, task.ids)
    with hw.capture(model, stats=False, heads=True) as trace, torch.no_grad():
        model(input_ids=source)
    there = task.difference(model, source).mean()
    here = task.difference(model, target).mean()
    effects = {}
    for layer, head in ALL_HEADS:
        value = trace.heads[trace.site(layer)]
        with hw.patch(model, fixes.Replace(quantity="z", layer=layer, value=value, heads=(head,))):
            patched = task.difference(model, target).mean()
        effects[layer, head] = ((patched - here) / (there - here)).item()
    return effects


@pytest.mark.parametrize(
    ("task", "corruption", "denoise", "expected"),
    [
        ("ioi", swap_subject, True, {(1, 1): 1.0, (2, 0): 1.0}),
        pytest.param("ioi", swap_subject, False, {(1, 1): 1.0, (2, 0): 1.0}, marks=pytest.mark.slow),
        ("ioi", third_name, False, {(0, 1): 1.3444, (1, 1): 1.3444, (2, 0): 1.0}),
        pytest.param("ioi", third_name, True, {(1, 1): 0.5189, (2, 0): 1.0}, marks=pytest.mark.slow),
        ("ind", swap_query, True, {(1, 0): 1.0, (2, 0): 1.0}),
        pytest.param("ind", swap_query, False, {(1, 0): 1.0, (2, 0): 1.0}, marks=pytest.mark.slow),
        pytest.param("ind", swap_keys, True, {(0, 0): 1.0, (1, 0): 1.0, (2, 0): 1.0}, marks=pytest.mark.slow),
        ("ind", swap_keys, False, {(0, 0): 1.0, (1, 0): 1.0, (2, 0): 1.0}),
    ],
)
def test_single_head_patching(model, request, task, corruption, denoise, expected) -> None:
    prompts = request.getfixturevalue(task)
    effects = patching_effects(model, prompts, corruption(prompts), denoise=denoise)
    assert effects == pytest.approx({head: expected.get(head, 0.0) for head in ALL_HEADS}, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "corruptions", "circuit"),
    [("ioi", (swap_subject, third_name), IOI_HEADS), ("ind", (swap_query, swap_keys), IND_HEADS)],
)
def test_two_corruptions_together_find_the_circuit(model, request, task, corruptions, circuit) -> None:
    prompts = request.getfixturevalue(task)
    found = set()
    for corruption in corruptions:
        effects = patching_effects(model, prompts, corruption(prompts), denoise=False)
        found |= {head for head, effect in effects.items() if effect > 0.1}
    assert found == circuit


@pytest.fixture
def broken() -> GPT2LMHeadModel:
    """The model without its duplicate-token head."""
    model = known_circuit()
    with torch.no_grad():
        model.transformer.h[0].attn.c_proj.weight[HEAD_WIDTH : 2 * HEAD_WIDTH] = 0
    return model


def test_one_row_of_one_head_repairs_the_broken_model(broken: GPT2LMHeadModel, ioi: Task) -> None:
    assert ioi.accuracy(broken) == 0.0
    assert ioi.difference(broken).mean().item() == pytest.approx(-0.3629, abs=1e-3)
    with hw.patch(broken, fixes.SetRows(heads=((1, 1),), row=-1, weights={S2: 1.0})):
        assert ioi.accuracy(broken) == 1.0
        assert ioi.difference(broken).mean().item() == pytest.approx(1.0498, abs=1e-3)
    with hw.patch(broken, fixes.SetRows(heads=((1, 2),), row=-1, weights={S2: 1.0})):
        assert ioi.accuracy(broken) == 0.0
    assert ioi.accuracy(broken) == 0.0


def test_the_repair_moves_the_mover_to_the_right_name(broken: GPT2LMHeadModel, ioi: Task) -> None:
    def attention() -> tuple[float, float]:
        with hw.capture(broken, stats=False, maps=True) as trace:
            ioi.difference(broken)
        last = trace.maps[trace.site(2)][:, 0, -1]
        on_right = last.masked_fill(ioi.ids != ioi.right[:, None], 0).sum(-1).mean().item()
        on_wrong = last.masked_fill(ioi.ids != ioi.wrong[:, None], 0).sum(-1).mean().item()
        return on_right, on_wrong

    assert attention() == pytest.approx((1 / 3, 2 / 3), abs=1e-3)
    with hw.patch(broken, fixes.SetRows(heads=((1, 1),), row=-1, weights={S2: 1.0})):
        assert attention() == pytest.approx((1.0, 0.0), abs=1e-3)


def test_inert_heads_are_inert(model: GPT2LMHeadModel, ioi: Task) -> None:
    with hw.patch(model, fixes.ZeroHeads(heads=tuple(sorted(INERT_HEADS)))):
        torch.testing.assert_close(ioi.difference(model), torch.ones(len(ioi.ids)), rtol=0, atol=1e-5)


def test_the_statistics_name_the_sinks(model: GPT2LMHeadModel, ioi: Task) -> None:
    with hw.capture(model) as trace, torch.no_grad():
        model(input_ids=ioi.ids[:1])
    received = trace.records[trace.site(0)]["received"]
    assert received[0, 3, BOS].item() == pytest.approx(8.0, abs=1e-5)
    assert received[0, 0].tolist() == pytest.approx([2, 1, 1, 1, 1, 1, 1, 0], abs=1e-5)
