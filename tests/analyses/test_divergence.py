"""Head divergence: the formulas, both readings of a question, known heads and planted faults, and bad input."""

from __future__ import annotations

import json
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.analyses._divergence.parts import part_of
from headwise.analyses._divergence.removal import without
from headwise.analyses.calls import analysis_call
from headwise.errors import CaptureError, HeadwiseError, InputError
from headwise.functional import divergence as formulas
from headwise.functional.redistribution import hide_keys
from headwise.probes.attach.sites import Site
from headwise.probes.reply import question
from headwise.probes.trace.trace import Trace
from headwise.subject.media import blank_image
from headwise.testing import known_circuit
from headwise.testing.circuit import ioi_prompts
from headwise.zoo.own_inputs import samples
from headwise.zoo_checks import faults
from tests.kit.cli import run
from tests.kit.traces import make_trace

DISTANCES = ("plain", "relative", "cosine", "written", "jensen_shannon", "total_variation")
REPLY = [20, 6, 9]


@pytest.fixture(scope="module")
def vlm():
    return hw.load("zoo:vlm")


@pytest.fixture(scope="module")
def speech():
    return hw.load("zoo:speech")


@pytest.fixture(scope="module")
def nmt():
    return hw.load("zoo:nmt")


@pytest.fixture(scope="module")
def lm():
    return hw.load("zoo:lm")


@pytest.fixture(scope="module")
def scene():
    return {**hw.zoo.sample("vlm").inputs, "reply": REPLY}


def head(result, layer, number, kind="self"):
    frame = result.frame
    return frame[(frame["layer"] == layer) & (frame["head"] == number) & (frame["kind"] == kind)][
        "divergence"
    ]


class TestFormulas:
    @given(st.integers(0, 10**6))
    @settings(max_examples=20, deadline=None)
    def test_twins(self, seed):
        draw = np.random.default_rng(seed)
        a, b, weight = draw.normal(size=(3, 4, 5)), draw.normal(size=(3, 4, 5)), draw.normal(size=(4, 5, 6))
        p, q = (draw.dirichlet(np.ones(7), size=3) for _ in "pq")
        one, two = torch.tensor(a), torch.tensor(b)
        far, norm = np.sqrt(((a - b) ** 2).sum(-1)), np.sqrt((a**2).sum(-1))
        cosine = 1 - (a * b).sum(-1) / norm / np.sqrt((b**2).sum(-1))
        written = np.sqrt((np.einsum("thw,hwd->thd", a - b, weight) ** 2).sum(-1))
        middle = (p + q) / 2
        js = ((p * np.log(p / middle)).sum(-1) + (q * np.log(q / middle)).sum(-1)) / 2
        for found, twin in (
            (formulas.head_divergence(one, two), far),
            (formulas.head_divergence(one, two, distance="relative"), far / (norm + 1e-6)),
            (formulas.head_divergence(one, two, distance="cosine"), cosine),
            (formulas.written_divergence(one, two, torch.tensor(weight)), written),
            (formulas.total_variation(torch.tensor(p), torch.tensor(q)), np.abs(p - q).sum(-1) / 2),
            (formulas.jensen_shannon(torch.tensor(p), torch.tensor(q)), js),
            (formulas.reliance(torch.tensor(far), k=2), np.sort(far, -1)[:, -2:].sum(-1)),
        ):
            np.testing.assert_allclose(found.numpy(), twin, rtol=1e-4, atol=1e-6)

    def test_golden_layer(self):
        """vision_language.md 13: head 7 is an outlier only where its output without image is large, too."""
        values, energy = torch.tensor([1.0, 2, 3, 4, 5, 6, 7, 20]), torch.tensor([1.0] * 7 + [30.0])
        for deviation in ("sample", "population"):
            found = formulas.without_outliers(values, energy, deviation=deviation)
            assert found.tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
        assert formulas.without_outliers(values, torch.ones(8)).tolist() == values.tolist()
        assert formulas.reliance(values) == 20

    def test_ends_of_the_scales(self):
        one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        assert formulas.jensen_shannon(one, two) == pytest.approx(math.log(2))
        assert formulas.total_variation(one, two) == 1
        assert formulas.jensen_shannon(one, one) == formulas.total_variation(one, one) == 0
        drawn = torch.randn(50, 3, 8, generator=torch.Generator().manual_seed(0))
        assert (formulas.head_divergence(drawn, drawn, distance="cosine") == 0).all()

    def test_hidden_keys_are_hidden_however_little_is_left(self):
        """A head with all but a billionth of its weight on the image reads the rest without it."""
        row = torch.tensor([[1.0, 1e-9, 3e-9]])
        hidden = hide_keys(row, torch.tensor([[True, False, False]]))
        torch.testing.assert_close(hidden, torch.tensor([[0.0, 0.25, 0.75]]))
        alone = torch.tensor([[1.0, 0.0]])
        assert torch.equal(hide_keys(alone, torch.tensor([[True, False]])), alone)


