"""Templates of task files: the part of Jinja that fills in a text, checked before use, bounded and in its sandbox."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from math import prod
from typing import Any
from unittest import mock

from jinja2 import StrictUndefined, TemplateSyntaxError, nodes, pass_context
from jinja2 import Template as _Template
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range

from headwise.errors import InputError
from headwise.text import visible

LENGTH = 20_000
"""Characters of a template."""
COST = 10_000_000
"""Of one text: characters that are written, and those that functions and loops go through."""


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


class _Bounded(ImmutableSandboxedEnvironment):
    """Renders what `check_template` lets pass, and stops a text that costs more than `COST`."""

    intercepted_binops = frozenset("+")

    def __init__(self) -> None:
        @pass_context  # so that nothing is worked out while a template is compiled
        def finalize(_: Any, value: Any) -> Any:
            self.charge(size(value))
            return value

        super().__init__(
            undefined=StrictUndefined, keep_trailing_newline=True, finalize=finalize, optimized=False
        )
        self.left = 0
        self.globals = {"range": safe_range}
        self.filters = {name: self._metered(self.filters[name]) for name in _FILTERS}
        self.filters["each of"] = self._each
        self.tests = {name: self.tests[name] for name in _TESTS}
        self._known: dict[str, _Text] = {}

    def charge(self, cost: int) -> None:
        """Take from what the text may still cost.

        Raises:
            InputError: nothing is left.
        """
        self.left -= cost
        if self.left < 0:
            raise InputError(
                "A template of the task takes too long, or writes too much.",
                evidence=f"it costs more than {COST:,} characters for one example",
                remedy="Make it simpler, or allow_code=True (--allow-code) if you trust the file.",
            )

    def from_string(self, source: Any, *_: Any, **__: Any) -> Any:
        """The template; its text is made by `render`."""
        if source not in self._known:
            tree = _parsed(source)
            for loop in tree.find_all(nodes.For):
                weight = sum(1 + len(getattr(part, "data", "")) for part in loop.find_all(nodes.Node))
                args: list[nodes.Expr] = [nodes.Const(weight)]
                loop.iter = nodes.Filter(loop.iter, "each of", args, [], None, None, lineno=loop.lineno)
            template = super().from_string(tree)
            self._known[source] = _Text(self, template, sum(1 for _ in tree.find_all(nodes.Node)))
        return self._known[source]

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call out of a template, paid for beforehand."""
        self.charge(prod(map(size, (getattr(obj, "__self__", None), *args, *kwargs.values()))))
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """A sum, paid for beforehand."""
        self.charge(size(left) + size(right))
        return super().call_binop(context, operator, left, right)

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            self.charge(prod(map(size, (*args, *kwargs.values()))))
            value = function(*args, **kwargs)
            return list(value) if isinstance(value, Iterator) else value

        return inner

    def _each(self, values: Any, weight: int) -> Any:
        self.charge(len(values) * weight)
        return values


class _Text:
    """A template whose every text is paid for."""

    def __init__(self, environment: _Bounded, template: _Template, parts: int) -> None:
        self.environment, self.template, self.parts = environment, template, parts

    def render(self, **row: Any) -> str:
        """The text for a row of data."""
        self.environment.left = COST
        self.environment.charge(size(row) * self.parts // 100)
        return self.template.render(**row)


def size(value: Any) -> int:
    """Characters and values in a value, lists within lists written out; of more than `COST` not all are counted.

    Example:
        >>> size(["abc", {"d": 1}])
        9
    """
    total, rest = 0, [value]
    while rest and total <= COST:
        item = rest.pop()
        total += 1 + (len(item) if isinstance(item, str | bytes) else 0)
        if isinstance(item, dict):
            rest += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple):
            rest += item
    return total


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
