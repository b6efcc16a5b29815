"""Model folders from somebody else: nothing outside of them is read, nobody is asked, none of their code runs."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import shutil
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import headwise as hw
from headwise.model.folder import ModelFolder
from headwise.model.seal import sealed
from tests.kit.cli import save


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved, tmp_path):
    """A model's folder, beside a file and a folder that are not its own."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "vocab.txt").write_text("secret\n", encoding="utf-8")
    return Path(shutil.copytree(saved, tmp_path / "m"))


def change(path, **settings):
    """Settings added to those of a file."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**content, **settings}), encoding="utf-8")


def refusal(folder, **options):
    with pytest.raises(hw.LoadError) as caught:
        hw.load(folder, **options)
    assert caught.value.evidence
    assert caught.value.remedy
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "outside",
    [
        *("../x.safetensors", "sub/../../x.safetensors", "{here}/x.safetensors", "out/x"),
        pytest.param("half \ud800", id="half a character"),
    ],
)
@pytest.mark.parametrize("index", ["model.safetensors.index.json", "pytorch_model.bin.index.json"])
def test_weights_lie_in_the_folder(folder, index, outside):
    with safe_open(folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
    (folder / "model.safetensors").rename(folder.parent / "x.safetensors")
    (folder / "sub").mkdir()
    (folder / "sub" / "deep").mkdir()
    (folder / "sub" / "deep" / "er").mkdir()
    (folder / "sub" / "deep" / "er" / "out").symlink_to(folder.parent)
    place = outside.format(here=folder.parent).replace("out/x", "sub/deep/er/out/x.safetensors")
    change(folder / index, metadata={}, weight_map=dict.fromkeys(names, place))
    assert f"{index}: weights in" in refusal(folder)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "generation_config.json",
        "additional_chat_templates",
    ],
)
def test_a_link_out_of_the_folder_is_refused(folder, name):
    away = folder.parent / "away"
    (folder / name).rename(away) if (folder / name).exists() else away.mkdir()
    (folder / name).symlink_to(away)
    assert f"{name}: a link to {away}" in refusal(folder)


def test_links_to_the_blobs_of_a_hub_cache_are_the_folders_own(folder):
    home = folder.parent / "models--org--name"
    snapshot = home / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    folder.rename(home / "blobs")
    for blob in (home / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(Path("..", "..", "blobs", blob.name))
    assert hw.load(snapshot).tokenizer is not None
    (home / "blobs" / "tokenizer.json").unlink()
    (home / "blobs" / "tokenizer.json").symlink_to(folder.parent / "private" / "vocab.txt")
    assert "tokenizer.json: a link to" in refusal(snapshot)


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("config.json", "transformers_weights", "../private/vocab.txt"),
        ("tokenizer_config.json", "vocab_file", "{here}/private/vocab.txt"),
        ("tokenizer_config.json", "fast_tokenizer_files", ["tokenizer.json", "../private/vocab.txt"]),
        ("processor_config.json", "audio_tokenizer", {"audio_tokenizer_name_or_path": "private"}),
        ("preprocessor_config.json", "repo_path", "{here}/private"),
        ("adapter_config.json", "adapters", {"0": "../private"}),
        ("speaker_embeddings_path.json", "x", {"repo_or_path": "private", "a_path": "../private"}),
    ],
)
def test_settings_name_files_of_the_folder(folder, monkeypatch, file, key, value):
    monkeypatch.chdir(folder.parent)
    change(folder / file, **json.loads(json.dumps({key: value}).replace("{here}", str(folder.parent))))
    assert f"{file}: {key}" in refusal(folder)


def test_where_a_part_came_from_is_not_read(folder):
    private = str(folder.parent / "private")
    change(folder / "config.json", _name_or_path=private)
    change(
        folder / "tokenizer_config.json", name_or_path=private, special_tokens_map_file=f"{private}/vocab.txt"
    )
    assert hw.load(folder).tokenizer is not None


KERNELS = (
    "org/kernel",
    "paged|org/kernel",
    "kernels-community/flash-attn:forward",
    "org/kernel@main",
    "x:y",
    "kernels",
)


@pytest.mark.parametrize("value", KERNELS)
@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
@pytest.mark.parametrize("place", ["itself", "tower", "by tower"])
def test_a_kernel_of_the_hub_is_refused(folder, place, key, value):
    given = {key: value if place != "by tower" else {"": "eager", "text_config": value}}
    change(folder / "config.json", **(given if place != "tower" else {"text_config": given}))
    with pytest.raises(hw.LoadError, match="asks for code from the hub"):
        ModelFolder(folder).check(trust=False)
    ModelFolder(folder).check(trust=True)


def test_a_kernel_is_refused_by_load(folder):
    change(folder / "config.json", _attn_implementation="org/kernel")
    assert "trust_remote_code=True" in refusal(folder)
    change(folder / "config.json", _attn_implementation="eager")
    assert hw.load(folder).config._attn_implementation == "eager"


@pytest.mark.parametrize("offline", [True, False])
def test_a_backbone_of_the_hub_is_not_fetched(tmp_path, monkeypatch, offline):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("connected"))
    before = dict(os.environ)
    change(
        tmp_path / "config.json", model_type="detr", use_timm_backbone=False, backbone="microsoft/resnet-50"
    )
    message = refusal(tmp_path)
    assert "needs something that is not in it" in message
    assert "config.json: backbone = 'microsoft/resnet-50'" in message
    assert "local_files_only=False" in message
    assert dict(os.environ) == before


FORBIDDEN = {
    "connection": lambda folder: socket.create_connection(("127.0.0.1", 9)),
    "name": lambda folder: socket.getaddrinfo("localhost", 80),
    "cache": lambda folder: (folder.parent / "hub" / "models--a--b").read_bytes(),
    "cache by a link": lambda folder: (folder.parent / "link" / "models--a--b").read_bytes(),
    "code": lambda folder: importlib.import_module("their_code"),
    "pickle": lambda folder: pickle.loads(pickle.dumps(Path)),
}


@pytest.mark.parametrize("act", FORBIDDEN)
def test_a_seal_holds_in_its_block_and_thread(folder, monkeypatch, act):
    (folder.parent / "hub").mkdir()
    (folder.parent / "hub" / "models--a--b").write_text("cached", encoding="utf-8")
    (folder.parent / "link").symlink_to(folder.parent / "hub")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder.parent / "hub"))
    monkeypatch.syspath_prepend(folder)
    (folder / "their_code.py").write_text("ran = True", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "their_code", raising=False)

    def attempt():
        with suppress(ConnectionError):  # nobody listens there
            FORBIDDEN[act](folder)

    with sealed(str(folder), {}) as options, pytest.raises(hw.LoadError):
        attempt()
    assert options == {"local_files_only": True}
    with sealed(str(folder), {}), ThreadPoolExecutor() as pool:
        pool.submit(attempt).result()
    with sealed(str(folder), {"local_files_only": False, "trust_remote_code": True}):
        attempt()
    attempt()


def test_the_cache_of_the_call_is_closed_too(folder):
    cache = folder.parent / "mine"
    cache.mkdir()
    (cache / "config.json").write_text("{}", encoding="utf-8")
    with sealed(str(folder), {"cache_dir": str(cache)}), pytest.raises(hw.LoadError):
        (cache / "config.json").read_text(encoding="utf-8")


def test_a_name_on_the_hub_is_left_as_it_is():
    with sealed("org/name", {"revision": "main"}) as options:
        assert options == {"revision": "main"}


WORDS = st.sampled_from(
    ["_attn_implementation", "weight_map", "vocab_file", "..", "a/b", "\0", "/", "", "adapters"]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.floats() | WORDS | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=25)
@given(
    content=TREES.map(lambda tree: json.dumps(tree).encode()) | st.binary(max_size=30),
    name=st.sampled_from(["config.json", "model.safetensors.index.json"]),
)
def test_whatever_settings_hold_is_judged_by_our_errors(tmp_path_factory, content, name):
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(content)
    try:
        ModelFolder(folder).check(trust=False)
        ModelFolder(folder).wants()
    except hw.LoadError:
        pass


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 257),
        ("n_layer", 1e9),
        ("depths", [2, 10**9]),
        ("text_config", {"encoder_layers": 10**400}),
        ("attention_types", [[["global"], 10**9]]),
        ("num_labels", 10**9),
    ],
)
def test_parts_without_number_are_not_built(folder, key, value):
    change(folder / "config.json", **{key: value})
    message = refusal(folder)
    assert f"config.json: {key}" in message
    assert "and the limit is" in message


@pytest.mark.parametrize(
    "asked",
    [
        {"n_fft": 10**9},
        {"n_fft": 20_000, "feature_size": 2000},
        {"num_mel_bins": 10**400},
        {"feature_extractor": {"fft_length": 1e9}},
        {"win_length": 100, "sampling_rate": 10**7},
        {"window_size_multiplier": 1e6},
        {"num_patch_index_tokens": 10**9},
        {"extra_ids": 10**8},
        {"num_extra_ids": 10**8},
    ],
)
@pytest.mark.parametrize(
    "file", ["preprocessor_config.json", "processor_config.json", "tokenizer_config.json"]
)
def test_filters_and_tokens_without_number_are_not_computed(folder, file, asked):
    change(folder / file, **asked)
    message = refusal(folder)
    assert file in message
    assert "and the limit is" in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("additional_special_tokens", ["<a>"] * 20_001),
        ("extra_special_tokens", dict.fromkeys(map(str, range(20_001)), "<a>")),
        ("text_config", {"x": [[[0] * 20_001]]}),
        ("id2label", dict.fromkeys(map(str, range(100_001)), "a")),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_lists_of_settings_have_an_end(folder, file, key, value):
    change(folder / file, **{key: value})
    assert re.search(rf"{file}: entries of (x|{key}): \d+,001, and the limit is", refusal(folder))


def test_tokens_that_are_added_have_an_end(folder):
    change(folder / "added_tokens.json", **{f"<{i}>": i + 20 for i in range(20_001)})
    assert "added_tokens.json: entries of the file: 20,001" in refusal(folder)


def test_deep_settings_are_refused(folder):
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    assert "lists and objects in each other" in refusal(folder)
