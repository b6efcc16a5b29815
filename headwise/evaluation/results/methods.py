"""What the methods of intervals and tests always give: an interval or a p that goes with its number."""

from __future__ import annotations

import re
from math import isclose, isfinite, isinf, isnan

from headwise.evaluation.statistics.estimate import INFINITE, NO_INTERVAL, NOTHING, TOO_FEW, Estimate
from headwise.evaluation.statistics.intervals import BOUND, WILSON
from headwise.evaluation.statistics.paired import Difference
from headwise.evaluation.statistics.paired_intervals import BONETT_PRICE, SAME, STUDENT

NEAR = 1e-9
"""Rounding of a mean or a quantile."""
_Z = 1.959963984540054
"""Of a level of 95 %."""
_EXACT = re.compile(r"exact permutation test, (\d{1,4}) exchanges")
_DRAWN = re.compile(r"permutation test, (\d{1,9}) random exchanges")


def check_interval(item: Estimate | Difference) -> None:
    """Refuse an interval that does not go with its number, its method or its examples.

    Wilson's is that of a whole number of examples, Bonett and Price's of whole pairs; Student's has the number in its
    middle.

    Raises:
        ValueError: the metric, with what does not belong together.

    Example:
        >>> check_interval(Estimate("accuracy", 0.5, 0.2366, 0.9, 10, "share", True, "Wilson"))
        Traceback (most recent call last):
        ...
        ValueError: accuracy: value is 0.5 of 10 examples, from 0.2366 to 0.9, by 'Wilson'
    """
    low, high, method = item.low, item.high, item.method
    if low > high or isnan(low) != isnan(high):
        raise ValueError(f"{item.metric}: its interval runs from {low} to {high}")
    if not isfinite(item.value) and not method.startswith(NO_INTERVAL):
        raise ValueError(f"{item.metric}: value is {item.value} {item.unit}, by {method!r}")
    if not isnan(low) and (item.n < 2 or method.startswith(NO_INTERVAL)):
        raise ValueError(f"{item.metric}: it has an interval, of {item.n} examples, by {method!r}")
    if isnan(low) and not method.startswith(NO_INTERVAL):
        raise ValueError(f"{item.metric}: it has no interval, by {method!r}")
    why = {TOO_FEW: item.n < 2, NOTHING: isnan(item.value), INFINITE: not isfinite(item.value)}
    if not why.get(method, True):
        raise ValueError(f"{item.metric}: value is {item.value} of {item.n} examples, by {method!r}")
    if not (isnan(low) or _goes_with(item)):
        said = f"value is {item.value} of {item.n} examples, from {low} to {high}, by {method!r}"
        raise ValueError(f"{item.metric}: {said}")


def check_p(item: Difference) -> None:
    """Refuse a p that its test cannot give.

    Raises:
        ValueError: the metric, with p and the test.

    Example:
        >>> nan, test = float("nan"), "exact permutation test, 8 exchanges"
        >>> check_p(Difference("accuracy", 0.5, 0.1, 0.9, 0.3, 0.3, 4, "share", True, f"BCa; {test}"))
        Traceback (most recent call last):
        ...
        ValueError: accuracy: p is 0.3, by 'exact permutation test, 8 exchanges'
    """
    test = item.method.rpartition("; ")[2]
    exact, drawn = _EXACT.fullmatch(test), _DRAWN.fullmatch(test)
    if isnan(item.p):
        given = item.method.startswith(NO_INTERVAL)
    elif exact:
        number = int(exact[1])
        pairs = number.bit_length() - 1
        least = 1.0 if pairs == 1 else 2 / number
        given = number == 2**pairs > 1 and pairs <= item.n and item.p >= least - NEAR
        given = given and _whole(item.p * number)
    elif drawn:
        number = int(drawn[1]) + 1
        given = _whole(item.p * number) and item.p * number > 1 - NEAR
    else:
        given = test == SAME and item.p == 1 and item.value == 0
    if not given:
        raise ValueError(f"{item.metric}: p is {item.p}, by {test!r}")


def _goes_with(item: Estimate | Difference) -> bool:
    """Whether an interval is one that its method gives for its number."""
    value, low, high = item.value, item.low, item.high
    method = item.method.partition("; ")[0]
    if method == BOUND:
        return value == low == 0 < high
    if method == SAME:
        return value == low == high == 0
    if method.startswith(STUDENT):
        cut = low <= NEAR - 1 or high >= 1 - NEAR
        return low - NEAR <= value <= high + NEAR and (cut or abs(high + low - 2 * value) <= NEAR)
    if method == BONETT_PRICE:
        return low - NEAR <= value <= high + NEAR and _has_pairs(low, high, item.n, round(value * item.n))
    if not method.startswith(WILSON):
        return True
    worth = _worth(value, low, high)
    if method != WILSON:
        return worth > 0
    return _whole(worth, 1e-7) and worth <= item.n + 0.5 and _whole(value * round(worth))


def _has_pairs(low: float, high: float, n: int, moved: int) -> bool:
    """Whether Bonett and Price's interval is one of whole pairs; `moved` is what more became true, read where an end is
    cut off.
    """
    cut = low <= NEAR - 1, high >= 1 - NEAR
    if all(cut):
        return True
    middle = moved / (n + 2) if any(cut) else (low + high) / 2
    half = middle - low if cut[1] else high - middle
    more, pairs = middle * (n + 2), ((half / _Z) ** 2 * (n + 2) + middle**2) * (n + 2) - 2
    if not (_whole(more) and _whole(pairs)):
        return False
    return abs(round(more)) <= round(pairs) <= n and not (round(pairs) - round(more)) % 2


def _worth(value: float, low: float, high: float) -> float:
    """How many examples a share has, by Wilson's interval of it; NaN where it is none.

    Either end is a share whose own spread reaches to the number: (value - end)² is z² end (1 - end) / n.
    """
    nan = float("nan")
    if (
        not 0 <= low <= value <= high <= 1
        or (low == value) != (value == 0)
        or (high == value) != (value == 1)
    ):
        return nan
    found = [_Z**2 * end * (1 - end) / (value - end) ** 2 for end in (low, high) if end != value]
    return found[0] if all(isclose(one, found[0], rel_tol=1e-7) for one in found) else nan


def _whole(value: float, near: float = 1e-6) -> bool:
    return not (isnan(value) or isinf(value)) and abs(value - round(value)) <= near * max(1.0, abs(value))
