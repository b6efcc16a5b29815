"""The engine's laws on every verified release of transformers.

`make test-releases` runs them all, `make test-release-ends` the oldest and the newest. Each release lies in a folder
of its own, first on the path; everything else is that of the environment which nox runs in.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

from headwise.probes.check.releases import VERIFIED

LAWS = (
    "tests/probes/check/test_self_check.py",
    "tests/probes/engine/test_laws.py",
    "tests/probes/engine/test_uses.py",
    "tests/probes/generation/test_generate.py",
    "tests/probes/generation/test_calls.py",
    "tests/probes/generation/test_examples.py",
    "tests/probes/generation/test_long_sounds.py",
    "tests/layout/test_generate.py",
    "tests/probes/kernels/test_windows.py",
    "tests/probes/serving/test_prompts.py",
    "tests/probes/serving/test_continuous_batching.py",
    "tests/probes/attach/test_other_writers.py",
    "tests/probes/engine/test_coverage.py",
    "tests/testing/test_invariance.py",
    "tests/fixes/test_classes.py",
    "tests/probes/engine/test_runs_and_sessions.py",
    "tests/fixes/methods/test_act.py",
    "tests/fixes/methods/test_var.py",
    "tests/fixes/methods/test_vhr.py",
)
ENDS = (VERIFIED[0], VERIFIED[-1])
FOLDER = Path("build", "transformers")

nox.options.sessions = ["releases"]
nox.options.default_venv_backend = "none"


@nox.session
@nox.parametrize("release", VERIFIED)
def releases(session: nox.Session, release: str) -> None:
    """The laws on one release."""
    _run_laws(session, release)


@nox.session
@nox.parametrize("release", ENDS)
def ends(session: nox.Session, release: str) -> None:
    """The laws on the oldest and on the newest release."""
    _run_laws(session, release)


def _run_laws(session: nox.Session, release: str) -> None:
    overlay = _overlay(session, release).resolve()
    path = os.pathsep.join(filter(None, (str(overlay), os.environ.get("PYTHONPATH"))))
    env = {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    where = "import transformers as t; print(t.__version__, t.__file__)"
    at_work = session.run(sys.executable, "-c", where, env=env, silent=True)
    if not str(at_work).startswith(f"{release} {overlay}"):
        session.error(f"transformers {release} was to be tested, and this is imported: {at_work}")
    session.run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "auto",
        "-m",
        "not slow",
        *(session.posargs or LAWS),
        env=env,
    )


def _overlay(session: nox.Session, release: str) -> Path:
    """The folder of a release, installed if need be."""
    folder = FOLDER / release
    if not folder.is_dir():
        part = FOLDER / f"{release}.part"
        shutil.rmtree(part, ignore_errors=True)
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(part))
        session.run(*pip, f"transformers=={release}")
        part.rename(folder)
    return folder
