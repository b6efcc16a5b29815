"""Packages of others, written from the how-to pages alone: installed, found by name, checked by the shipped laws."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGES = ("image_lift", "output_shift")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process in which both packages are installed."""
    target = tmp_path_factory.mktemp("site")
    copies = tmp_path_factory.mktemp("sources")
    for name in PACKAGES:
        source = copies / name
        (source / name).mkdir(parents=True)
        for file in ("pyproject.toml", f"{name}/__init__.py"):
            (source / file).write_text(
                (HERE / "plugins" / name / file).read_text(encoding="utf-8"), encoding="utf-8"
            )
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
    ]
    subprocess.run([*command, str(target), *(str(copies / name) for name in PACKAGES)], check=True)
    path = os.pathsep.join([str(target), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path}


def python(environment, *arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
class TestInstalled:
    def test_they_pass_the_shipped_laws(self, installed):
        code = "\n".join(
            [
                "import headwise as hw",
                "from headwise.testing import check_analysis, check_fix",
                "fix = hw.fixes.image_lift",
                "check_fix(fix(3.0), neutral=fix(1.0))",
                "check_analysis('output_shift')",
                "assert hw.analyses.output_shift.inputs == 'pair'",
            ]
        )
        done = python(installed, "-c", code)
        assert done.returncode == 0, done.stderr[-3000:]

    def test_the_command_line_knows_them(self, installed, tmp_path):
        assert "output_shift" in python(installed, "-m", "headwise", "analyse").stdout
        file = tmp_path / "shift.parquet"
        fix = "image_lift:factor=3.0"
        done = python(
            installed, "-m", "headwise", "analyse", "zoo:vlm", "output-shift", "--fix", fix, "--out", file
        )
        assert done.returncode == 0, done.stderr
        assert "The largest shift is" in done.stdout
        assert file.is_file()

    def test_a_report_shows_them(self, installed, tmp_path):
        page = tmp_path / "page.html"
        done = python(
            *(installed, "-m", "headwise", "report", "zoo:vlm", "--fix", "image_lift:factor=3.0"),
            *("--analysis", "output_shift", "--analysis", "entropy", "--out", page),
        )
        assert done.returncode == 0, done.stderr
        text = page.read_text(encoding="utf-8")
        assert "Output shift" in text
        assert "The largest shift is" in text
