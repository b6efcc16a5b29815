"""Templates from others: Jinja's sandbox, in which everything that is done is paid for before it is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, ItemsView, Iterator, KeysView, ValuesView
from contextvars import ContextVar
from functools import partial, wraps
from math import prod
from typing import Any

from jinja2 import nodes, pass_context
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

from headwise.errors import InputError

COST = 10_000_000
"""Of one text: characters that are written, and those that functions and loops go through."""
VALUES = 500_000
"""Of one list with all that it holds; lists that share what they hold grow fast."""
ENDLESS = 10**12
"""The size of what is larger than any text may cost."""
_FREE = frozenset(("get", "items", "keys", "values", "namespace", "range", "raise_exception"))
"""Functions that take no time for what they are given."""
_LINEAR = frozenset(
    (
        *(
            "abs",
            "attr",
            "capitalize",
            "casefold",
            "count",
            "d",
            "default",
            "dict",
            "dictsort",
            "encode",
            "endswith",
        ),
        *(
            "equalto",
            "find",
            "first",
            "float",
            "groupby",
            "index",
            "int",
            "isalnum",
            "isalpha",
            "isdigit",
            "islower",
        ),
        *(
            "isnumeric",
            "isspace",
            "isupper",
            "last",
            "length",
            "list",
            "lower",
            "lstrip",
            "map",
            "max",
            "min",
        ),
        *("partition", "reject", "rejectattr", "removeprefix", "removesuffix", "reverse", "rfind", "rindex"),
        *(
            "rpartition",
            "rsplit",
            "rstrip",
            "select",
            "selectattr",
            "sort",
            "split",
            "splitlines",
            "startswith",
        ),
        *(
            "strftime_now",
            "string",
            "strip",
            "swapcase",
            "title",
            "trim",
            "truncate",
            "unique",
            "upper",
            "wordcount",
        ),
    )
)
"""Functions that go once through what they are given; of others it is taken that they multiply it."""
_LEFT: ContextVar[int] = ContextVar("headwise_template_cost")


class MeteredEnvironment(ImmutableSandboxedEnvironment):
    """Renders templates, and stops a text that costs more than `COST`.

    Args:
        filters: those of Jinja that there are.
        tests: the same.
        options: of Jinja's environment.
    """

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, *, filters: Collection[str], tests: Collection[str], **options: Any) -> None:
        @pass_context  # so that nothing is worked out while a template is compiled
        def finalize(_: Any, value: Any) -> Any:
            self.charge(size(value))
            return value

        super().__init__(finalize=finalize, optimized=False, **options)
        self.globals = {"range": safe_range}
        self.filters = {name: self.metered(self.filters[name], name) for name in filters}
        self.filters |= {"each of": self._each, "joined": self._joined}
        self.filters |= {"cut": self._cut, "compared": self._compared}
        self.tests = {name: self.metered(self.tests[name], "equalto") for name in tests}

    def exhausted(self) -> InputError:
        """The error of a text that costs too much."""
        return InputError("A template takes too long, or writes too much.")

    def charge(self, cost: int) -> None:
        """Take from what the text may still cost.

        Raises:
            InputError: nothing is left.
        """
        left = _LEFT.get() - cost
        _LEFT.set(left)
        if left < 0:
            raise self.exhausted()

    def parsed(self, source: str) -> nodes.Template:
        """The template as Jinja reads it; a subclass refuses parts of it here."""
        return self.parse(source)

    def metered_template(self, source: str) -> MeteredTemplate:
        """The template; its text is made by `render`."""
        tree = self.parsed(source)
        parts = _weight(tree)
        return MeteredTemplate(self, super().from_string(_Paid().visit(tree)), parts)

    def metered(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """A function that is paid for beforehand, and gives all its values at once."""

        @wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            self.charge(_price(name, (*args, *kwargs.values())))
            value = function(*args, **kwargs)
            return list(value) if isinstance(value, Iterator) else value

        return inner

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """A call out of a template, paid for beforehand."""
        if isinstance(obj, Macro):
            self.charge(5 * context.get("metered parts", 1))
        else:
            name = getattr(obj, "__name__", type(obj).__name__)
            owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)  # Jinja wraps str.format
            self.charge(_price(name, (owner, *args, *kwargs.values())))
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """A sum, a product and the like, paid for beforehand."""
        self.charge(_price_of_operator(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def _each(self, values: Any, weight: int) -> Any:
        """Values of a loop, each of which costs the weight of the loop's body."""
        if not hasattr(values, "__len__"):
            values = list(values)
        self.charge(len(values) * weight)
        return values

    def _joined(self, values: list[Any]) -> str:
        self.charge(size(values))
        return "".join(map(str, values))

    def _cut(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        self.charge(_extent(value))
        return value[start:stop:step]

    def _compared(self, value: Any) -> Any:
        """A value that is compared or looked up, which takes long for lists in lists."""
        cost = size(value)
        self.charge(cost if cost == ENDLESS else cost // 100)
        return value


class MeteredTemplate:
    """A template whose every text is paid for."""

    def __init__(self, environment: MeteredEnvironment, template: Any, parts: int) -> None:
        self.environment, self.template, self.parts = environment, template, parts

    def render(self, **row: Any) -> str:
        """The text for a row of data, which may cost `COST`, and the more the longer the row is.

        Raises:
            InputError: it costs more.
        """
        given = size(row)
        token = _LEFT.set(COST + 50 * min(given, COST))
        try:
            self.environment.charge(given * self.parts // 100)
            return self.template.render(**row, **{"metered parts": self.parts})
        finally:
            _LEFT.reset(token)


class _Paid(NodeTransformer):
    """Has loops, joined texts, slices and comparisons pass by the meter, which Jinja does not ask about them."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "each of", nodes.Const(_weight(node)))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(nodes.List(node.nodes, lineno=node.lineno), "joined")

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            node.arg = _compared(node.arg)
            return node
        ends = (node.arg.start, node.arg.stop, node.arg.step)
        return _filtered(node.node, "cut", *(end or nodes.Const(None) for end in ends))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.expr = _compared(node.expr)
        for operand in node.ops:
            operand.expr = _compared(operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.key = _compared(node.key)
        return node


def _filtered(value: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=value.lineno)


def _compared(value: nodes.Expr) -> nodes.Expr:
    return value if isinstance(value, nodes.Const) else _filtered(value, "compared")


def _weight(tree: nodes.Node) -> int:
    """Parts of a tree and the characters in it, as often as it is gone through."""
    return sum(1 + len(getattr(part, "data", "")) for part in tree.find_all(nodes.Node))


def size(value: Any) -> int:
    """Characters and values in a value, lists within lists written out; `ENDLESS` where they are too many.

    Example:
        >>> size(["abc", {"d": 1}])
        9
    """
    total, rest = 0, [value]
    for _ in range(VALUES):
        if not rest or total > COST:
            break
        item = rest.pop()
        total += 1 + (len(item) if isinstance(item, str | bytes | range) else 0)
        if isinstance(item, dict):
            rest += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
            rest += item
    return total if total <= COST and not rest else ENDLESS


def _extent(value: Any) -> int:
    """The length of a value by itself: digits of a number, values of a list."""
    if isinstance(value, int):
        return value.bit_length() // 30 + 1
    return 1 + len(value) if hasattr(value, "__len__") else 1


def _price(name: str, values: tuple[Any, ...]) -> int:
    """What a function costs by its name and what it is given, itself first; a number may say how often."""
    if name in _FREE:
        return 1
    if name in _LINEAR:
        return sum(map(size, values))
    if name in ("format", "format_map"):
        return sum(map(partial(_price_of_form, values=values), (v for v in values if isinstance(v, str))))
    return size(values[0]) * prod(1 + abs(v) if isinstance(v, int) else size(v) for v in values[1:])


def _price_of_operator(operator: str, left: Any, right: Any) -> int:
    if operator == "%" and isinstance(left, str | bytes):
        return _price_of_form(left if isinstance(left, str) else left.decode("latin-1"), values=(right,))
    if operator == "**":
        return _extent(left) * (1 + abs(right) if isinstance(right, int) else 1)
    if operator == "*":
        times = [1 + abs(value) if isinstance(value, int) else None for value in (left, right)]
        if None not in times:
            return _extent(left) * _extent(right)
        return _extent(left) * (times[1] or 1) if times[0] is None else times[0] * _extent(right)
    return _extent(left) + _extent(right)


def _price_of_form(form: str, *, values: tuple[Any, ...]) -> int:
    """What it costs to fill in a form, such as `"%5d"`, whose numbers are widths."""
    widths = re.findall(r"\d+", form)
    if "*" in form or re.search(r"\{[^}]*\{", form) or any(len(width) > 8 for width in widths):
        return ENDLESS
    return prod(map(size, values)) * size(form) + sum(map(int, widths))
