"""Checks that any fix or analysis must pass, tiny models to try them on, and a circuit that is known exactly.

For packages that add to headwise: `check_fix(MyFix(...))` in a test of their own says whether padding, batching,
caching or the attention kernel matter to it. pytest is needed for `parametrize_with_checks` alone.
"""

from headwise.testing.analyses import analysis_checks, check_analysis
from headwise.testing.checks import Check, parametrize_with_checks
from headwise.testing.circuit import known_circuit
from headwise.testing.fixes import check_fix, fix_checks
from headwise.testing.models import TINY_MODELS, TinyModel, tiny_model

__all__ = [
    "TINY_MODELS",
    "Check",
    "TinyModel",
    "analysis_checks",
    "check_analysis",
    "check_fix",
    "fix_checks",
    "known_circuit",
    "parametrize_with_checks",
    "tiny_model",
]
