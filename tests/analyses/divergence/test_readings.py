"""Both readings of a question: what is taken away, and where heads are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.analyses._divergence.parts import part_of
from headwise.analyses._divergence.removal import without
from headwise.errors import InputError
from headwise.probes.reply import question
from headwise.subject.media import blank_image
from headwise.testing import known_circuit
from headwise.testing.circuit import ioi_prompts
from headwise.zoo.own_inputs import samples
from tests.analyses.divergence.heads import DISTANCES, REPLY, head


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
