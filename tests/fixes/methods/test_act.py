"""Attention calibration: known answers, a NumPy twin, running means in every way of decoding."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.errors import FixError, InputError, NotFitted
from headwise.functional.redistribution import calibrate
from headwise.subject.calibration import Prompts
from headwise.testing.inputs import alone, first, forward, random_ids
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache
from tests.tiny.shared import shared

PATTERN = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.4, 0.4, 0.2, 0], [0.4, 0.3, 0.2, 0.1]])
ALL = tuple((layer, head) for layer in (0, 1) for head in range(4))
FIX = hw.fixes.ACT(heads=ALL, alpha=1.5, min_rows=2)


class Fixed:
    """A model whose attention is a given pattern: what `edit` is shown can be chosen."""

    @staticmethod
    def edit(fix: hw.fixes.ACT, pattern: torch.Tensor, blocks: int = 0) -> torch.Tensor:
        from headwise.layout import Axis, TokenLayout
        from headwise.probes.attach.sites import Site
        from headwise.probes.context import Context
        from headwise.probes.generation.generation import Generation
        from headwise.probes.memory import Memory

        count = len(pattern)
        run = Generation(
            "text", TokenLayout({"text": Axis("text", torch.full((1, count), 6, dtype=torch.uint8))})
        )
        run.prompt = run.length = count
        site, memory = Site("text", "self", 0), Memory()
        given_ = pattern[None, None]
        parts = []
        for start in range(0, count, blocks or count):
            rows = slice(start, start + (blocks or count))
            at = torch.arange(count)[rows]
            context = Context(
                positions=at,
                run=run,
                tower="text",
                memory=memory,
                visibility=lambda at=at: (torch.arange(count) <= at[:, None])[None],
            )
            parts.append(fix.edit(given_[:, :, rows].clone(), site, context))
        return torch.cat(parts, 2)[0, 0]


def twin(a: np.ndarray, *, beta: float, alpha: float, min_rows: int, full: bool) -> np.ndarray:
    """The rule in float64, from its definition: mean over rows j..i of column j, threshold alpha / (i + 1)."""
    count, new = len(a), a.astype(np.float64).copy()
    for i in range(count):
        last = count - 1 if full else i
        mean = [a[j : last + 1, j].mean() for j in range(last + 1)]
        sinks = [j for j in range(1, last + 1) if mean[j] > alpha / (last + 1) and last - j + 1 >= min_rows]
        kept = [j for j in range(count) if j not in sinks]
        freed, rest = (1 - beta) * sum(a[i, sinks]), sum(a[i, kept])
        if rest > 1e-6:
            new[i, kept] += freed * a[i, kept] / rest
            new[i, sinks] *= beta
    return new


class TestRule:
    def test_known_answer(self) -> None:
        fix = hw.fixes.ACT(heads=((0, 0),), tau=0.25, beta=0.4, min_rows=1, mode="full")
        expected = [
            [1.0, 0, 0, 0],
            [0.8, 0.2, 0, 0],
            [0.56, 0.16, 0.28, 0],
            [0.502857, 0.12, 0.251429, 0.125714],
        ]
        torch.testing.assert_close(Fixed.edit(fix, PATTERN), torch.tensor(expected), atol=1e-6, rtol=0)

    def test_released_code_spares_the_first_sink_found(self) -> None:
        """Column means (0.325, 0.767, ...) with tau 0.35: position 0 is below, and the true sink is spared."""
        pattern = torch.tensor([[1.0, 0, 0, 0], [0.1, 0.9, 0, 0], [0.1, 0.8, 0.1, 0], [0.1, 0.6, 0.2, 0.1]])
        options = {"heads": ((0, 0),), "tau": 0.35, "beta": 0.4}
        assert torch.equal(Fixed.edit(hw.fixes.ACT(**options, variant="released"), pattern), pattern)
        ours = Fixed.edit(hw.fixes.ACT(**options, mode="full", min_rows=1), pattern)
        torch.testing.assert_close(ours[3, 1].item(), 0.24)

    @settings(max_examples=60, deadline=None)
    @given(seed=st.integers(0, 10**6), beta=st.floats(0, 1), full=st.booleans(), blocks=st.integers(1, 9))
    def test_agrees_with_the_twin(self, seed: int, beta: float, full: bool, blocks: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        scores = torch.randn(9, 9, generator=draw) * 2
        pattern = scores.masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf).softmax(-1)
        fix = hw.fixes.ACT(
            heads=((0, 0),), beta=beta, alpha=2.0, min_rows=2, mode="full" if full else "causal"
        )
        if fix.neutral:
            return
        new = Fixed.edit(fix, pattern, 0 if full else blocks)
        expected = twin(pattern.double().numpy(), beta=beta, alpha=2.0, min_rows=2, full=full)
        np.testing.assert_allclose(new.numpy(), expected, atol=1e-5)

    def test_laws(self) -> None:
        sinks = torch.tensor([[False, True, False, False]])
        new = calibrate(PATTERN, sinks, beta=0.3)
        torch.testing.assert_close(new.sum(-1), torch.ones(4))
        torch.testing.assert_close(new[:, 1], PATTERN[:, 1] * 0.3)
        torch.testing.assert_close(new[3, 2] / new[3, 0], PATTERN[3, 2] / PATTERN[3, 0])
        only = torch.tensor([[0.0, 1.0]])
        assert torch.equal(calibrate(only, torch.tensor([[False, True]])), only)

    def test_short_texts_have_no_sinks(self) -> None:
        """A mean cannot exceed 1, and alpha / n does while n is at most alpha."""
        fix = hw.fixes.ACT(heads=((0, 0),), alpha=5.0, min_rows=1)
        assert torch.equal(Fixed.edit(fix, PATTERN), PATTERN)


class TestModel:
    @pytest.mark.parametrize("architecture", ["gpt2", "llama", "gemma2"])
    def test_rows_depend_on_nothing_behind_them(self, architecture: str) -> None:
        model, ids = shared(architecture), random_ids(1, 12, seed=1)
        other = ids.clone()
        other[:, 8] = (other[:, 8] + 1) % 90 + 5
        with hw.patch(model, FIX):
            one, two = (first(forward(model, {"input_ids": x})) for x in (ids, other))
        assert torch.equal(one[:, :8], two[:, :8])

    def test_full_means_leak_and_say_so(self) -> None:
        model, ids = shared("llama"), random_ids(1, 12, seed=1)
        fix = replace(FIX, mode="full")
        assert fix.leaks_future
        assert not FIX.leaks_future
        other = ids.clone()
        other[:, 8] = (other[:, 8] + 1) % 90 + 5
        with hw.patch(model, fix):
            one, two = (first(forward(model, {"input_ids": x})) for x in (ids, other))
        assert not torch.allclose(one[:, :8], two[:, :8], atol=1e-5)

    def test_prompt_in_pieces_and_row_by_row_equal_one_forward(self) -> None:
        model, ids = shared("llama"), random_ids(1, 14, seed=2)
        with hw.patch(model, FIX):
            whole = first(forward(model, {"input_ids": ids}))
            cache, pieces = None, []
            for part in (ids[:, :5], ids[:, 5:11], ids[:, 11:12], ids[:, 12:13], ids[:, 13:]):
                output = model(input_ids=part, **with_cache(model, cache), use_cache=True)
                cache = cache_of(output)
                pieces.append(output.logits)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-5)

    def test_long_prompts_run_in_tiles(self) -> None:
        """4 heads x 600 x 600 rows do not fit the whole-pattern limit: rows come block by block."""
        model = ARCHITECTURES["gpt2"]
        ids = random_ids(1, 600, seed=3)
        from transformers import GPT2Config, GPT2LMHeadModel

        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = GPT2LMHeadModel(
                GPT2Config(n_layer=2, n_head=4, n_embd=32, n_positions=600, vocab_size=128)
            ).eval()
            for p in model.parameters():
                torch.nn.init.normal_(p, std=0.3)
        with torch.no_grad(), hw.patch(model, FIX), hw.capture(model, maps=True) as exact:
            whole = model(input_ids=ids).logits
        assert exact.sites
        with torch.no_grad(), hw.patch(model, FIX):
            tiled = model(input_ids=ids).logits
        torch.testing.assert_close(tiled, whole, atol=2e-4, rtol=1e-4)

    def test_drafts_of_assisted_generation_that_are_rejected_leave_no_trace(self) -> None:
        model, helper = shared("llama"), ARCHITECTURES["llama"].build()
        with torch.no_grad():
            for p in helper.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(5)) * 0.02)
        ids = random_ids(1, 10, seed=4)
        options = {"max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
        with hw.patch(model, FIX):
            plain = model.generate(ids, **options)
            assisted = model.generate(ids, assistant_model=helper, **options)
        assert torch.equal(plain, assisted)

    def test_beams_carry_their_own_means(self) -> None:
        model, ids = shared("llama"), random_ids(2, 10, seed=6)
        options = {
            "num_beams": 3,
            "max_new_tokens": 8,
            "min_new_tokens": 8,
            "do_sample": False,
            "pad_token_id": 0,
        }
        with hw.patch(model, FIX):
            cached = model.generate(ids, **options)
            uncached = model.generate(ids, use_cache=False, **options)
        assert torch.equal(cached, uncached)

    def test_decoding_can_be_left_alone(self) -> None:
        model, ids = shared("llama"), random_ids(1, 10, seed=7)
        options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
        options |= {"output_logits": True, "return_dict_in_generate": True}
        with hw.patch(model, replace(FIX, decode="off")):
            cached = model.generate(ids, **options)
            uncached = model.generate(ids, use_cache=False, **options)
        torch.testing.assert_close(
            torch.stack(cached.logits), torch.stack(uncached.logits), atol=1e-5, rtol=1e-5
        )

    def test_a_cache_rolled_back_too_far_is_an_error(self) -> None:
        model, ids = shared("llama"), random_ids(1, 10, seed=8)
        with hw.patch(model, FIX):
            cache = cache_of(model(input_ids=ids, use_cache=True))
            for step in range(3):
                model(input_ids=ids[:, step : step + 1], **with_cache(model, cache))
            cache.crop(-2)
            with pytest.raises(FixError, match="rolled back"):
                model(input_ids=ids[:, 5:6], **with_cache(model, cache))

    def test_heads_that_are_not_chosen_are_bit_equal(self) -> None:
        model, text = shared("llama"), alone(0)
        with hw.capture(model, maps=True) as plain:
            forward(model, text)
        with hw.patch(model, replace(FIX, heads=((1, 2),))), hw.capture(model, maps=True) as fixed:
            forward(model, text)
        site = plain.sites[-1]
        assert torch.equal(plain.maps[site][:, [0, 1, 3]], fixed.maps[site][:, [0, 1, 3]])
        assert not torch.allclose(plain.maps[site][:, 2], fixed.maps[site][:, 2], atol=1e-4)

    def test_factor_one_is_bit_identical(self) -> None:
        model, text = shared("llama"), alone(0)
        plain = first(forward(model, text))
        with hw.patch(model, replace(FIX, beta=1.0)):
            assert torch.equal(first(forward(model, text)), plain)


class Scored:
    """Held-out examples on which some heads help and others do not."""

    name = "a made-up set"
    prompts = ({"text": "a"},)

    def __init__(self, good: set[tuple[int, int]]) -> None:
        self.good, self.passes = good, 0

    def scores(self, subject: hw.Subject) -> list[float]:
        self.passes += 1
        instrumented = vars(subject.model).get("_headwise")
        heads = set() if instrumented is None else set(instrumented.sessions[0].fixes[0].heads)
        return [1.0 if heads & self.good else 0.5] * 40


class TestFit:
    def test_heads_that_help_alone_are_kept(self) -> None:
        subject, data = hw.wrap(shared("llama")), Scored({(0, 1), (1, 3)})
        fix = hw.fixes.ACT(layers=(0, 1)).fit(subject, data)
        assert fix.heads == ((0, 1), (1, 3))
        assert "2 of 8 heads" in fix.source
        assert data.passes == 9

    def test_no_head_helps(self) -> None:
        fix = hw.fixes.ACT(layers=(0, 1), rule="significant").fit(hw.wrap(shared("llama")), Scored(set()))
        assert fix.heads == ()
        assert fix.neutral

    def test_a_gain_within_noise_is_not_significant(self) -> None:
        from headwise.fixes.head_search import better

        gain = np.array([1.0] * 6 + [-1.0] * 5 + [0.0] * 89)
        assert better(gain, "improves")
        assert not better(gain, "significant")
        assert better(np.array([1.0] * 12 + [0.0] * 88), "significant")

    def test_heads_that_do_nothing_are_kept_in_one_fit_of_twenty(self) -> None:
        from headwise.fixes.head_search import better, kept_by_chance

        draw = np.random.default_rng(0)
        gains = np.where(draw.random((60, 8, 60)) < 0.3, draw.normal(0, 0.3, (60, 8, 60)), 0.0)
        assert sum(better(one, "significant").any() for one in gains) <= 7  # 3 are expected, 8 in 1 of 100
        assert 3 <= kept_by_chance(gains[0], "improves") <= 5
        assert kept_by_chance(gains[0], "significant") < 0.1
        assert kept_by_chance(np.zeros((8, 60)), "improves") == 0

    def test_a_gain_that_is_large_for_one_head_is_not_for_the_best_of_many(self) -> None:
        from headwise.fixes.head_search import better

        alone = np.array([1.0] * 7 + [-1.0] + [0.0] * 32)
        draw = np.random.default_rng(1)
        others = draw.choice((-1.0, 0.0, 1.0), size=(60, 40))
        assert better(alone, "significant")
        assert not better(np.vstack([alone, others]), "significant")[0]

    def test_examples_about_one_thing_gain_or_lose_together(self) -> None:
        subject, data = hw.wrap(shared("llama")), Scored({(0, 1)})
        assert hw.fixes.ACT(layers=(0,)).fit(subject, data).heads == ((0, 1),)
        data.groups = [str(place // 10) for place in range(40)]
        assert hw.fixes.ACT(layers=(0,)).fit(subject, data).heads == ()

    def test_how_many_heads_chance_would_keep_is_said(self) -> None:
        subject, data = hw.wrap(shared("llama")), Scored({(0, 1), (1, 3)})
        found = hw.fixes.ACT(layers=(0, 1), rule="improves").fit(subject, data)
        assert "2 of 8 heads (by chance 0.87) raise the mean of a made-up set" in found.source
        found = hw.fixes.ACT(layers=(0, 1)).fit(subject, data)
        assert "2 of 8 heads (by chance 0.081) improve a made-up set" in found.source

    def test_prompts_without_answers(self) -> None:
        with pytest.raises(InputError, match="fitted on answers"):
            hw.fixes.ACT(layers=(0,)).fit(hw.wrap(shared("llama")), Prompts([{"text": "a"}]))

    def test_an_empty_set(self) -> None:
        with pytest.raises(InputError, match="nothing to fit on"):
            hw.fixes.ACT(layers=(0,)).fit(hw.wrap(shared("llama")), [])

    def test_unfitted_is_refused(self) -> None:
        model = shared("llama")
        with pytest.raises(NotFitted, match=r"hw\.fit"):
            hw.patch(model, hw.fixes.ACT())
        assert not [name for name in vars(model) if "headwise" in name]


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 1.5},
        {"alpha": 0.0},
        {"tau": -0.1},
        {"min_rows": 0},
        {"min_rows": 2.5},
        {"mode": "half"},
        {"heads": ((1, -1),)},
        {"heads": 3},
        {"rule": "any"},
    ],
)
def test_parameters_out_of_range(options: dict) -> None:
    with pytest.raises(FixError):
        hw.fixes.ACT(**options)


def test_heads_that_do_not_exist() -> None:
    with pytest.raises(FixError, match="L1H9"):
        hw.patch(shared("llama"), hw.fixes.ACT(heads=((1, 9),)))


@pytest.mark.parametrize(
    "heads",
    [
        ((2, 2),),
        ((2, 0), (2, 1), (2, 6), (2, 7)),
        ((0, 1), (3, 2)),
        *[tuple((2, head) for head in range(count)) for count in (2, 6, 8)],
    ],
)
def test_random_heads_of_the_planted_bench_are_as_many_and_others(heads, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    planted = importlib.import_module("planted")
    sets = planted.other_heads(heads, layers=4, per_layer=8, seed=0)
    own = {layer for layer, _ in heads}
    assert len(set(sets)) == len(sets) == (7 if len(heads) == 1 else planted.SETS)
    for chosen in sets:
        assert len(set(chosen)) == len(heads)
        assert not set(chosen) & set(heads)
    alone = 3 * len(heads) <= 8 * len(own)  # the rest of their layers is twice as many
    assert ({layer for chosen in sets for layer, _ in chosen} <= own) == alone