class TestReadings:
    @pytest.mark.parametrize("distance", DISTANCES)
    def test_an_image_replaced_by_itself_is_no_change(self, vlm, scene, distance):
        same = {**scene, "instead": {"image": scene["image"]}}
        found = hw.analyses.head_divergence(vlm, same, distance=distance)
        assert (found.frame["divergence"] == 0).all()
        assert found.summary == "With another image, no head changes."

    def test_a_blank_picture_made_blank_is_no_change(self, vlm, scene):
        flat = {**scene, "image": blank_image(scene["image"])}
        assert (hw.analyses.head_divergence(vlm, flat, how="blank").frame["divergence"] == 0).all()

    @pytest.mark.parametrize("how", ["mask", "blank"])
    def test_a_head_that_is_cut_off_from_the_image_does_not_change(self, vlm, scene, how):
        image = tuple(range(1, 37))
        before = hw.analyses.head_divergence(vlm, scene, how=how)
        with hw.patch(vlm, hw.fixes.MaskKeys(keys=image, heads=((0, 4),))):
            found = hw.analyses.head_divergence(vlm, scene, how=how)
        assert head(before, 0, 4).item() > 1
        rounding = 0 if how == "mask" else 1e-5  # of a softmax over other images, before they are hidden
        assert head(found, 0, 4).item() <= rounding
        assert head(found, 0, 5).item() > 0

    def test_a_mask_is_what_the_models_own_mask_does(self, vlm, scene):
        """Hidden before the softmax, by the attention mask, with the positions that the tokens have."""
        asked = question(vlm, scene, generate=1)
        places = torch.arange(asked.inputs["input_ids"].shape[1])[None]
        hidden = asked.inputs["attention_mask"].clone()
        hidden[:, 1:37] = 0
        outputs = []
        for mask in (asked.inputs["attention_mask"], hidden):
            inputs = {**asked.inputs, "attention_mask": mask, "position_ids": places}
            with hw.capture(vlm, heads=True, stats=False, sites="text") as trace, torch.no_grad():
                vlm.model(**inputs)
            outputs.append(torch.stack([trace.heads[site][0, -3:] for site in trace.heads]))
        twin = (outputs[0] - outputs[1]).norm(dim=-1).mean(1).flatten()
        found = hw.analyses.head_divergence(vlm, scene, how="mask").frame["divergence"]
        np.testing.assert_allclose(found, twin, rtol=1e-3, atol=1e-4)

    def test_each_token_is_read_where_it_is_predicted(self, vlm, scene):
        """The slow twin: for every token a prompt of its own, with the image and as text alone."""
        prompt = vlm.prepare(text=scene["text"], image=scene["image"])
        text = torch.cat([prompt["input_ids"][:, :1], prompt["input_ids"][:, 37:]], 1)
        twin = []
        for t in range(3):
            more = torch.tensor([REPLY[:t]], dtype=torch.long)
            last = []
            for ids, media in ((prompt["input_ids"], {"pixel_values": prompt["pixel_values"]}), (text, {})):
                with hw.capture(vlm, heads=True, stats=False, sites="text") as trace, torch.no_grad():
                    vlm.model(input_ids=torch.cat([ids, more], 1), **media)
                last.append(torch.stack([trace.heads[site][0, -1] for site in trace.heads]))
            twin.append((last[0] - last[1]).norm(dim=-1))
        found = hw.analyses.reply_divergence(vlm, scene)
        cube = found.frame.pivot_table(index="position", columns=["layer", "head"], values="divergence")
        np.testing.assert_allclose(cube.to_numpy(), torch.stack(twin).flatten(1), rtol=1e-3, atol=1e-4)
        assert cube.index.tolist() == [45, 46, 47]
        assert found.frame["how"].unique().tolist() == ["drop"]
        heads = hw.analyses.head_divergence(vlm, scene).frame
        np.testing.assert_allclose(heads["divergence"], cube.mean(), rtol=1e-6)
        assert heads["tokens"].unique().tolist() == [3]
        sums = cube.T.groupby("layer").max().sum()
        tokens = hw.analyses.token_divergence(vlm, scene).frame
        np.testing.assert_allclose(tokens["divergence"], sums, rtol=1e-6)
        np.testing.assert_allclose(
            hw.analyses.token_divergence(vlm, scene, k=8).frame["divergence"], cube.sum(axis=1), rtol=1e-6
        )

    @pytest.mark.parametrize("how", ["drop", "mask"])
    def test_patterns_are_compared_on_the_keys_of_the_first_reading(self, vlm, scene, how):
        """All weight on the image has moved, so at least its share."""
        found = hw.analyses.head_divergence(vlm, scene, how=how, distance="total_variation")
        asked = question(vlm, scene, generate=1)
        with hw.capture(vlm, stats=False, rows=[-3, -2, -1], sites="text") as trace, torch.no_grad():
            vlm.model(**asked.inputs)
        on_image = torch.stack([trace.maps[site][0, :, :, 1:37].sum(-1).mean(-1) for site in trace.maps])
        values = found.frame["divergence"].to_numpy()
        assert (values >= on_image.flatten().numpy() - 1e-5).all()
        assert (values <= 1).all()

    def test_a_reply_is_generated_up_to_its_end(self, vlm, scene):
        bare = {name: value for name, value in scene.items() if name != "reply"}
        tokens = hw.analyses.token_divergence(vlm, bare).frame["token"].tolist()
        assert tokens == ["yes"]
        given = hw.analyses.token_divergence(vlm, {**bare, "reply": "yes"})
        assert given.frame["token"].tolist() == tokens
        assert "“yes” changes most" in given.summary

    @pytest.mark.slow
    def test_examples_stand_alone(self, vlm):
        data = [one.inputs for one in samples("vlm", 2)]
        both = hw.analyses.head_divergence(vlm, data).frame
        for example, one in enumerate(data):
            alone = hw.analyses.head_divergence(vlm, one).frame
            np.testing.assert_allclose(
                both[both["example"] == example]["divergence"], alone["divergence"], rtol=1e-5, atol=1e-6
            )

    @pytest.mark.slow
    def test_sound_and_source_of_an_encoder_decoder(self, speech, nmt):
        heard = hw.zoo.sample("speech").inputs
        silent = hw.analyses.head_divergence(speech, heard)
        assert silent.frame["how"].unique().tolist() == ["blank"]
        assert set(silent.frame["kind"]) == {"self", "cross"}
        hidden = hw.analyses.head_divergence(speech, heard, how="mask", distance="relative").frame
        np.testing.assert_allclose(hidden[hidden["kind"] == "cross"]["divergence"], 1, rtol=1e-4)
        part = hw.analyses.head_divergence(speech, heard, without=(0, 20))
        assert part.frame["how"].unique().tolist() == ["mask"]
        told = hw.zoo.sample("nmt").example(4)
        source = hw.analyses.token_divergence(nmt, told, generate=12)
        assert source.frame["without"].unique().tolist() == ["source"]
        assert source.frame["token"].iloc[0] == "▁Guernsey"
        some = hw.analyses.head_divergence(nmt, told, without=(3, 5), generate=12)
        assert some.frame["how"].unique().tolist() == ["drop"]
        assert some.frame["divergence"].max() > 0

    @pytest.mark.slow
    def test_words_are_means_of_their_tokens(self, nmt):
        frame = hw.analyses.token_divergence(nmt, hw.zoo.sample("nmt").inputs).frame
        frame = frame[frame["kind"] == "cross"]
        assert frame["word"].tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4]
        first = frame[frame["word"] == 0]
        assert first["word_divergence"].unique().tolist() == [pytest.approx(first["divergence"].mean())]

    @pytest.mark.slow
    def test_the_context_of_a_question(self, lm):
        context = "The return value is a path."
        example = {"text": f"Open a file. {context} Close it", "context": context, "reply": " when"}
        asked = question(lm, {k: v for k, v in example.items() if k != "context"}, generate=1)
        part = part_of(asked, example, "context")
        ids = asked.inputs["input_ids"][0, sorted(part.positions)]
        assert lm.tokenizer.decode(ids).strip() == context
        dropped = without(asked, example, "context", "drop").inputs["input_ids"][0]
        assert context not in lm.tokenizer.decode(dropped)
        spans = (min(part.positions), max(part.positions) + 1)
        for how in ("drop", "mask"):
            named = hw.analyses.head_divergence(lm, example, how=how).frame["divergence"]
            bare = {name: value for name, value in example.items() if name != "context"}
            span = hw.analyses.head_divergence(lm, bare, without=spans, how=how).frame["divergence"]
            np.testing.assert_array_equal(named, span)

    @given(st.tuples(st.integers(-3, 60), st.integers(-3, 60)))
    @settings(max_examples=60, deadline=None)
    def test_every_span_is_a_part_of_the_prompt_or_refused(self, span):
        asked = ASKED[0]
        fits = 0 <= span[0] < span[1] <= 8 and span != (0, 8)
        try:
            part = part_of(asked, {}, span)
        except InputError:
            assert not fits
        else:
            assert fits
            assert sorted(part.positions) == list(range(*span))


