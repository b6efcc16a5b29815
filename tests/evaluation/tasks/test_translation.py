"""Translation and alignment: scores against sacrebleu, files, languages, and rows of cross-attention."""

from __future__ import annotations

import copy
import json
import random
import string

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation.scoring.overlap import BLEU, CHRF, bleu, chrf, counts, tokenizer_for
from headwise.evaluation.solvers import alignment
from headwise.evaluation.task import Response
from headwise.evaluation.tasks.translation.alignment import Alignment, error_rate
from headwise.evaluation.tasks.translation.translation import Translation
from headwise.reports.collect.example_runs import example_runs
from headwise.subject.generation import prepare_generation
from headwise.subject.languages import set_languages
from tests.kit.cli import run

CODES = ["eng_Latn", "swh_Latn", "deu_Latn", "zho_Hans"]


@pytest.fixture(scope="module")
def nllb() -> hw.Subject:
    """A random M2M100 with a tokenizer of letters that knows four languages."""
    letters = ["<s>", "<pad>", "</s>", "<unk>", "▁", *string.ascii_lowercase, *string.digits]
    tokenizer = NllbTokenizer(
        vocab={letter: place for place, letter in enumerate(letters)}, merges=[], extra_special_tokens=CODES
    )
    torch.manual_seed(0)
    config = M2M100Config(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        init_std=0.5,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
    )
    return hw.wrap(M2M100ForConditionalGeneration(config).eval(), tokenizer)


def score(name, pairs: list[tuple[str, str]], tokenize: str = "13a") -> float:
    """chrF or BLEU of a corpus, from counts per sentence."""
    rows = [counts(*pair, tokenize) for pair in pairs]
    columns, statistic = (CHRF, chrf) if name == "chrf" else (BLEU, bleu)
    return float(statistic(*(np.array([row[column] for row in rows], dtype=float) for column in columns)))


SENTENCES = st.lists(
    st.sampled_from(["a", "b", "cat", "sat", ".", ",", "the", "的", "人", "12", "don't"]), max_size=7
).map(" ".join)


@given(st.lists(st.tuples(SENTENCES, SENTENCES, st.booleans()), min_size=1, max_size=5))
def test_scores_equal_sacrebleu(drawn):
    pairs = [(reference if same else written, reference) for written, reference, same in drawn]
    hypotheses, references = map(list, zip(*pairs, strict=True))
    expected = sacrebleu.CHRF().corpus_score(hypotheses, [references]).score
    assert score("chrf", pairs) == pytest.approx(expected, abs=1e-9)
    for tokenize in ("13a", "zh", "char"):
        expected = sacrebleu.BLEU(tokenize=tokenize).corpus_score(hypotheses, [references]).score
        assert score("bleu", pairs, tokenize) == pytest.approx(expected, abs=1e-9)


def test_identical_and_empty_sentences():
    same = [("Ijumaa, 4 Aprili 1997", "Ijumaa, 4 Aprili 1997")]
    assert score("chrf", same) == pytest.approx(100)
    assert score("bleu", same) == pytest.approx(100)
    assert score("chrf", [("", "a b c d")]) == score("bleu", [("", "a b c d")]) == 0


def test_statistics_of_many_resamples_equal_one_at_a_time():
    rng = random.Random(0)
    words = ["one", "two", "three", "four", "five", "six"]
    pairs = [(" ".join(rng.choices(words, k=6)), " ".join(rng.choices(words, k=6))) for _ in range(8)]
    rows = [counts(*pair, "13a") for pair in pairs]
    chosen = np.random.default_rng(0).integers(0, 8, (5, 8))
    for columns, statistic in ((CHRF, chrf), (BLEU, bleu)):
        table = [np.array([row[name] for row in rows], dtype=float) for name in columns]
        many = statistic(*(column[chosen] for column in table))
        single = [float(statistic(*(column[pick] for column in table))) for pick in chosen]
        assert many.tolist() == pytest.approx(single)


