"""Tokenizers of a folder: what makes much of little is refused, and whatever fails is an error of ours."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

import headwise as hw
from headwise.model.folder import ModelFolder
from headwise.model.tokenizing import check_tokenizer, decoded
from tests.kit.cli import save

PACKAGE = Path(hw.__file__).parent
OWN = ("model/tokenizing.py", "zoo", "testing")
"""The door, and where tokenizers are headwise's."""


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    folder = save(tmp_path_factory.mktemp("saved"))
    return json.loads((folder / "tokenizer.json").read_text())


def replaced(content, times=1, pattern=None):
    one = {"type": "Replace", "pattern": pattern or {"String": "a"}, "content": content}
    return {"type": "Sequence", "normalizers": [copy.deepcopy(one) for _ in range(times)]}


def around(ids, times=1):
    special = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    single = [special] * times + [{"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {"<bos>": {"id": "<bos>", "ids": [1] * ids, "tokens": ["<bos>"] * ids}}
    return {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": tokens}


BOMBS = {
    "one replacement": {"normalizer": replaced("b" * 2_000)},
    "a long replacement": {"normalizer": replaced("b" * 2_000_000)},
    "many replacements": {"normalizer": replaced("a" * 10, 8)},
    "replacements of the decoder": {"decoder": replaced("a" * 10, 8)},
    "a long prefix": {"normalizer": {"type": "Prepend", "prepend": "a" * 20_000}},
    "a long pattern": {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "a?" * 9_000}}},
    "ids around a text": {"post_processor": around(20_000)},
    "ids times ids": {"post_processor": around(300, 300)},
    "long words": {"model": {"type": "WordPiece", "max_input_chars_per_word": 10**9, "vocab": {"a": 0}}},
    "a long piece": {
        "model": {"type": "WordPiece", "continuing_subword_prefix": "#" * 20_000, "vocab": {"a": 0}}
    },
    "long pieces": {"model": {"type": "Unigram", "vocab": [[f"{n}" + "é" * 9_990, -1] for n in range(130)]}},
    "long tokens": {"added_tokens": [{"id": 1, "content": "a" * 9_000}] * 120},
    "many tokens": {"added_tokens": [{"id": 1, "content": "a"}] * 100_001},
    "many steps": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"} for _ in range(1001)]}
    },
    "a list": None,
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_makes_much_of_a_little_text_is_refused(tmp_path, rules, name) -> None:
    (tmp_path / "tokenizer.json").write_text(
        json.dumps([] if BOMBS[name] is None else {**rules, **BOMBS[name]})
    )
    with pytest.raises(hw.LoadError) as caught:
        check_tokenizer(tmp_path)
    assert "tokenizer.json" in str(caught.value)


def test_tokenizers_as_published_pass(tmp_path, rules) -> None:
    more = {
        "model": {"type": "Unigram", "vocab": [[f"{'a' * 9_990}{n}", -1] for n in range(300)]},
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "A" * 300_000},
        "post_processor": around(2, 3),
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps({**rules, **more}))
    check_tokenizer(tmp_path)
    for folder in (PACKAGE / "zoo" / "weights").iterdir():
        check_tokenizer(folder)


FILES = {
    "added_tokens.json": {f"{n}" + "a" * 9_000: n for n in range(120)},
    "special_tokens_map.json": {"additional_special_tokens": ["a" * 9_000] * 120},
    "tokenizer_config.json": {"added_tokens_decoder": {n: {"content": "a" * 9_000} for n in range(120)}},
}


@pytest.mark.parametrize("name", FILES)
def test_long_tokens_are_refused_in_every_file_that_adds_some(tmp_path, name) -> None:
    (tmp_path / name).write_text(json.dumps(FILES[name]))
    with pytest.raises(hw.LoadError, match=f"{name}: letters of added tokens"):
        ModelFolder(tmp_path).check(trust=False)
    with hw.file_limits(times=2):
        ModelFolder(tmp_path).check(trust=False)


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


FAILS = {
    "a pattern without end": {"pre_tokenizer": split("(?:(a+)+)+$")},
    "no unknown token": {"model": {"type": "WordLevel", "vocab": {"b": 4}, "unk_token": "nope"}},
    "no piece": {"model": {"type": "Unigram", "unk_id": None, "vocab": []}},
    "an id out of range": {
        "post_processor": {
            **around(1),
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [4_000_000_000], "tokens": ["<bos>"]}},
        }
    },
    "a decoder that strips": {
        "decoder": {"type": "Strip", "content": "a", "start": 4 * 10**9, "stop": 4 * 10**9}
    },
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if n > 1 else ()) for n, name in enumerate(FAILS)]
)
def test_whatever_fails_is_an_error_of_ours(tmp_path, rules, name) -> None:
    folder = Path(save(tmp_path))
    (folder / "tokenizer.json").write_text(json.dumps({**rules, **FAILS[name]}))

    def use() -> None:
        subject = hw.load(folder)
        subject.prepare(text="a" * 40 + "!")
        decoded(subject.tokenizer, [4, 4])

    with pytest.raises(hw.HeadwiseError) as caught:
        use()
    assert "\n" not in str(caught.value)


def test_a_processor_that_panics_is_an_error_of_ours(rules) -> None:
    from tests.kit.subjects import llava, llava_processor, picture

    processor = llava_processor()
    broken = {
        **json.loads(processor.tokenizer.backend_tokenizer.to_str()),
        "pre_tokenizer": split("(?:(a+)+)+$"),
    }
    processor.tokenizer._tokenizer = type(processor.tokenizer.backend_tokenizer).from_str(json.dumps(broken))
    with pytest.raises(hw.InputError, match="tokenizer of the model fails"):
        llava(processor).prepare(text="a" * 40 + "!", image=picture())


def test_no_tokenizer_is_called_past_the_door() -> None:
    call = re.compile(r"(?<!\w)(?<!def )tokenizer(\.(decode|batch_decode|encode|tokenize))?\(")
    past = [
        f"{path.name}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if not str(path.relative_to(PACKAGE)).startswith(OWN)
        for line in path.read_text(encoding="utf-8").splitlines()
        if call.search(line)
    ]
    assert past == []


@pytest.mark.parametrize("said", ["tokenizer_config.json", "config.json"])
@pytest.mark.parametrize("nested", [False, True])
def test_words_that_are_added_one_by_one_are_few(tmp_path, said, nested):
    words = {f"w{number}": number for number in range(3000)}
    (tmp_path / said).write_text(json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer"}))
    (tmp_path / "vocab.json").write_text(json.dumps({"en": words} if nested else words))
    with pytest.raises(hw.LoadError, match=r"vocab\.json: words: 3,00[01], and the limit is 2,000"):
        check_tokenizer(tmp_path)
    (tmp_path / said).write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    check_tokenizer(tmp_path)


def test_words_without_a_number_are_refused(tmp_path):
    folder = save(tmp_path / "saved")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "EsmTokenizer"}))
    (folder / "vocab.txt").write_text("a\nb\n")
    subject = hw.load(folder)
    with pytest.raises(hw.InputError, match="no number for a part of the text"):
        subject.prepare(text="a x")
