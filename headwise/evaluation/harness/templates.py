"""Templates of task files: the part of Jinja that fills in a text, checked before use, bounded and in its sandbox."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headwise.errors import InputError
from headwise.readers.templates import COST, MeteredEnvironment, MeteredTemplate
from headwise.text import visible

LENGTH = 20_000
"""Characters of a template."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PARTS = _words(
    "Template Output TemplateData Name Const Getitem Getattr Slice Filter Test Call Keyword List Tuple Dict Pair "
    "Add Sub Neg Pos Not And Or Compare Operand CondExpr If For Assign"
)
_FILTERS = _words(
    "abs capitalize count d default first float int join last length list lower map replace string title trim upper"
)
_TESTS = _words("boolean defined false in integer mapping none number sequence string true undefined")
_METHODS = _words(
    "capitalize count endswith find get index isalpha isdigit items join keys lower lstrip removeprefix removesuffix "
    "replace rfind rsplit rstrip split splitlines startswith strip title upper values"
)
_LITERALS = (nodes.List, nodes.Tuple, nodes.Dict)
_LOCK = threading.RLock()


def check_template(source: str) -> str:
    """A template, if it only fills in a text.

    Args:
        source: what stands in the task file.

    Raises:
        ValueError: it is malformed or too long, or asks for more: names that begin with `_`, calls of anything but
            `range` and methods of texts and lists, other filters and tests, products and powers, macros, lists that
            grow from one variable into the next.

    Example:
        >>> check_template("{{ question.strip() }}")
        '{{ question.strip() }}'
        >>> check_template("{{ cycler.__init__ }}")
        Traceback (most recent call last):
        ...
        ValueError: a template asks for .__init__, which is more than filling in a text
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about calls that cannot be
            _Bounded().from_string(source)
    except (TemplateSyntaxError, SyntaxError, RecursionError, MemoryError) as error:  # of compiling, too
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return source


def _parsed(source: str) -> nodes.Template:
    if len(source) > LENGTH:
        raise ValueError(f"a template has {len(source):,} characters; the most is {LENGTH:,}")
    tree = _OPEN.parse(source)
    more = next(filter(None, map(_more, tree.find_all(nodes.Node))), None)
    sets = [list(part.find_all(nodes.Name)) for part in tree.find_all(nodes.Assign)]
    made = {name.name for names in sets for name in names if name.ctx == "store"}
    if any(name.ctx == "load" and name.name in made for names in sets for name in names):
        more = more or "a variable made of another"
    if more:
        raise ValueError(
            f"a template asks for {visible(more, limit=60)}, which is more than filling in a text"
        )
    return tree


def _more(node: nodes.Node) -> str | None:
    """What a node asks for beyond filling in a text; None if it does not."""
    kind = type(node).__name__
    match node:
        case nodes.Getattr() if node.attr.startswith("_"):
            return f".{node.attr}"
        case nodes.Filter() if node.name not in _FILTERS:
            return f"the filter {node.name!r}"
        case nodes.Filter(name="map") if node.args or [item.key for item in node.kwargs] != ["attribute"]:
            return "the filter 'map' with another"
        case nodes.Test() if node.name not in _TESTS:
            return f"the test {node.name!r}"
        case nodes.Call(node=nodes.Name(name="range")):
            return None
        case nodes.Call(node=nodes.Getattr(attr=method)) if method in _METHODS:
            return None
        case nodes.Call():
            return f"a call of {getattr(node.node, 'attr', getattr(node.node, 'name', 'a value'))!r}"
        case nodes.Assign() | nodes.For() if isinstance(
            value := node.node if isinstance(node, nodes.Assign) else node.iter, _LITERALS
        ) or any(map(value.find, _LITERALS)):
            return "a variable that holds a list written out"
        case nodes.For() if node.recursive:
            return "a recursive loop"
    return None if kind in _PARTS else f"{{% {kind} %}}"


class _Bounded(MeteredEnvironment):
    """Renders what `check_template` lets pass, and stops a text that costs too much."""

    def __init__(self) -> None:
        super().__init__(
            filters=_FILTERS, tests=_TESTS, undefined=StrictUndefined, keep_trailing_newline=True
        )
        self._known: dict[str, MeteredTemplate] = {}

    def exhausted(self) -> InputError:
        """The error of a text that costs too much."""
        return InputError(
            "A template of the task takes too long, or writes too much.",
            evidence=f"it costs more than {COST:,} characters for one example",
            remedy="Make it simpler, or allow_code=True (--allow-code) if you trust the file.",
        )

    def parsed(self, source: str) -> nodes.Template:
        """The template, if it only fills in a text."""
        return _parsed(source)

    def from_string(self, source: Any, *_: Any, **__: Any) -> Any:
        """The template; its text is made by `render`."""
        if source not in self._known:
            self._known[source] = self.metered_template(source)
        return self._known[source]


_OPEN = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)


@contextmanager
def sandbox(*, bounded: bool) -> Iterator[None]:
    """Templates of the harness are rendered in Jinja's sandbox inside the block.

    The harness keeps one environment for the process, `lm_eval.utils.env`. It is another inside the block, and the old
    one behind it, after an error too; a second thread waits until the first is through.

    Args:
        bounded: also check each with `check_template`, and bound what it costs.
    """
    from lm_eval import utils

    inner = _Bounded() if bounded else _OPEN.overlay()
    if not bounded:
        inner.filters = utils.env.filters
    with _LOCK, mock.patch.object(utils, "env", inner):
        yield
