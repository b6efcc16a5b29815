"""Show what every attention head of a transformer does, repair it without training, and prove the repair.

`import headwise as hw` loads nothing heavy: every public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from headwise import errors
from headwise.errors import (
    CaptureError,
    FixError,
    HeadwiseError,
    InputError,
    LoadError,
    TraceError,
    UnsupportedModel,
)

if TYPE_CHECKING:
    from headwise import analyses, evaluation, fixes, zoo
    from headwise.evaluation import Evaluation, evaluate, load_evaluation
    from headwise.fixes.patching import patch
    from headwise.layout import TokenLayout
    from headwise.probes.capture import capture
    from headwise.probes.doctor import doctor
    from headwise.probes.sites import Site
    from headwise.probes.storage import load_trace
    from headwise.probes.trace import Trace
    from headwise.reports import report
    from headwise.subject import Subject, load, wrap

__version__ = "0.1.0"

__all__ = [
    "CaptureError",
    "Evaluation",
    "FixError",
    "HeadwiseError",
    "InputError",
    "LoadError",
    "Site",
    "Subject",
    "TokenLayout",
    "Trace",
    "TraceError",
    "UnsupportedModel",
    "analyses",
    "capture",
    "doctor",
    "errors",
    "evaluate",
    "evaluation",
    "fixes",
    "load",
    "load_evaluation",
    "load_trace",
    "patch",
    "report",
    "wrap",
    "zoo",
]

_HOMES = {
    "Evaluation": "headwise.evaluation.evaluation",
    "Site": "headwise.probes.sites",
    "Subject": "headwise.subject",
    "TokenLayout": "headwise.layout",
    "Trace": "headwise.probes.trace",
    "capture": "headwise.probes.capture",
    "doctor": "headwise.probes.doctor",
    "evaluate": "headwise.evaluation.running",
    "load": "headwise.subject",
    "load_evaluation": "headwise.evaluation.evaluation",
    "load_trace": "headwise.probes.storage",
    "patch": "headwise.fixes.patching",
    "report": "headwise.reports",
    "wrap": "headwise.subject",
}


def __getattr__(name: str) -> object:
    if name in ("analyses", "evaluation", "fixes", "zoo"):
        return import_module(f"headwise.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'headwise' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
