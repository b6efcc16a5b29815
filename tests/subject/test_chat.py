"""Chat templates of a folder give a text as in transformers, or an error that names their file, and take no time."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

import headwise as hw
from headwise.subject.chat import bounded_chats, chat_prompt
from headwise.subject.subject import Subject
from tests.kit.chats import BOMBS, MESSAGES, REFUSED, TEMPLATES
from tests.kit.subjects import language, llava, llava_processor, picture, word_tokenizer


@pytest.fixture(scope="module")
def chatty():
    return language(word_tokenizer())


def said(subject: Subject, template) -> str:
    """What a template makes of a chat."""
    subject.tokenizer.chat_template = template
    with bounded_chats(subject):
        return subject.tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_give_what_they_give_in_transformers(chatty, name) -> None:
    text = said(chatty, TEMPLATES[name])
    assert text == chatty.tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert text


LONG = ("lists as JSON", "lists compared", "lists as keys", "lists looked up", "objects", "macros")
"""Bombs that take more than a few milliseconds."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in BOMBS]
)
def test_bombs_are_stopped(chatty, name) -> None:
    with pytest.raises(hw.InputError, match="it takes too long, or writes too much"):
        said(chatty, BOMBS[name])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rendered_is_said(chatty, name) -> None:
    template, reason = REFUSED[name]
    with pytest.raises(hw.InputError, match="cannot be rendered") as caught:
        said(chatty, template)
    assert reason in caught.value.evidence
    assert "chat template of" in caught.value.evidence


@pytest.mark.parametrize("template", ["{% for", BOMBS["loops"], BOMBS["times"], 5, ["x"], {"a": "b"}])
def test_prepare_names_the_file(tmp_path, template) -> None:
    processor = llava_processor()
    processor.chat_template = template
    subject = llava(processor)
    (tmp_path / "chat_template.jinja").touch()
    object.__setattr__(subject, "name", str(tmp_path))
    with pytest.raises(hw.InputError, match=r"chat_template\.jinja of "):
        subject.prepare(text="what is this ?", image=picture())


def test_the_template_places_the_picture() -> None:
    processor = llava_processor()
    processor.chat_template = "{% for c in messages[0].content %}{{ c.text or '<image> a' }} {% endfor %}"
    subject = llava(processor)
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "cat"}]}]
    assert chat_prompt(subject, messages) == "<image> a cat "
    assert subject.prepare(text="cat", image=picture())["input_ids"][0, -2:].tolist() == [5, 6]


def test_transformers_is_as_before_and_threads_wait(chatty) -> None:
    before, order = chat_template_utils._compile_jinja_template, []
    with suppress(ZeroDivisionError), bounded_chats(chatty):
        assert chat_template_utils._compile_jinja_template is not before
        thread = threading.Thread(target=lambda: order.append(chat_prompt(other, MESSAGES)))
        other = hw.wrap(chatty.model, word_tokenizer())
        other.tokenizer.chat_template = "second"
        thread.start()
        thread.join(0.05)
        order.append("first")
        raise ZeroDivisionError
    thread.join()
    assert order[0] == "first"
    assert chat_template_utils._compile_jinja_template is before


words = cache(lambda: language(word_tokenizer()))


@given(st.text(st.sampled_from(r"""{}%|()[].,'"_ ab1*+~-setforinifmacroendns="""), max_size=60))
def test_templates_of_any_form_give_a_text_or_an_error(source) -> None:
    with suppress(hw.InputError):
        assert isinstance(said(words(), source), str)
