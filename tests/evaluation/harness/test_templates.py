"""Templates and patterns of a task file are a small part of Jinja and of regular expressions, and soon at an end."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval import utils

from headwise.errors import InputError
from headwise.evaluation.harness.fields import check_pattern
from headwise.evaluation.harness.templates import check_template, sandbox
from tests.evaluation.harness.test_as_data import LOOPS, RUN

SLOW = {
    "loops": LOOPS,
    "a long loop": "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "replacing": "{{ prompt" + ".replace('a', prompt)" * 9 + " }}",
    "replacing by a filter": "{{ prompt" + "|replace('a', prompt)" * 9 + " }}",
    "joining": "{{ prompt" + ".join(prompt)" * 9 + " }}",
    "joining by a filter": "{{ prompt" + "|join(prompt)" * 9 + " }}",
    "adding": "{{ (" + "+".join(["prompt"] * 150) + ")|length }}",
    "writing": "{{ prompt }}" * 1500,
    "slices": "{{ [" + "prompt[1:]," * 600 + "]|length }}",
}


@pytest.mark.parametrize("name", SLOW)
def test_a_template_that_takes_too_long_is_stopped(name: str) -> None:
    check_template(SLOW[name])
    with sandbox(bounded=True), pytest.raises(InputError, match="too long, or writes too much"):
        utils.apply_template(SLOW[name], {"prompt": "a" * 20_000})


def test_names_that_data_give_lead_nowhere() -> None:
    for bounded in (True, False):
        with sandbox(bounded=bounded), pytest.raises(Exception, match="unsafe"):
            utils.apply_template("{{ prompt[name] }}", {"prompt": "x", "name": "__class__"})
        with sandbox(bounded=bounded):  # rows are never rendered
            assert utils.apply_template("{{ prompt }}", {"prompt": RUN}) == RUN


def test_templates_of_any_kind_that_are_data() -> None:
    row = {"a": " x ", "b": ["p", "q"], "c": {"d": [{"t": 1}, {"t": 2}]}, "n": 1}
    for source, text in {
        "{{ a.strip() }}{{ b[n] }}\n": "xq\n",
        "{% for i in range(b|length) %}{{ 'AB'[i] }}: {{ b[i] }} {% endfor %}": "A: p B: q ",
        "{% for x in b if x != 'p' %}{{ loop.index }}{{ x }}{% endfor %}": "1q",
        "{{ c.d|map(attribute='t')|list }}{{ [a, b] }}": "[1, 2][' x ', ['p', 'q']]",
        "{% set x = a + b[0] %}{{ x|trim if b is defined and z is not defined else 'no' }}": "x p",
        "{{ b.index('q') }}{{ b|join('/') }}{{ a|default('y') }}{{ n - 2 }}": "1p/q x -1",
    }.items():
        check_template(source)
        with sandbox(bounded=True):
            assert utils.apply_template(source, row) == text
        assert utils.apply_template(source, row) == text


def test_the_environment_of_the_harness_is_there_again() -> None:
    before, inside, order = utils.env, [], []
    with suppress(ZeroDivisionError), sandbox(bounded=True):
        inside.append(utils.env)
        raise ZeroDivisionError
    assert utils.env is before
    assert inside[0] is not before

    def other() -> None:
        with sandbox(bounded=False):
            order.append("other")

    with sandbox(bounded=True):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
    assert utils.env is before


SLOW_PATTERNS = [
    *("(a+)+$", "(a|aa)+$", "(a*)*", "a*a*a*b", "(a?){50}a{50}", "a?" * 17 + "b", r"(a)\1", "((a{9}){9}){9}"),
    *(
        "(a|ab)(c|bcd)" * 9,
        "(?=a*)a*a*",
        "(?:a+)*?b",
        "(",
        "x" * 501,
    ),
]
PATTERNS = [
    *(r"#### (\-?[0-9\.\,]+)", r"(-?[0-9]+([ .,][0-9.,]+)?)", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "(?s).*#### "),
    r"((?<=The answer is )(.*)(?=.)|(?<=the answer is )(.*)(?=.)|(?<=The answer: )(.*)(?=.))",
]


@pytest.mark.parametrize("pattern", SLOW_PATTERNS)
def test_patterns_that_may_take_for_ever(pattern: str) -> None:
    with pytest.raises(ValueError, match="a pattern"):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_of_the_harness(pattern: str) -> None:
    assert check_pattern(pattern) == pattern


@given(st.text(st.sampled_from(r"""{}%|()[].,'\"_ ab1*+?~setforinif"""), max_size=60))
def test_templates_and_patterns_of_any_form_pass_or_are_refused(text: str) -> None:
    for check in (check_template, check_pattern):
        with suppress(ValueError):
            assert check(text) == text
