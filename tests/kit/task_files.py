"""Task files of lm-evaluation-harness as ways in: what they say, what templates make of rows, and the rows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import headwise as hw
from headwise.errors import InputError
from headwise.evaluation.harness.guard import translate_errors
from headwise.evaluation.harness.templates import check_template, sandbox
from headwise.subject.chat import chat_prompt
from tests.kit.chats import MESSAGES
from tests.kit.chats import TEMPLATES as CHATS
from tests.kit.comparisons import small_subject
from tests.kit.loaders import Loader

ROW = {
    "q": "the cat sat",
    "n": 1,
    "c": [" cat", " mat"],
    "d": {"t": [{"u": 1}, {"u": 2}]},
    "e": None,
    "f": 0.5,
}
TEMPLATES = (
    *("{{q}}", "{{ c[n].strip() }}: {{ q|trim|upper }}", "{{ d.t|map(attribute='u')|join(', ') }}"),
    *(
        "{% for x in c if x != ' cat' %}{{ loop.index }}. {{ x }}\n{% endfor %}",
        "{{ 'AB'[n] }}{{ -n + 2 - f }}",
    ),
    *(
        "{% set x = q + c[0] %}{{ x.replace('a', 'b') if n is defined and not e else 'no' }}",
        "{{ q[1:3]|length }}",
    ),
    *("{{ [q, c]|length }}{{ {'a': n}.items()|list }}", "{{ q.split(' ')|first }}{{ e|default('x', true) }}"),
    *(
        "{% for i in range(n) %}{{ c[i]|replace(' ', '')|title }}{{ q.find('c') }}{% endfor %}",
        "{{ f|int|abs }}",
    ),
    *(
        "{% if c|count == 2 and 'a' in q %}{{ q.count('a') }}{% elif n %}y{% else %}z{% endif %}",
        "{{ (n, f)|last }}",
    ),
)
DATA = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "q.jsonl"}}, "test_split": "test"}
ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
CHOICE = {
    "task": "choice",
    **DATA,
    "output_type": "multiple_choice",
    "doc_to_text": "{{q}}",
    "doc_to_choice": "{{c}}",
    "doc_to_target": "n",
    "metric_list": [ACC, {**ACC, "metric": "acc_norm"}],
}
SHOTS = {
    **CHOICE,
    "task": "shots",
    "doc_to_choice": [" cat", " mat"],
    "doc_to_target": "{{n}}",
    "target_delimiter": " ",
    "fewshot_delimiter": "\n",
    "num_fewshot": 1,
    "fewshot_config": {"sampler": "first_n", "samples": [ROW, ROW]},
    "description": "the cat {{q}}",
    "should_decontaminate": True,
    "doc_to_decontamination_query": "q",
    "metadata": {"version": 1.0},
}
WRITE = {
    "task": "write",
    **DATA,
    "output_type": "generate_until",
    "doc_to_text": "{{q}}",
    "doc_to_target": "{{c[0]}}",
    "gen_prefix": "the",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3, "do_sample": False, "temperature": 0.0},
    "repeats": 1,
    "filter_list": [
        {
            "name": "word",
            "filter": [
                {"function": "regex", "regex_pattern": "(\\w+)", "group_select": -1, "fallback": "none"},
                {"function": "map", "mapping_dict": {"cat": " cat"}, "default_value": "x"},
                {"function": "lowercase"},
                {"function": "take_first"},
            ],
        },
        {"name": "vote", "filter": [{"function": "majority_vote"}, {"function": "take_first"}]},
    ],
    "metric_list": [
        {
            "metric": "exact_match",
            "aggregation": "mean",
            "ignore_case": True,
            "regexes_to_ignore": [",", "\\$"],
        }
    ],
}
READ = {
    "task": "read",
    "task_alias": "reading",
    **DATA,
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{q}}",
    "metric_list": [
        {"metric": "word_perplexity"},
        {"metric": "bits_per_byte", "aggregation": "bits_per_byte"},
    ],
}
LAST = {
    "task": "last",
    **DATA,
    "output_type": "loglikelihood",
    "doc_to_text": "q",
    "doc_to_target": " {{c[0]}}",
    "metric_list": [{"metric": "perplexity", "aggregation": "perplexity"}, ACC],
}
GROUP = {
    "group": "both",
    "task": [{**CHOICE, "task": "one"}, {**CHOICE, "task": "two", "tag": ["x"]}],
    "aggregate_metric_list": [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}],
}
TASKS: tuple[dict[str, Any], ...] = (CHOICE, SHOTS, WRITE, READ, LAST, GROUP)


def templates() -> Iterator[tuple[str, Loader]]:
    """A template with a row that it fills in, and one of a chat."""
    chats = tuple(json.dumps({"template": text}).encode() for text in CHATS.values())
    yield "chat template", Loader("c.json", chats, _chat)
    several = tuple(json.dumps({"template": text, "row": ROW}).encode() for text in TEMPLATES)
    yield "template", Loader("t.json", several, _render)


def task_files() -> Iterator[tuple[str, Loader]]:
    """Whole runs of a task file, and of its data."""
    written = [json.dumps(task).encode() for task in TASKS] + [yaml.safe_dump(WRITE).encode()]
    yield "task file, run", Loader("t.yaml", tuple(written), run_task, _look)
    rows = "".join(json.dumps(ROW) + "\n" for _ in range(2)).encode()
    for task in (CHOICE, WRITE, READ):
        yield (
            f"data of {task['task']}",
            Loader("q.jsonl", (rows,), lambda path, task=task: _rows(path, task), _look),
        )


def _render(path: Path) -> str:
    """The text that a template makes of a row, both of the file."""
    from lm_eval import utils

    from headwise.readers.json import read_json

    given = read_json(path)
    try:
        template, row = check_template(given["template"]), dict(given["row"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    with sandbox(bounded=True), translate_errors("The row does not fit.", remedy="Check it."):
        return utils.apply_template(template, row)


def _chat(path: Path) -> str:
    """The text that the template of a file makes of a chat."""
    from headwise.readers.json import read_json

    subject, given = _talker(), read_json(path)
    subject.tokenizer.chat_template = given.get("template", "") if isinstance(given, dict) else given
    return chat_prompt(subject, MESSAGES)


@cache
def _talker() -> hw.Subject:
    return small_subject()


@cache
def _subject() -> hw.Subject:
    return small_subject()


def run_task(path: Path) -> Any:
    if not (data := path.parent / "q.jsonl").exists():
        data.write_text("".join(json.dumps(ROW) + "\n" for _ in range(2)), encoding="utf-8")
    return hw.harness(_subject(), path, limit=1)


def _rows(path: Path, task: dict[str, Any]) -> Any:
    (file := path.parent / "t.yaml").write_text(json.dumps(task), encoding="utf-8")
    return hw.harness(_subject(), file, limit=1)


def _look(found: Any) -> object:
    with tempfile.TemporaryDirectory() as folder:
        back = hw.load_harness(found.save(Path(folder) / "a.json"))
    return repr(back), back.lines(), found._repr_html_(), found.plot()