ASKED = [question(hw.wrap(known_circuit()), {"text": ioi_prompts()[0][0].tolist(), "reply": [4]}, generate=1)]


class TestKnownHeads:
    def test_a_changed_token_moves_the_heads_that_carry_it(self):
        """IOI `BOS a f b g b h END`: END sees another a through the mover alone; with another b, nothing moves."""
        ids, right, _ = ioi_prompts()[0]
        other = ids.clone()
        other[ids == right] = 11
        example = {"text": ids.tolist(), "reply": [right], "instead": {"text": other.tolist()}}
        subject = hw.wrap(known_circuit())
        found = hw.analyses.head_divergence(subject, example).frame
        moved = found[found["divergence"] > 1e-3]
        assert moved[["layer", "head"]].to_numpy().tolist() == [[2, 0]]
        assert moved["divergence"].item() == pytest.approx(math.sqrt(2), rel=1e-3)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "ratio"), [("muted-heads", 0.07), ("language-prior", 4.0)], ids=lambda value: str(value)
    )
    def test_planted_faults_rank_first(self, vlm, name, ratio):
        """By what they write, the damaged heads changed most, each of them by the planted factor."""
        data = [one.inputs | {"reply": "yes"} for one in samples("vlm", 2)]
        fault = faults.get(name)
        heads = [
            hw.analyses.head_divergence(one, data, how="mask", distance="written").mean()
            for one in (vlm, fault.plant(vlm))
        ]
        ratios = heads[1]["divergence"] / heads[0]["divergence"]
        ranked = heads[0].assign(ratio=ratios, far=np.abs(np.log(ratios))).sort_values("far", ascending=False)
        damaged = {"muted-heads": {(1, 2), (1, 3), (1, 4), (1, 5)}, "language-prior": {(0, 0), (0, 1)}}[name]
        first = ranked.head(len(damaged))
        assert set(zip(first["layer"], first["head"], strict=True)) == damaged
        np.testing.assert_allclose(first["ratio"], ratio, rtol=0.02)


