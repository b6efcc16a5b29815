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
    NotFitted,
    TraceError,
    UnsupportedModel,
)

if TYPE_CHECKING:
    from headwise import analyses, evaluation, fixes, reports, testing, zoo, zoo_checks
    from headwise._version import __version__ as __version__
    from headwise.evaluation import Evaluation, evaluate, load_evaluation
    from headwise.evaluation.comparison._compare import compare
    from headwise.evaluation.comparison._fit import fit
    from headwise.evaluation.comparison._search import search
    from headwise.evaluation.harness import harness, load_harness
    from headwise.evaluation.results.comparison import Comparison, load_comparison
    from headwise.evaluation.results.search import load_search
    from headwise.fixes.baking import bake
    from headwise.fixes.patching import patch
    from headwise.fixes.spec.specs import Spec, load_spec, save_spec
    from headwise.layout import TokenLayout
    from headwise.probes.attach.sites import Site
    from headwise.probes.capture import capture
    from headwise.probes.doctor import doctor
    from headwise.probes.trace.trace import Trace, load_trace
    from headwise.readers.limits import file_limits
    from headwise.reports import report
    from headwise.reports.notebook import view
    from headwise.results.result import load_result
    from headwise.subject import Subject, load, wrap

__all__ = [
    "CaptureError",
    "Comparison",
    "Evaluation",
    "FixError",
    "HeadwiseError",
    "InputError",
    "LoadError",
    "NotFitted",
    "Site",
    "Spec",
    "Subject",
    "TokenLayout",
    "Trace",
    "TraceError",
    "UnsupportedModel",
    "analyses",
    "bake",
    "capture",
    "compare",
    "doctor",
    "errors",
    "evaluate",
    "evaluation",
    "file_limits",
    "fit",
    "fixes",
    "harness",
    "load",
    "load_comparison",
    "load_evaluation",
    "load_harness",
    "load_result",
    "load_search",
    "load_spec",
    "load_trace",
    "patch",
    "report",
    "reports",
    "save_spec",
    "search",
    "testing",
    "view",
    "wrap",
    "zoo",
    "zoo_checks",
]

_HOMES = {
    "Comparison": "headwise.evaluation.results.comparison",
    "Evaluation": "headwise.evaluation.results.evaluation",
    "Site": "headwise.probes.attach.sites",
    "Spec": "headwise.fixes.spec.specs",
    "Subject": "headwise.subject",
    "TokenLayout": "headwise.layout",
    "Trace": "headwise.probes.trace.trace",
    "bake": "headwise.fixes.baking",
    "capture": "headwise.probes.capture",
    "compare": "headwise.evaluation.comparison._compare",
    "doctor": "headwise.probes.doctor",
    "evaluate": "headwise.evaluation._evaluate",
    "file_limits": "headwise.readers.limits",
    "fit": "headwise.evaluation.comparison._fit",
    "harness": "headwise.evaluation.harness",
    "load": "headwise.subject",
    "load_comparison": "headwise.evaluation.results.comparison",
    "load_evaluation": "headwise.evaluation.results.evaluation",
    "load_harness": "headwise.evaluation.harness",
    "load_result": "headwise.results.result",
    "load_search": "headwise.evaluation.results.search",
    "load_spec": "headwise.fixes.spec.specs",
    "load_trace": "headwise.probes.trace.trace",
    "patch": "headwise.fixes.patching",
    "report": "headwise.reports",
    "save_spec": "headwise.fixes.spec.specs",
    "search": "headwise.evaluation.comparison._search",
    "view": "headwise.reports.notebook",
    "wrap": "headwise.subject",
    "__version__": "headwise._version",
}


def __getattr__(name: str) -> object:
    if name in ("analyses", "evaluation", "fixes", "reports", "testing", "zoo", "zoo_checks"):
        return import_module(f"headwise.{name}")
    if name not in _HOMES:
        from headwise.plugins import unknown_attribute

        raise unknown_attribute(__name__, name, __all__)
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
