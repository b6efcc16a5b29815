"""The viewer in Python: what a notebook keeps stays small, texts are sent by name, every host has something to show."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import types
import zlib

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import headwise as hw
from headwise.analyses import entropy, sink_rate, sinks
from headwise.errors import InputError
from headwise.probes.trace.trace import Trace
from headwise.reports import notebook as viewer
from headwise.reports.notebook import static
from headwise.reports.page.serialize import page_blobs
from tests.kit.reports import HOSTILE, Page, sink_trace

pytest.importorskip("anywidget", reason="the viewer is a widget of anywidget")
MOST = 200_000


@pytest.fixture(scope="module")
def trace():
    return sink_trace()


@pytest.fixture(scope="module")
def large():
    """32 × 32 heads that look at 64 tokens, and differ."""
    torch.manual_seed(0)
    sizes = {"n_layer": 32, "n_head": 32, "n_embd": 64, "vocab_size": 50, "n_positions": 64}
    config = GPT2Config(**sizes, initializer_range=0.4, bos_token_id=1, eos_token_id=1)
    model = GPT2LMHeadModel(config).eval()
    with hw.capture(hw.wrap(model), maps=True) as trace, torch.no_grad():
        model(torch.randint(0, 50, (4, 64)))
    return trace


@pytest.fixture
def kernel(monkeypatch):
    """As in a notebook: an IPython shell with a kernel."""
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))


def opened(text):
    return zlib.decompress(base64.b64decode(text))


def stored(widget):
    """What a notebook that keeps the state of its widgets writes down."""
    return len(json.dumps(widget.get_state(), default=str).encode())


def test_texts_are_those_of_the_page_and_unknown_names_have_none(trace):
    widget = hw.view(trace)
    assert {name: widget.text(name) for name in page_blobs(widget._content)} == page_blobs(widget._content)
    assert json.loads(opened(widget.text("about"))) == widget.about
    assert b'data-tower="text"' in opened(widget.text("example-0"))
    assert [widget.text(name) for name in ("example-1", "patterns-other", "__class__", "")] == [None] * 4


def test_messages_are_answered_by_name_and_others_are_left_alone(trace):
    widget, sent = hw.view(trace), []
    widget.send = lambda content, buffers=None: sent.append(content)
    for message in ({"kind": "headwise", "name": "about"}, {"kind": "headwise", "name": "no such"}):
        widget._handle_custom_msg(message, [])
    for message in ({"name": "about"}, {"kind": "headwise"}, {"kind": "headwise", "name": 3}, "about", None):
        widget._handle_custom_msg(message, [])
    assert [(one["name"], one["text"] is None) for one in sent] == [("about", False), ("no such", True)]


def test_what_is_too_large_for_the_state_is_sent(trace, monkeypatch):
    small = hw.view(trace)
    monkeypatch.setattr(viewer.widget, "MOST_STATE", len(json.dumps(small.about)) - 1)
    large = hw.view(trace)
    assert large.about is None
    assert json.loads(opened(large.text("about"))) == small.about
    assert stored(large) < stored(small)


@pytest.mark.slow
def test_cells_of_a_thousand_heads_are_small(large, kernel):
    widget = hw.view(large)
    assert stored(widget) <= MOST
    assert len(widget._repr_html_().encode()) <= MOST
    assert len(large._repr_html_().encode()) <= MOST
    for analysis in (entropy, sinks, sink_rate, hw.analyses.mass, hw.analyses.distance):
        result = analysis(large)
        assert len(json.dumps(result._repr_mimebundle_()).encode()) <= MOST
    assert stored(hw.view(entropy(large))) <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lm", "vlm", "speech", "nmt"])
def test_cells_of_every_modality_are_small(name, kernel):
    subject = hw.load(f"zoo:{name}")
    example = dict(hw.zoo.sample(f"zoo:{name}").inputs)
    with hw.capture(subject, maps=True) as trace:
        subject.model(**subject.prepare(**example))
    widget = hw.view(trace, subject=subject, examples=[example])
    assert stored(widget) <= MOST
    for html in (widget._repr_html_(), trace._repr_html_()):
        assert len(html.encode()) <= MOST
    assert len(json.dumps(entropy(trace)._repr_mimebundle_()).encode()) <= MOST
    shown = opened(widget.text("example-0"))
    assert (b"<audio" in shown) == (name == "speech")
    assert (b'class="overlay"' in shown) == (name == "vlm")
    assert (b'class="grid matrix"' in shown) == (name in ("speech", "nmt"))


def test_a_live_notebook_gets_the_viewer_and_every_other_host_static_html(trace, kernel, monkeypatch):
    bundle = entropy(trace)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", viewer.WIDGET}
    assert bundle["text/html"] == entropy(trace)._repr_html_()
    assert set(sinks(trace)._repr_mimebundle_()) == {"text/plain", "text/html"}  # has no map
    with monkeypatch.context() as without:
        without.setattr(viewer, "find_spec", lambda name: None)
        assert set(entropy(trace)._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    assert set(entropy(trace)._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_view_without_anywidget_says_what_to_install(trace, monkeypatch):
    monkeypatch.setattr(viewer, "find_spec", lambda name: None)
    for source in (trace, entropy(trace)):
        with pytest.raises(InputError, match=r'pip install "headwise\[notebook\]"'):
            hw.view(source)


def test_a_result_without_a_map_cannot_be_viewed(trace):
    with pytest.raises(InputError, match=r"no map of heads.*\.plot\(\)"):
        hw.view(sinks(trace))


@pytest.mark.slow
def test_importing_and_showing_a_result_loads_no_widgets():
    code = (
        "import sys; from tests.kit.reports import sink_trace; from headwise.analyses import entropy\n"
        "trace = sink_trace(); trace._repr_html_(); entropy(trace)._repr_mimebundle_()\n"
        "print(sorted({'anywidget', 'ipywidgets', 'plotly', 'IPython'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200
    )
    assert done.stdout.strip() == "[]"


def test_static_cells_run_nothing_and_show_hostile_text_as_text():
    trace = sink_trace(
        [*HOSTILE, *(f"w{i}" for i in range(8))], meta={"model": HOSTILE[1], "warnings": HOSTILE[:1]}
    )
    for html in (trace._repr_html_(), hw.view(trace)._repr_html_()):
        page = Page(html)
        assert {tag for tag, _ in page.tags} <= {"div", "p", "strong", "figure", "figcaption", "img"}
        names = {name for _, attributes in page.tags for name in attributes}
        assert names <= {"style", "src", "alt", "class"}
        classes = [attributes["class"] for _, attributes in page.tags if "class" in attributes]
        assert classes == ["tex2jax_ignore mathjax_ignore"]
        pictures = [attributes for tag, attributes in page.tags if tag == "img"]
        assert pictures
        assert all(one["src"].startswith("data:image/png;base64,") and one["alt"] for one in pictures)
        assert HOSTILE[1] in page.words


def test_a_trace_without_maps_says_how_to_get_patterns(trace):
    plain = Trace(
        {
            site: {name: value for name, value in record.items() if name != "maps"}
            for site, record in trace.records.items()
        },
        trace.layout,
        trace.meta,
    )
    html = plain._repr_html_()
    assert "capture(maps=True)" in html
    assert "Strongest key of each head".lower() in html.lower()
    assert "capture(maps=True)" not in trace._repr_html_()
    assert hw.view(plain).about["groups"][0]["shape"] is None


def test_an_open_trace_and_one_without_statistics_have_a_cell():
    assert Page(Trace()._repr_html_()).words.strip() == "Trace(open)."
    site = sink_trace().sites[0]
    bare = Trace({site: {"positions": torch.arange(2), "residual": torch.ones(1, 2, 3)}}, None, {})
    assert "1 site" in Page(bare._repr_html_()).words


@pytest.mark.slow
def test_pictures_become_smaller_until_they_fit(large, monkeypatch):
    whole = large._repr_html_()
    monkeypatch.setattr(static, "MOST_PICTURES", len(whole) // 3)
    smaller = large._repr_html_()
    assert len(smaller) < len(whole) // 2
    assert "Attention patterns of" in smaller
    monkeypatch.setattr(static, "MOST_PICTURES", 10)
    assert "Attention patterns of" not in large._repr_html_()