def test_short_codes_and_names_of_languages(nllb):
    tokenizer = nllb.tokenizer
    assert set_languages(tokenizer, "en", "sw") == tokenizer.convert_tokens_to_ids("swh_Latn")
    assert (tokenizer.src_lang, tokenizer.tgt_lang) == ("eng_Latn", "swh_Latn")
    with pytest.raises(InputError, match=r"no language 'swa_Latn'.*close: .*swh_Latn"):
        set_languages(tokenizer, "eng_Latn", "swa_Latn")
    with pytest.raises(InputError, match="told the languages"):
        set_languages(tokenizer, "", "swh_Latn")
    assert tokenizer_for("zh") == "zh"


@pytest.mark.parametrize(
    ("names", "tokenizer"),
    [
        (
            ("zh", "zh_CN", "zh-CN", "ZH-hans", "zho_Hans", "zho_Hant", "cmn_Hans", "cmn", "yue_Hant", "lzh"),
            "zh",
        ),
        (("ja", "ja-JP", "jpn", "jpn_Jpan", "ja_XX"), "ja-mecab"),
        (("ko", "ko_KR", "kor_Hang"), "ko-mecab"),
        (
            (
                "th",
                "tha_Thai",
                "th_TH",
                "khm_Khmr",
                "lao_Laoo",
                "my",
                "my_MM",
                "mya_Mymr",
                "bod_Tibt",
                "dzo_Tibt",
            ),
            "char",
        ),
        (
            ("", "en", "swh_Latn", "hin_Deva", "zul_Latn", "hi_IN", "zsm_Latn", "kmr_Latn", "de-CH", "vie"),
            "13a",
        ),
    ],
)
def test_every_language_has_the_tokenizer_of_its_script(names, tokenizer):
    assert {tokenizer_for(name) for name in names} == {tokenizer}


@pytest.mark.parametrize(
    ("options", "package"),
    [
        ({"target": "jpn_Jpan"}, r"ja-mecab .*sacrebleu\[ja\].*tokenize=char"),
        ({"target": "ko"}, r"ko-mecab .*sacrebleu\[ko\]"),
        ({"tokenize": "flores200"}, "flores200 .*sentencepiece"),
    ],
)
def test_a_tokenizer_that_is_not_installed_is_said_before_the_model_is_run(
    nllb, tmp_path, monkeypatch, options, package
):
    def missing(self, tokenize):
        raise RuntimeError(f"needs more than {tokenize}")

    monkeypatch.setattr(sacrebleu.BLEU, "__init__", missing)
    (tmp_path / "a").write_text("one\n")
    task = Translation(data=tmp_path / "a", reference=tmp_path / "a", source="en", **options)
    with pytest.raises(InputError, match=package):
        hw.evaluate(nllb, task)


def test_sentences_that_count_as_words_are_said(tmp_path):
    (tmp_path / "a").write_text("one\n")
    (tmp_path / "b").write_text("今天天气很好。\n")
    files = {"data": tmp_path / "a", "reference": tmp_path / "b"}
    unnamed, named = Translation(**files), Translation(**files, target="zh-TW")
    chinese, swahili = [Response("今天天气很好。", 3)], [Response("Habari ya 北京 asubuhi.", 3)]
    (said,) = unnamed.remarks(chinese)
    assert "tokenize=zh" in said
    assert unnamed.remarks(swahili) == named.remarks(chinese) == unnamed.remarks([]) == []
    assert [task.metrics[1].unit for task in (unnamed, named)] == ["BLEU, 13a", "BLEU, zh"]


@pytest.mark.parametrize("target", [None, "moja mbili"])
def test_a_model_is_told_the_language_to_write(nllb, target):
    tokenizer, model = nllb.tokenizer, nllb.model
    before = (tokenizer.src_lang, tokenizer.tgt_lang, tokenizer("one").input_ids)
    told = nllb.prepare(text="one two", target=target, language="sw")
    swahili = tokenizer.convert_tokens_to_ids("swh_Latn")
    assert told["decoder_input_ids"][0, :2].tolist() == [model.config.decoder_start_token_id, swahili]
    assert before == (tokenizer.src_lang, tokenizer.tgt_lang, tokenizer("one").input_ids)
    own = copy.deepcopy(tokenizer)
    own.tgt_lang = "swh_Latn"
    if target is None:  # what generate continues is what it writes when it is forced to begin so
        assert prepare_generation(nllb, text="one two", language="sw").notes == ()
        forced = model.generate(
            **nllb.prepare(text="one two", decoder=False), forced_bos_token_id=swahili, max_new_tokens=6
        )
        assert torch.equal(forced, model.generate(**told, max_new_tokens=5))
    else:
        same = hw.wrap(model, own).prepare(text="one two", target=target)
        assert torch.equal(told["decoder_input_ids"], same["decoder_input_ids"])


