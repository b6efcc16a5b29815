"""Errors that say what happened, what it was seen on, and what to do about it."""

from __future__ import annotations


class HeadwiseError(Exception):
    """Base of every error headwise raises on purpose: fact, evidence, remedy.

    Example:
        >>> raise HeadwiseError("The text is empty.", evidence="text=''", remedy="Give one word or more.")
        Traceback (most recent call last):
        ...
        headwise.errors.HeadwiseError: The text is empty. (text='') Give one word or more.
    """

    def __init__(self, fact: str, *, evidence: str = "", remedy: str = "") -> None:
        self.fact = fact
        self.evidence = evidence
        self.remedy = remedy
        super().__init__(fact)

    def __str__(self) -> str:
        evidence = f" ({self.evidence})" if self.evidence else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.fact}{evidence}{remedy}"


class InputError(HeadwiseError, ValueError):
    """What the user handed over cannot be used: a text, an image, a path, an argument."""


class UnknownAttribute(InputError, AttributeError):
    """A module of headwise has nothing of this name, such as `hw.analyses.entrpy`."""


class LoadError(HeadwiseError):
    """A model, a processor or a file could not be opened."""


class CaptureError(HeadwiseError):
    """A capture could not see what it was asked to see."""


class UnsupportedModel(HeadwiseError):
    """The model runs attention in a way headwise can neither observe nor edit exactly."""


class FixError(HeadwiseError, ValueError):
    """A fix is malformed, or did something a fix may not do."""


class NotFitted(FixError):
    """A fix needs constants of this model that are neither published nor fitted."""


class TraceError(HeadwiseError):
    """A saved trace is damaged, incomplete, or written by a newer version."""


class HeadwiseWarning(UserWarning):
    """What is to be known before a run that can go on, such as that it is too small to find anything."""
