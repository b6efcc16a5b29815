"""What cannot be measured is said; and divergence on the command line and in reports."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import headwise as hw
from headwise.analyses.calls import analysis_call
from headwise.errors import HeadwiseError, InputError
from headwise.testing import known_circuit
from tests.analyses.divergence.heads import CIRCUIT, head
from tests.kit.cli import run


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