class TestPairs:
    def captured(self, model, ids, **keep):
        with hw.capture(model, stats=False, **keep) as trace, torch.no_grad():
            model(input_ids=ids)
        return trace

    def test_a_capture_is_no_distance_from_itself(self, llama):
        ids = torch.tensor([[5, 6, 7, 8]])
        one, two = (self.captured(llama, ids, heads=True, maps=True) for _ in "12")
        for name in ("trace_divergence", "pattern_divergence"):
            found = hw.analyses.get(name)(one, two)
            assert (found.frame["divergence"] == 0).all()
            assert found.summary == "No head differs."

    def test_a_scaled_head_writes_the_same_and_those_behind_it_differ(self, llama):
        ids = torch.tensor([[5, 6, 7, 8]])
        before = self.captured(llama, ids, heads=True)
        with hw.patch(llama, hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.5)):
            after = self.captured(llama, ids, heads=True)
        frame = hw.analyses.trace_divergence(before, after, distance="relative").frame
        first = frame[frame["layer"] == 0]["divergence"]
        assert (first.drop(1) == 0).all()
        assert first[1] == pytest.approx(0.5, rel=1e-3)
        assert (frame[frame["layer"] > 0]["divergence"] > 0).all()

    def test_rows_that_predict_what_is_generated(self):
        model = hw.testing.tiny_model("llama")
        ids = torch.tensor([[5, 6, 7]])
        traces = []
        for fixes in ((), hw.fixes.ScaleHeads(heads=((0, 1),), factor=0.99)):
            patching = hw.patch(model, fixes) if fixes else nullcontext()
            with patching, hw.capture(model, heads=True) as trace:
                model.generate(ids, max_new_tokens=3, min_new_tokens=3, do_sample=False)
            traces.append(trace)
        site = traces[0].sites[0]
        rows = [(trace.heads[site][0, 2:]) for trace in traces]
        twin = (rows[0] - rows[1]).norm(dim=-1).mean(0)
        found = hw.analyses.trace_divergence(*traces, rows="generated").frame
        np.testing.assert_allclose(found[found["layer"] == 0]["divergence"], twin, rtol=1e-5)

    def test_unlike_captures_are_refused(self):
        site, later = Site("text", "self", 0), Site("text", "self", 1)

        def trace(shape, *sites, **more):
            record = {"positions": torch.arange(3), "z": torch.zeros(1, 3, *shape)} | more
            return Trace(dict.fromkeys(sites or (site,), record), make_trace({}).layout, {})

        one = trace((4, 8))
        for other, words in (
            (trace((2, 16)), r"heads of text self 0: \[0, 1, 2, 3\] and \[0, 1\]"),
            (trace((4, 16)), "width of text self 0: 8 and 16"),
            (trace((4, 8), site, later), "only the second has text self 1"),
            (trace((4, 8), output_heads=torch.tensor([0, 1, 2, 5])), r"heads of .*\[0, 1, 2, 5\]"),
        ):
            with pytest.raises(InputError, match=words):
                hw.analyses.trace_divergence(one, other)
        with pytest.raises(InputError, match="no such rows"):
            hw.analyses.trace_divergence(one, one, rows="generated")
        with pytest.raises(CaptureError, match=r"hw.capture\(subject, heads=True\)"):
            hw.analyses.trace_divergence(make_trace({site: torch.ones(1, 1, 1, 1)}), one)
        with pytest.raises(CaptureError, match=r"hw.capture\(subject, maps=True\)"):
            hw.analyses.pattern_divergence(one, one)
        renamed = trace((4, 8), Site("text", "self", 0, "model.other"))
        assert (hw.analyses.trace_divergence(one, renamed).frame["divergence"] == 0).all()


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "options", "words"),
        [
            ({"image": None}, {"without": "image"}, r'There is no image.*Give it.*"image"'),
            ({}, {"without": "sound"}, "There is no sound"),
            ({}, {"without": "source"}, "no source apart from its prompt"),
            ({}, {"without": "context"}, r"The context of an example is a part of its text"),
            ({}, {"without": (40, 60)}, "outside of the prompt.*positions 0 to 44"),
            ({}, {"without": (4, 4)}, "outside of the prompt"),
            ({}, {"without": (0, 45)}, "Nothing would be left"),
            ({}, {"without": (5, 10)}, "part of an image or a sound cannot be dropped"),
            ({}, {"without": (38, 40), "how": "blank"}, "Only an image or a sound can be blank"),
            ({}, {"without": "picture"}, "'without' of head_divergence cannot be 'picture'"),
            ({}, {"how": "blur"}, "'how' of head_divergence cannot be 'blur'"),
            ({}, {"distance": "l1"}, "'distance' of head_divergence cannot be 'l1'"),
            ({}, {"distance": "total_variation", "zero_outliers": True}, "Outliers are told by the outputs"),
            ({"reply": ""}, {}, "reply of an example is a text"),
            ({"reply": [10**6]}, {}, "reply of an example is a text"),
            ({"reply": [6] * 300}, {}, "tokens long and the model has"),
            ({"reply": None}, {"generate": 0}, "generates one token or more"),
            ({"text": ["a", "b"]}, {}, "differ in number|prompt of its own"),
            ({"instead": {"target": "x"}}, {}, "instead= of an example"),
            ({"instead": {}}, {}, "instead= of an example"),
            ({"instead": {"text": "is there ?"}}, {"distance": "jensen_shannon"}, "not have the same keys"),
        ],
    )
    def test_it_is_said_what_is_wrong(self, vlm, scene, change, options, words):
        example = {name: value for name, value in {**scene, **change}.items() if value is not None}
        with pytest.raises(InputError, match=words):
            hw.analyses.head_divergence(vlm, [example], **options)

    @pytest.mark.parametrize("data", [None, [], [3], {}])
    def test_no_examples(self, vlm, data):
        with pytest.raises(InputError, match=r"list of examples|nothing to prepare"):
            hw.analyses.head_divergence(vlm, data)

    @pytest.mark.slow
    def test_what_other_models_cannot_do(self, lm, speech, nmt):
        with pytest.raises(InputError, match=r"Nothing is named to take away.*without=\(start, stop\)"):
            hw.analyses.head_divergence(lm, {"text": "a file", "reply": " is"})
        heard = hw.zoo.sample("speech").inputs
        with pytest.raises(InputError, match=r'sound cannot be dropped.*how="mask" or "blank"'):
            hw.analyses.head_divergence(speech, heard, how="drop")
        with pytest.raises(InputError, match="no pattern to compare with"):
            hw.analyses.head_divergence(speech, heard, how="mask", distance="jensen_shannon")
        with pytest.raises(InputError, match=r'source cannot be dropped.*how="mask"\.'):
            hw.analyses.head_divergence(nmt, hw.zoo.sample("nmt").inputs, how="drop")
        with pytest.raises(InputError, match=r"generates nothing.*trace_divergence"):
            hw.analyses.head_divergence(hw.testing.tiny_model("bert"), {"text": [3, 4]})
        with pytest.raises(InputError, match=r"Give token ids, .*no tokenizer"):
            hw.analyses.head_divergence(known_circuit(), CIRCUIT | {"reply": "yes"}, without=(1, 2))
        with pytest.raises(InputError, match="k is a number of heads of a layer, 1 to 4"):
            hw.analyses.token_divergence(hw.wrap(known_circuit()), CIRCUIT, without=(1, 2), k=5)

    @given(st.text(max_size=12))
    @settings(max_examples=60, deadline=None)
    def test_any_text_as_a_parameter(self, text):
        try:
            found = analysis_call(f"head_divergence:without={text}").parameters.get("without")
        except HeadwiseError:
            return
        assert found in (None, "image", "sound", "source", "context") or len(found) == 2