def test_a_batch_is_told_a_language_each(nllb):
    texts = ["one two", "four"]
    ids = nllb.prepare(text=texts, target=["moja mbili", "vier"], language=["sw", "de"])["decoder_input_ids"]
    assert nllb.tokenizer.convert_ids_to_tokens(ids[:, 1].tolist()) == ["swh_Latn", "deu_Latn"]
    with pytest.raises(
        InputError, match=r"no language 'fr'.*it knows eng_Latn, swh_Latn, deu_Latn, zho_Hans"
    ):
        nllb.prepare(text="one", language="fr")
    with pytest.raises(InputError, match="2 texts, 1 languages"):
        nllb.prepare(text=texts, language=["sw"])
    with pytest.raises(InputError, match="told no task"):
        nllb.prepare(text="one", language="sw", task="translate")


def test_the_first_mbart_starts_with_the_language_itself(nllb, monkeypatch):
    english, swahili = nllb.tokenizer.convert_tokens_to_ids(CODES[:2])
    monkeypatch.setattr(nllb.model.config, "decoder_start_token_id", english)
    assert nllb.prepare(text="one", language="sw")["decoder_input_ids"].tolist() == [[swahili]]
    assert prepare_generation(nllb, text="one").notes == ()


def test_generation_in_no_language_is_said(nllb, monkeypatch):
    (said,) = prepare_generation(nllb, text="one").notes
    assert "not told which language to write, of eng_Latn, swh_Latn" in said
    assert prepare_generation(nllb, text="one", target="moja").notes == ()
    monkeypatch.setattr(nllb.model.generation_config, "forced_bos_token_id", 3)
    assert prepare_generation(nllb, text="one").notes == ()


def test_the_command_line_names_the_language_to_write(tmp_path):
    out = tmp_path / "run.safetensors"
    asked = ("trace", "zoo:nmt", "--text", "Hello world.", "--generate", "5", "--out", out, "--json")
    done = run(*asked, "--language", "swh_Latn")
    assert done.exit_code == 0, done.output
    assert not [text for text in json.loads(done.stdout)["warnings"] if "language" in text]
    assert hw.load_trace(out).layout.axes["decoder"].tokens[0][:2] == ("</s>", "swh_Latn")
    (said,) = [text for text in json.loads(run(*asked).stdout)["warnings"] if "language" in text]
    assert said.endswith("Name it with language= or --language.")
    done = run("trace", "zoo:nmt", "--generate", "5", "--out", out, "--json")
    assert not [text for text in json.loads(done.stdout)["warnings"] if "language" in text]


def test_a_report_is_told_the_language_to_write(nllb):
    told = example_runs(nllb, {"text": "one two", "language": "sw"}, generate=4)
    assert told.before.notes == ()
    both = example_runs(nllb, {"text": "one two", "languages": ("en", "sw")}, generate=4)
    assert told.before.replies == both.before.replies
    assert len(example_runs(nllb, {"text": "one two"}, generate=4).before.notes) == 1


