"""The releases of transformers that headwise's laws are run on."""

from __future__ import annotations

from collections.abc import Sequence

VERIFIED = ("5.20.0", "5.21.1", "5.22.2", "5.23.0", "5.24.0")
"""The oldest supported release, the last of each minor one since, and the newest. `make test-releases` runs them."""


def doubt_of_release(release: str | None = None, *, passed: Sequence[str] = ()) -> str | None:
    """Remark on a release of transformers outside the verified range; None within it.

    Args:
        release: the one at work when None.
        passed: what the self-check has tried and found right.

    Example:
        >>> doubt_of_release("5.23.1") is None
        True
        >>> doubt_of_release("6.0.0", passed=["forward", "decode step"])
        'headwise is verified up to transformers 5.24; this is 6.0.0: the self-check passed: forward, decode step.'
    """
    import transformers

    release = release or transformers.__version__
    oldest, newest, this = (_minor(one) for one in (VERIFIED[0], VERIFIED[-1], release))
    if oldest <= this <= newest:
        return None
    limit = (
        f"up to transformers {_text(newest)}" if this > newest else f"from transformers {_text(oldest)} on"
    )
    outcome = f"the self-check passed: {', '.join(passed)}" if passed else "the self-check was not run"
    return f"headwise is verified {limit}; this is {release}: {outcome}."


def verified_range() -> str:
    """The verified releases in words.

    Example:
        >>> verified_range()
        '5.20 to 5.24'
    """
    return f"{_text(_minor(VERIFIED[0]))} to {_text(_minor(VERIFIED[-1]))}"


def _minor(release: str) -> tuple[int, int]:
    from packaging.version import Version

    version = Version(release)
    return version.major, version.minor


def _text(minor: tuple[int, int]) -> str:
    return f"{minor[0]}.{minor[1]}"
