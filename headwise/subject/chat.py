"""Chat templates of a model's folder, rendered in a sandbox that bounds what they cost."""

from __future__ import annotations

import datetime
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.utils import Namespace

from headwise.errors import HeadwiseError, InputError
from headwise.readers.templates import COST, MeteredEnvironment, MeteredTemplate
from headwise.text import visible

if TYPE_CHECKING:
    from jinja2.parser import Parser

    from headwise.subject.loaded import LoadedModel

LENGTH = 200_000
"""Characters of a template."""
_FILTERS = (
    *(
        "abs",
        "attr",
        "batch",
        "capitalize",
        "center",
        "count",
        "d",
        "default",
        "dictsort",
        "e",
        "escape",
        "first",
    ),
    *(
        "float",
        "format",
        "groupby",
        "indent",
        "int",
        "items",
        "join",
        "last",
        "length",
        "list",
        "lower",
        "map",
        "max",
    ),
    *(
        "min",
        "reject",
        "rejectattr",
        "replace",
        "reverse",
        "round",
        "safe",
        "select",
        "selectattr",
        "slice",
        "sort",
    ),
    *("string", "title", "trim", "truncate", "unique", "upper", "wordcount"),
)
_TESTS = (
    *("boolean", "callable", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge", "gt"),
    *(
        "greaterthan",
        "in",
        "integer",
        "iterable",
        "le",
        "lessthan",
        "lower",
        "lt",
        "mapping",
        "ne",
        "none",
        "number",
    ),
    *("odd", "sameas", "sequence", "string", "true", "undefined", "upper", "==", "!=", "<", "<=", ">", ">="),
)
_PARTS = (
    *(nodes.Expr, nodes.Helper, nodes.Template, nodes.Output, nodes.If, nodes.For, nodes.Assign, nodes.With),
    *(
        nodes.AssignBlock,
        nodes.Macro,
        nodes.CallBlock,
        nodes.FilterBlock,
        nodes.Scope,
        nodes.Break,
        nodes.Continue,
    ),
)
_LOCK = threading.RLock()


class _Generation(Extension):
    """What an assistant says stands between `{% generation %}` and `{% endgeneration %}`; it is rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _Namespace(Namespace):
    """Variables that a loop may set; it is not shown."""

    def __repr__(self) -> str:
        return "<namespace>"

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"a name begins with _: {name}")
        super().__setitem__(name, value)


class _Chat(MeteredEnvironment):
    """What chat templates are given by transformers, and a meter."""

    def __init__(self) -> None:
        super().__init__(
            filters=_FILTERS,
            tests=_TESTS,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
        )
        self.filters["tojson"] = self.metered(_json, "tojson")
        self.globals |= {"raise_exception": _raise, "strftime_now": _now}
        self.globals |= {"namespace": _Namespace, "dict": dict}

    def exhausted(self) -> InputError:
        """The error of a text that costs too much."""
        return InputError(f"it takes too long, or writes too much: it costs more than {COST:,} characters")

    def parsed(self, source: str) -> nodes.Template:
        """The template, if it is not too long and reads no other."""
        if len(source) > LENGTH:
            raise InputError(f"it has {len(source):,} characters; the most is {LENGTH:,}")
        tree = self.parse(source)
        for node in tree.find_all(nodes.Node):
            if not isinstance(node, _PARTS):
                raise SecurityError(f"it asks for {{% {type(node).__name__} %}}")
            if isinstance(node, nodes.For) and node.recursive:
                raise SecurityError("it asks for a recursive loop")
        return tree


class _Rendered:
    """A chat template of a model, whose errors name its file."""

    def __init__(self, source: Any, where: str) -> None:
        self.where = where
        with self._named():
            self.template = _compiled(source)
        self.environment = self.template.environment

    def render(self, **given: Any) -> str:
        """The text of a chat."""
        with self._named():
            return self.template.render(**given)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a template runs into
            raise _refusal(self.where, error) from error


@lru_cache(maxsize=16)
def _compiled(source: str) -> MeteredTemplate:
    return _Chat().metered_template(source)


def chat_prompt(subject: LoadedModel, messages: list[dict[str, Any]]) -> str:
    """The text of a chat by the template of a model's processor, up to where the model's answer begins.

    Raises:
        InputError: the template is malformed, refuses the messages, asks for more than a text, or takes too long.
    """
    with bounded_chats(subject):
        try:
            return subject.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except HeadwiseError:
            raise
        except Exception as error:  # a template that is no text
            raise _refusal(_where(subject), error) from error


@contextmanager
def bounded_chats(subject: LoadedModel) -> Iterator[None]:
    """Transformers renders chat templates in headwise's sandbox inside the block; a second thread waits.

    Args:
        subject: whose template it is, for messages.
    """
    from transformers.utils import chat_template_utils

    render = partial(_Rendered, where=_where(subject))
    with _LOCK, mock.patch.object(chat_template_utils, "_compile_jinja_template", render):
        yield


def _where(subject: LoadedModel) -> str:
    """The file that holds a model's chat template."""
    files = ("chat_template.jinja", "chat_template.json", "processor_config.json", "tokenizer_config.json")
    found = (file for file in files if os.path.isfile(os.path.join(subject.name, file)))
    return f"{next(found, 'chat template')} of {subject.name}"


def _refusal(where: str, error: Exception) -> InputError:
    reason = error.fact if isinstance(error, HeadwiseError) else f"{type(error).__name__}: {error}"
    return InputError(
        "The chat template of the model cannot be rendered.",
        evidence=f"{where}: {visible(reason, limit=200)}",
        remedy="Mend or remove it, or write the prompt yourself, with its placeholders.",
    )


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now().strftime(form)