def test_translation_of_a_table(nllb, tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text(
        "id\tsrc\ttgt\tsrc_lang\ttgt_lang\n1\tone two\tmoja mbili\ten\tsw\n2\t\ttatu\ten\tsw\n3\tfour\tvier\ten\tde\n"
    )
    found = hw.evaluate(nllb, Translation(data=path, max_new_tokens=4, source="zho_Hans"))
    assert found.frame["id"].to_list() == ["1", "3"]
    assert found.manifest["notes"]["pairs left out"] == 1
    assert "tok:13a" in found.manifest["notes"]["bleu"]["13a"]
    assert found.manifest["notes"]["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")
    assert found.manifest["notes"]["comet"] == "not computed: it needs weights"
    assert {"chrf en>sw", "exact en>de"} <= set(found.estimates)
    assert found.estimates["chrf en>sw"].n == 1
    pairs = list(zip(found.frame["response"], found.frame["answer"], strict=True))
    assert found.value == pytest.approx(score("chrf", pairs))
    assert found.frame["sentence_chrf"][0] == pytest.approx(score("chrf", pairs[:1]))
    assert list(found.frame.columns[-28:]) == [*CHRF, *BLEU]


def test_every_example_begins_with_its_language_whatever_the_batch(nllb, tmp_path, monkeypatch):
    path = tmp_path / "pairs.tsv"
    rows = [
        f"{n}\t{'word ' * (n % 3 + 1)}\tx\ten\t{code}"
        for n, code in enumerate(["sw", "de", "sw", "de", "zh"])
    ]
    path.write_text("\n".join(["id\tsrc\ttgt\tsrc_lang\ttgt_lang", *rows]))
    seen = []
    generate = nllb.model.generate
    monkeypatch.setattr(nllb.model, "generate", lambda **all: seen.append(all) or generate(**all))
    task = Translation(data=path, max_new_tokens=3)
    responses = [hw.evaluate(nllb, task, batch_size=size).frame["response"].to_list() for size in (1, 2, 5)]
    assert responses[0] == responses[1] == responses[2]
    ids = nllb.tokenizer.convert_tokens_to_ids(["swh_Latn", "deu_Latn", "zho_Hans"])
    assert {call["forced_bos_token_id"] for call in seen} == set(ids)
    english = nllb.tokenizer.convert_tokens_to_ids("eng_Latn")
    assert all((call["input_ids"][:, 0] == english).all() for call in seen)


def test_plain_files(tmp_path):
    source, target = tmp_path / "a.en", tmp_path / "a.sw"
    source.write_text("one\ntwo\n")
    target.write_text("moja\nmbili\n")
    task = Translation(data=source, reference=target, source="en", target="sw", template="{text} -> {target}")
    assert [(item.id, item.inputs["text"], item.answer) for item in task.examples()] == [
        ("line 1", "one -> sw", "moja"),
        ("line 2", "two -> sw", "mbili"),
    ]
    with pytest.raises(InputError, match="translations are missing"):
        Translation(data=source).examples()
    with pytest.raises(InputError, match="belongs to data"):
        Translation(reference=source)


def test_the_zoos_directions():
    assert len(Translation().directions) == 16
    assert Translation(target="swh_Latn").directions == [("eng_Latn", "swh_Latn")]
    assert len(Translation(source="en").directions) == 8
    with pytest.raises(InputError, match="no phrases in this direction"):
        Translation(source="sw", target="de").examples()
    drawn = Translation().draw(35, 0)
    sizes = [sum(item.id.startswith(f"{a}>{b}/") for item in drawn) for a, b in [("en", "sw"), ("hi", "en")]]
    assert (len(drawn), sizes) == (35, [3, 2])
    assert len({item.id for item in drawn}) == 35
    with pytest.raises(InputError, match="fewer than"):
        Translation().draw(100_000, 0)


@pytest.mark.parametrize(
    "options", [{"template": "x"}, {"beams": 0}, {"tokenize": "none such"}, {"split": "train"}]
)
def test_options_of_translation_are_checked(options):
    with pytest.raises(InputError):
        Translation(**options)


def test_error_rate_pools_counts_and_forgives_possible_links():
    def rate(*rows):
        return float(error_rate(*(np.array(column, dtype=float) for column in zip(*rows, strict=True))))

    perfect, empty, possible = (2, 2, 2, 2), (0, 2, 0, 0), (3, 2, 2, 3)
    assert rate(perfect) == 0
    assert rate(empty) == 1
    assert rate(possible) == 0  # the third link is possible only, and is not punished
    assert rate(perfect, (8, 4, 1, 1)) == pytest.approx(1 - (2 + 2 + 1 + 1) / (2 + 2 + 8 + 4))
    assert rate(perfect, (8, 4, 1, 1)) != pytest.approx((rate(perfect) + rate((8, 4, 1, 1))) / 2)


def gold(tmp_path, links: str, **options) -> Alignment:
    (tmp_path / "a.en").write_text("ab c def\n\nx y\n")
    (tmp_path / "a.sw").write_text("c def ab\nz\ny x\n")
    (tmp_path / "gold").write_text(links)
    return Alignment(
        data=tmp_path / "a.en",
        reference=tmp_path / "a.sw",
        gold=tmp_path / "gold",
        source="en",
        target="sw",
        **options,
    )


def planted(subject, inputs, *, check):
    """Layer 0 is flat; in layer 1 every row looks at the first source token with the token that it consumes."""
    source, target = inputs["input_ids"], inputs["decoder_input_ids"]
    same = (target[:, :, None] == source[:, None, :]).float() + 1e-6
    rows = same / same.sum(-1, keepdim=True)
    return {0: torch.full_like(rows, 1 / rows.shape[-1])[:, None], 1: rows[:, None]}


@pytest.mark.parametrize(("rows", "perfect"), [("consume", True), ("predict", False)])
@pytest.mark.parametrize("size", [1, 2])
def test_copied_words_are_aligned_in_the_row_that_consumes_them(
    nllb, tmp_path, monkeypatch, rows, perfect, size
):
    monkeypatch.setattr(alignment, "cross_attention", planted)
    task = gold(tmp_path, "0-2 1-0 2-1\n\n0-1 1-0\n", layer=1, rows=rows)
    found = hw.evaluate(nllb, task, batch_size=size)
    assert (found.value == 0) == perfect
    assert found.manifest["notes"]["pairs left out"] == 1
    if perfect:
        assert found.frame["made"].to_list() == ["0-2 1-0 2-1", "0-1 1-0"]
        assert found.estimates["recall"].value == found.estimates["precision"].value == 1


def test_layers_and_heads_are_chosen_or_refused(nllb, tmp_path, monkeypatch):
    assert hw.evaluate(nllb, gold(tmp_path, "0-0\n\n0-0\n")).frame["layer"].to_list() == [0, 0]
    assert hw.evaluate(nllb, gold(tmp_path, "0-0\n\n0-0\n", layer=-1)).frame["layer"].to_list() == [1, 1]
    assert hw.evaluate(nllb, gold(tmp_path, "0-0\n\n0-0\n", heads=((1, 1), (0, 0)))).frame["layer"][0] == -1
    for options in ({"layer": 2}, {"heads": ((0, 2),)}):
        with pytest.raises(InputError, match="The decoder has no head"):
            hw.evaluate(nllb, gold(tmp_path, "0-0\n\n0-0\n", **options))
    with pytest.raises(InputError, match="Give one of them"):
        gold(tmp_path, "", layer=0, heads=((0, 0),))
    with pytest.raises(InputError, match=r"pair of 0 and 0 words.*line 2|line 2"):
        gold(tmp_path, "0-0\n0-0\n0-0\n").examples()
    ask = alignment.CrossAttentionAlignment(
        (), None, "consume", lambda _, responses: len(responses[0].metadata["links"]), ()
    )
    assert ask.manifest()["layer"] == "chosen on other examples"


def test_the_best_layer_is_chosen_on_validation_phrases():
    task = Alignment(source="en", target="sw")
    ask = task.solver
    assert len(ask.trial) == 12
    assert not {item.inputs["text"] for item in ask.trial} & {item.inputs["text"] for item in task.examples()}
    assert ask.choose is not None
    right = [Response("", 0, {}, {"links": item.metadata["sure"], "layer": 0}) for item in ask.trial]
    wrong = [Response("", 0, {}, {"links": [], "layer": 0}) for _ in ask.trial]
    assert ask.choose(ask.trial, right) == 0
    assert ask.choose(ask.trial, wrong) == 1


def test_words_of_the_zoos_phrases_lie_where_they_say():
    for item in Alignment(target="zh").draw(5, 0):
        words = [item.answer[start:end] for start, end in item.metadata["target_spans"]]
        assert all(word.strip() == word and word for word in words)
        assert max(target for _, target in item.metadata["possible"]) < len(words)
