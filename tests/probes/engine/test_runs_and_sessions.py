"""What belongs to which run, to which thread and to which model."""

from __future__ import annotations

import copy
import gc
import threading
import time
import weakref

import pytest
import torch

import headwise as hw
from headwise import fixes
from headwise.layout import ROLES
from headwise.probes.check.reference import Reference
from headwise.probes.engine.installed_hooks import InstalledHooks
from headwise.probes.engine.instrumentation import attached, instrument
from headwise.probes.engine.session import Session
from headwise.probes.trace.options import CaptureOptions
from tests.tiny import ARCHITECTURES
from tests.tiny.caches import cache_of, with_cache


def ids(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(5, 90, (batch, length), generator=torch.Generator().manual_seed(seed))


def roles_of(trace: hw.Trace, tower: str = "text") -> list[list[str]]:
    return [[ROLES[role] for role in row] for row in trace.layout.axes[tower].roles.tolist()]


class TestThreads:
    def test_hubs_made_at_once_become_one(self, llama):
        first, second = instrument(llama), instrument(llama)
        sessions = [Session(llama, None, first.language, options=CaptureOptions()) for _ in range(2)]
        owner = first.add(sessions[0])
        assert second.add(sessions[1]) is owner
        owner.remove(sessions[0])
        owner.remove(sessions[1])
        assert llama.config._attn_implementation == "sdpa"

    def test_many_threads_leave_the_model_as_it_was(self, llama):
        expected = llama(ids(1, 9)).logits.detach()
        failures: list[BaseException] = []

        def work(seed: int) -> None:
            try:
                for _ in range(4):
                    with torch.no_grad(), hw.capture(llama) as trace:
                        llama(ids(2, 7, seed))
                    assert trace.examples == 2
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert llama.config._attn_implementation == "sdpa"
        assert torch.equal(llama(ids(1, 9)).logits, expected)

    def test_the_doctor_sees_its_own_forwards_only(self, llama):
        inputs = {"input_ids": ids(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}
        inputs["attention_mask"][1, :4] = 0
        with torch.no_grad():
            expected = llama(**inputs).logits
        apart, stop = [], threading.Event()

        def work() -> None:
            with torch.no_grad():
                while not stop.is_set():
                    apart.append(
                        float((llama(**inputs).logits - expected)[inputs["attention_mask"] == 1].abs().max())
                    )

        thread = threading.Thread(target=work)
        thread.start()
        try:
            reports = [hw.doctor(llama) for _ in range(5)]
        finally:
            stop.set()
            thread.join()
        assert all(report.ok for report in reports), reports[0].problems
        assert max(apart) < 1e-4

    @pytest.mark.parametrize("name", ["llama", "bert"])
    def test_a_forward_is_right_while_another_thread_attaches_slowly(self, name, monkeypatch):
        choose = InstalledHooks._choose_kernels

        def slowly(hooks: InstalledHooks) -> None:
            time.sleep(0.004)
            choose(hooks)
            time.sleep(0.004)

        monkeypatch.setattr(InstalledHooks, "_choose_kernels", slowly)
        model = ARCHITECTURES[name].build().eval()
        inputs = {"input_ids": ids(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}
        inputs["attention_mask"][1, :4] = 0
        real = inputs["attention_mask"] == 1
        with torch.no_grad():
            expected = model(**inputs)[0]
        apart, stop = [], threading.Event()

        def work() -> None:
            with torch.no_grad():
                while not stop.is_set():
                    apart.append(float((model(**inputs)[0] - expected)[real].abs().max()))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(20):
                instrumented = instrument(model)
                session = Reference(
                    model, None, instrumented.language
                )  # whose masks are those of eager attention
                with attached(instrumented, session):
                    time.sleep(0.002)
        finally:
            stop.set()
            thread.join()
        assert len(apart) > 20
        assert max(apart) < 1e-4


class TestRuns:
    def test_a_forward_and_a_generation_are_two_examples(self, bart):
        with hw.capture(bart) as trace:
            bart(input_ids=ids(1, 6), decoder_input_ids=ids(1, 3))
            bart.generate(ids(2, 9, 1), max_new_tokens=3, do_sample=False)
        for tower in ("encoder", "decoder"):
            assert len(trace.records[trace.site(0, tower)]["n_queries"]) == 3

    def test_two_inputs_of_an_encoder_are_two_examples(self):
        model = ARCHITECTURES["distilbert"].build().eval()
        with hw.capture(model) as trace:
            model(torch.tensor([[5, 6, 7]]))
            model(torch.tensor([[5, 6, 7, 8, 9]]))
        assert trace.examples == 2
        assert "generated" not in {role for row in roles_of(trace) for role in row}

    def test_the_prompt_may_come_in_chunks(self, llama):
        prompt = ids(1, 12)
        with hw.capture(llama, rows=[-1]) as trace:
            cache = cache_of(llama(prompt[:, :5], use_cache=True))
            cache = cache_of(llama(prompt[:, 5:], **with_cache(llama, cache), use_cache=True))
            llama(ids(1, 1), **with_cache(llama, cache), use_cache=True)
        assert roles_of(trace)[0][:12] == ["first"] + ["content"] * 11
        assert roles_of(trace)[0][12:] == ["generated"]
        assert trace.positions[trace.site(0)].tolist()[-1] == 11

    def test_kept_logits_are_no_drafts(self, llama):
        with hw.capture(llama, rows=[-1]) as trace:
            llama(ids(1, 10), logits_to_keep=5)
        assert trace.positions[trace.site(0)].tolist() == [9]

    def test_uncached_beams_are_one_run(self, llama):
        with hw.capture(llama, beams="all") as trace:
            llama.generate(
                ids(1, 4), num_beams=3, max_new_tokens=5, do_sample=False, use_cache=False, pad_token_id=0
            )
        assert trace.examples == 3

    def test_copied_caches_are_their_own(self, llama):
        with torch.no_grad(), hw.capture(llama):
            cache = cache_of(llama(ids(1, 10), use_cache=True))
            twin = copy.deepcopy(cache)
            twin.crop(-6)
            assert (cache.get_seq_length(), twin.get_seq_length()) == (10, 4)
        twin.crop(-1)
        assert twin.get_seq_length() == 3

    def test_a_tuple_hands_on_its_cache(self, llama):
        with hw.capture(llama) as trace:
            cache = llama(ids(1, 6), use_cache=True, return_dict=False)[1]
            llama(ids(1, 1), **with_cache(llama, cache), use_cache=True, return_dict=False)
        assert trace.examples == 1

    def test_a_finished_capture_is_held_by_its_trace_alone(self, llama):
        handle = hw.patch(llama, fixes.ZeroHeads(heads=((0, 1),)))
        with hw.capture(llama, maps=True) as trace:
            llama(ids(1, 8))
        kept = weakref.ref(trace.maps[trace.site(0)])
        del trace
        gc.collect()
        assert kept() is None
        handle.remove()


class TestRowsOfOtherTowers:
    def test_the_last_row_is_that_of_the_tower(self, bart):
        with hw.capture(bart, rows=[-1], stats=False) as trace:
            bart(input_ids=ids(1, 7), decoder_input_ids=ids(1, 3))
        assert trace.positions[trace.site(0, "encoder")].tolist() == [6]
        assert trace.positions[trace.site(0, "decoder")].tolist() == [2]

    def test_an_edit_meets_the_last_row_of_the_encoder(self, bart):
        fix = fixes.SetRows(heads=((0, 0),), row=-1, weights={2: 1.0}, tower="encoder")
        with hw.patch(bart, fix), hw.capture(bart, maps=True) as trace:
            bart(input_ids=ids(1, 7), decoder_input_ids=ids(1, 3))
        row = trace.maps[trace.site(0, "encoder")][0, 0, 6]
        assert row.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]

    def test_packed_images_have_a_residual(self):
        row = ARCHITECTURES["qwen2_vl"]
        model = row.build().eval()
        with hw.capture(model, residual=True) as trace:
            model(**row.inputs["plain"]())
        assert {site.tower for site in trace.residual} == {"text", "vision"}


class TestFallback:
    def test_silenced_heads_keep_their_pattern_in_the_records(self):
        model = ARCHITECTURES["gptj"].build().eval()
        with hw.patch(model, fixes.ZeroHeads(heads=((0, 0),))), hw.capture(model, maps=True) as trace:
            model(ids(1, 8))
        pattern = trace.maps[trace.site(0)]
        torch.testing.assert_close(pattern.sum(-1), torch.ones(1, 4, 8))

    @pytest.mark.parametrize("name", ["gptj", "bloom"])
    def test_scaling_that_is_not_a_factor_is_refused(self, name):
        class Shift:
            def scale(self, z, site, context):
                return z + 1

        model = ARCHITECTURES[name].build().eval()
        if all(entry.interface for entry in instrument(model).modules.values()):
            pytest.skip("this release runs the model's attention through the interface")
        with hw.patch(model, Shift()), pytest.raises(hw.FixError, match="cannot be replaced"):
            model(ids(1, 5))


class TestReplace:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"positions": [-1]}, "from 0"),
            ({"heads": 1}, "list of numbers"),
            ({"quantity": "residual", "kind": "cross"}, "residual stream"),
            ({"quantity": "zz"}, "no quantity"),
            ({"value": [1.0]}, "must be a tensor"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, options, message):
        given = {"quantity": "z", "layer": 0, "value": torch.zeros(1, 8, 4, 8)} | options
        with pytest.raises(hw.FixError, match=message):
            fixes.Replace(**given)

    @pytest.mark.parametrize("value", [torch.zeros(1, 8), torch.zeros(1, 8, 1, 8), torch.zeros(3, 8, 4, 8)])
    def test_a_value_that_does_not_fit_is_refused(self, llama, value):
        fix = fixes.Replace(quantity="z", layer=0, value=value, heads=[1])
        with hw.patch(llama, fix), pytest.raises(hw.FixError, match="does not fit"):
            llama(ids(1, 8))

    def test_keys_in_a_static_cache(self, llama):
        prompt = ids(1, 8)
        with hw.capture(llama, stats=False, qkv=True) as trace:
            llama(prompt)
        keys = trace.keys[trace.site(1)]
        plain = llama.generate(
            prompt, max_new_tokens=4, do_sample=False, cache_implementation="static", pad_token_id=0
        )
        with hw.patch(llama, fixes.Replace(quantity="k", layer=1, value=keys)):
            same = llama.generate(
                prompt, max_new_tokens=4, do_sample=False, cache_implementation="static", pad_token_id=0
            )
        assert torch.equal(plain, same)


