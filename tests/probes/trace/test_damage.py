"""A trace that was changed, or that holds numbers that cannot be, is one TraceError; what a capture gives is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import headwise as hw
from headwise.errors import TraceError
from headwise.probes.attach.sites import Site
from headwise.probes.trace.fields import RANGES
from headwise.probes.trace.header import Meta
from headwise.probes.trace.trace import Trace, load_trace
from tests.kit.traces import TEXT, detailed, make_trace, plain_axis, random_pattern

META = {"model": "by hand", "examples": 2, "patched": [], "seconds": 0.5}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trace = make_trace(
        {TEXT: random_pattern(2, 2, 4, 4)}, {"text": plain_axis("text", 2, 4, (0, 1))}, meta=META
    )
    return detailed(trace).save(tmp_path_factory.mktemp("trace") / "t.safetensors")


def _signed(
    saved: Path,
    path: Path,
    *,
    meta: dict[str, Any] | None = None,
    change: Callable[[dict[str, torch.Tensor]], None] = lambda tensors: None,
) -> Path:
    """The file with other tensors and meta and every checksum made right again."""
    with safe_open(saved, framework="pt") as file:
        header = json.loads(file.metadata()["headwise_trace"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(tensors)
    header["meta"].update(meta or {})
    for name, tensor in tensors.items():
        kind, number, field = name.split(".")
        entry = header["sites" if kind == "site" else "layout"][int(number)]["fields"][field]
        content = tensor.reshape(-1).view(torch.uint8).numpy()
        entry["dtype"], entry["shape"] = str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
        entry["sha256"] = hashlib.sha256(content).hexdigest()
    text = json.dumps(header)
    digest = hashlib.sha256(text.encode()).hexdigest()
    save_file(tensors, path, {"headwise_trace": text, "sha256": digest})
    return path


def _everything(trace: Trace) -> Any:
    records = {
        (site, name): (tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).tolist())
        for site, record in trace.records.items()
        for name, tensor in record.items()
    }
    axes = {name: repr(axis) for name, axis in trace.layout.axes.items()}
    return records, axes, dict(trace.meta)


def test_one_bit_makes_no_other_trace(saved: Path, tmp_path: Path) -> None:
    raw, whole = saved.read_bytes(), _everything(load_trace(saved))
    path = tmp_path / "flipped.safetensors"
    for bit in range(0, 8 * len(raw), 997):
        place = bit // 8
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << bit % 8]) + raw[place + 1 :])
        try:
            assert _everything(load_trace(path)) == whole
        except TraceError:
            continue


@pytest.mark.parametrize("tail", [b"\0", b"x" * 100])
def test_bytes_behind_the_end_are_refused(saved: Path, tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "longer.safetensors"
    path.write_bytes(saved.read_bytes() + tail)
    with pytest.raises(TraceError, match="damaged"):
        load_trace(path)


def test_the_checksums_made_right_again_are_right(saved: Path, tmp_path: Path) -> None:
    load_trace(_signed(saved, tmp_path / "same.safetensors"))


PADDED = ("maps", "distance", "n_keys", "n_queries")
"""Fields that may be NaN in the last place."""
BAD = [
    (name, value)
    for name in RANGES
    if name != "row_positions"
    for value in (-7, 10**7, torch.nan, torch.inf)
    if isinstance(value, int) or (name != "positions" and not (value is torch.nan and name in PADDED))
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_numbers_that_cannot_be_are_refused(saved: Path, tmp_path: Path, name: str, value: float) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"site.0.{name}"].view(-1)[-1] = value

    path = _signed(saved, tmp_path / "odd.safetensors", change=change)
    with pytest.raises(TraceError, match=name):
        load_trace(path)
    trace = load_trace(saved)
    record = {field: tensor.clone() for field, tensor in trace.records[TEXT].items()}
    record[name].view(-1)[-1] = value
    odd = Trace({TEXT: record}, trace.layout, META)
    with pytest.raises(TraceError, match=rf"holds what a saved trace cannot.*{name}"):
        odd.save(tmp_path / "again.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.update({"site.0.entropy": t["site.0.entropy"].long()}),
        lambda t: t.update({"site.0.positions": t["site.0.positions"].double()}),
        lambda t: t.update({"site.0.entropy": t["site.0.entropy"][:1].clone()}),
        lambda t: t.update({"site.0.entropy": t["site.0.entropy"][..., :2].clone()}),
        lambda t: t.update({"site.0.mass": t["site.0.mass"][..., :2].clone()}),
        lambda t: t.update({"site.0.positions": t["site.0.positions"][:1].clone()}),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(saved: Path, tmp_path: Path, change: Any) -> None:
    with pytest.raises(TraceError, match="damaged"):
        load_trace(_signed(saved, tmp_path / "odd.safetensors", change=change))


@pytest.mark.parametrize("numbers", [[0, 0], [1, 0], [-1, 0], [0], [0, 1, 2]])
def test_heads_are_numbers_in_order(tmp_path: Path, numbers: list[int]) -> None:
    record = {"z": torch.zeros(1, 3, 2, 4), "output_heads": torch.tensor(numbers)}
    with pytest.raises(TraceError, match="output_heads"):
        Trace({TEXT: record}).save(tmp_path / "t.safetensors")
    record["output_heads"] = torch.tensor([0, 7])
    assert load_trace(Trace({TEXT: record}).save(tmp_path / "t.safetensors")).head_numbers(TEXT, "z") == (
        0,
        7,
    )


WRONG = [5, -1, "x", "", [1], [[]], {}, {"x": 1}, True, 1.5, None, [None]]
TELLING = ("warnings", "versions", "nonfinite", "seconds", "stranger")


def test_names_have_a_length(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"meta\.model: String should have at most"):
        load_trace(_signed(saved, tmp_path / "t.safetensors", meta={"model": "x" * 20_000}))


@pytest.mark.parametrize(
    "key",
    [
        key if key in TELLING else pytest.param(key, marks=pytest.mark.slow)
        for key in (*Meta.model_fields, "stranger")
    ],
)
def test_meta_are_checked(saved: Path, tmp_path: Path, key: str) -> None:
    for value in WRONG:
        path = _signed(saved, tmp_path / "t.safetensors", meta={key: value})
        try:
            trace = load_trace(path)
        except TraceError:
            continue
        assert key != "stranger"
        assert trace.meta[key] == value
        assert repr(trace)
        assert trace._repr_html_()
        assert isinstance((trace.examples, trace.returned, trace.nonfinite, trace.unreached), tuple)
        trace.to_frame("head")


@pytest.mark.parametrize(
    "meta",
    [{"returned": [2]}, {"ids": ["a"]}, {"examples": 1, "returned": [1]}, {"examples": 0, "ids": ["a"]}],
)
def test_meta_speak_of_the_examples_that_there_are(saved: Path, tmp_path: Path, meta: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match="other examples"):
        load_trace(_signed(saved, tmp_path / "t.safetensors", meta=meta))


def test_what_a_fix_put_in_may_be_any_number(saved: Path, tmp_path: Path) -> None:
    def double(tensors: dict[str, torch.Tensor]) -> None:
        tensors["site.0.maximum"] *= 2

    with pytest.raises(TraceError, match="maximum"):
        load_trace(_signed(saved, tmp_path / "t.safetensors", change=double))
    load_trace(_signed(saved, tmp_path / "t.safetensors", change=double, meta={"patched": ["VHR"]}))


def test_rows_of_a_model_that_is_not_finite_are_nan_and_come_back(saved: Path, tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("entropy", "maximum", "received"):
            tensors[f"site.0.{name}"].fill_(torch.nan)

    counted = [{"site": str(TEXT), "what": "rows", "count": 4, "of": 7}]
    path = _signed(saved, tmp_path / "t.safetensors", change=spoil, meta={"nonfinite": counted})
    assert load_trace(path).nonfinite[0].count == 4
    counted[0]["site"] = str(Site("text", "self", 1))
    with pytest.raises(TraceError, match="entropy is NaN in a row that sees keys"):
        load_trace(_signed(saved, tmp_path / "t.safetensors", change=spoil, meta={"nonfinite": counted}))


@pytest.mark.slow
def test_a_captured_trace_of_half_precision_and_padding_comes_back(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=32, n_positions=16)).eval()
    for dtype in (torch.float32, torch.bfloat16):
        mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
        with hw.capture(model.to(dtype), maps=True, qkv=True, heads=True, residual=True) as trace:
            model(torch.arange(10).reshape(2, 5), attention_mask=mask)
        assert _everything(load_trace(trace.save(tmp_path / "t.safetensors"))) == _everything(trace)
