"""A tiny saved language model, and the command line run in this process or in one of its own."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from unittest import mock

import torch
import typer.testing
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.cli.app import app
from tests.kit.subjects import word_tokenizer

COMMANDS = cache(typer.main.get_command)
"""The commands of an app; typer's runner would build all of them anew at every call."""
TEXT = "a cat sat on the mat ."


def save(folder, *, positions=24, **changes):
    """A tiny language model with its tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        **changes,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


def run(*arguments):
    words = [str(argument) for argument in arguments]
    with mock.patch.object(typer.testing, "_get_command", COMMANDS):
        return typer.testing.CliRunner().invoke(app, words, prog_name="headwise")


def process(*arguments):
    command = [sys.executable, "-m", "headwise", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_one_line(stdout, stderr, said):
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.endswith(".\n")
    assert stderr.count("\n") == 1
    assert said in stderr
