"""The verified releases are stated once, and everything that names them agrees."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from headwise.probes.check.releases import VERIFIED, doubt_of_release
from tests.kit.pages import ROOT


def test_they_are_in_order_one_of_each_minor_release() -> None:
    versions = [Version(release) for release in VERIFIED]
    assert versions == sorted(versions)
    assert [version.minor for version in versions] == list(range(versions[0].minor, versions[-1].minor + 1))


def test_nox_runs_them_and_both_ends() -> None:
    nox = pytest.importorskip("nox", reason="pip install nox")
    assert nox
    import noxfile

    assert noxfile.VERIFIED is VERIFIED
    assert (VERIFIED[0], VERIFIED[-1]) == noxfile.ENDS
    assert all((ROOT / law).is_file() for law in noxfile.LAWS)


def test_the_package_and_the_constraints_name_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = next(r for r in map(Requirement, project["dependencies"]) if r.name == "transformers")
    assert all(release in needs.specifier for release in VERIFIED)
    assert Version(VERIFIED[0]).release[:2] == Version(next(iter(needs.specifier)).version).release[:2]
    pinned = re.search(r"^transformers==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] in VERIFIED


def test_the_pages_name_them() -> None:
    text = " ".join("\n".join((ROOT / page).read_text() for page in ("README.md", "docs/install.md")).split())
    release = r"\d+\.\d+\.\d+"
    named = rf"verified on transformers ({release}(?:(?:, | and ){release})*)"
    statements = re.findall(named, text, re.IGNORECASE)
    assert {tuple(re.findall(release, statement)) for statement in statements} == {VERIFIED}


def test_an_untested_release_is_doubted_on_both_sides() -> None:
    newest = Version(VERIFIED[-1])
    newer = f"{newest.major}.{newest.minor + 1}.0"
    assert all(doubt_of_release(release) is None for release in VERIFIED)
    assert f"this is {newer}: the self-check passed: forward." in str(
        doubt_of_release(newer, passed=["forward"])
    )
    assert "verified from transformers" in str(doubt_of_release("4.57.0"))