CIRCUIT = {"text": ioi_prompts()[0][0].tolist(), "reply": [4]}


class TestEverywhere:
    @pytest.mark.slow
    def test_on_the_command_line(self, tmp_path):
        out = tmp_path / "d.json"
        done = run("analyse", "zoo:vlm", "head_divergence", "token_divergence:how=mask", "--json")
        assert done.exit_code == 0, done.output
        first, second = json.loads(done.stdout)["results"]
        assert first["provenance"]["model"] == "zoo:vlm"
        assert "Without the image (drop)" in first["summary"]
        assert "“yes” changes most" in second["summary"]
        done = run("analyse", "zoo:vlm", "head_divergence", "--fix", "ZeroHeads:heads=[[1,3]]", "--out", out)
        assert done.exit_code == 0, done.output
        assert head(hw.load_result(out), 1, 3).item() == 0

    @pytest.mark.slow
    def test_a_users_own_files_and_a_report(self, tmp_path, vlm, speech):
        hw.zoo.sample("vlm").inputs["image"].save(tmp_path / "scene.png")
        sound = hw.zoo.sample("speech").inputs["audio"]
        for words in (
            ("zoo:vlm", "--image", tmp_path / "scene.png", "--text", "is there a ring in the image ?"),
            ("zoo:speech", "--audio", sound),
            ("zoo:nmt", "--text", "Guernsey, Sunday", "--language", "swh_Latn"),
        ):
            done = run("analyse", words[0], "head_divergence", *words[1:], "--generate", 3)
            assert done.exit_code == 0, done.output
            assert "head_divergence: " in done.stdout
        done = run("analyse", "zoo:lm", "head_divergence:without=[2,5]", "--text", "The value of a file is")
        assert done.exit_code == 0, done.output
        page = hw.report(
            vlm,
            tmp_path / "r.html",
            analyses=["head_divergence", "token_divergence", "interaction"],
            generate=2,
        )
        text = page.read_text(encoding="utf-8")
        assert "Without the image (drop)" in text
        assert "rows look at" in text