class TestBadArguments:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: fixes.MaskKeys(keys=0),
            lambda: fixes.MaskKeys(keys="12"),
            lambda: fixes.SetRows(heads=((0, 0),), row="a", weights={0: 1.0}),
            lambda: fixes.SetRows(heads=((0, 0),), row=0, weights=3),
            lambda: fixes.ScaleHeads(heads=((0, 0),), factor="x"),
            lambda: fixes.ScaleHeads(heads=3, factor=1.0),
        ],
    )
    def test_fixes_say_what_they_need(self, make):
        with pytest.raises(hw.FixError):
            make()

    def test_rows_must_be_a_list(self, llama):
        with pytest.raises(hw.InputError, match="list of positions"), hw.capture(llama, rows=3):
            pass

    def test_rows_beyond_the_input_are_named_as_such(self, llama):
        with (
            pytest.raises(hw.CaptureError, match="rows lie within"),
            hw.capture(llama, stats=False, rows=[500]),
        ):
            llama(ids(1, 6))

    def test_an_inner_model_is_not_attached_beside_the_outer_one(self):
        model = ARCHITECTURES["clip"].build().eval()
        with hw.patch(model, _Idle()), pytest.raises(hw.CaptureError, match="same model both times"):
            hw.patch(model.vision_model, fixes.ZeroHeads(heads=((0, 0),)))


class _Idle:
    def edit(self, pattern, site, context):
        return pattern
