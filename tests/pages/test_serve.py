"""The Python and the commands of docs/serve.md run, and do what the page says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

import headwise as hw
from tests.kit.cli import run

pytestmark = pytest.mark.slow  # the Python of the page alone takes three seconds
PAGE = (Path(__file__).parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the blocks of the page define, run in an empty folder."""
    found: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("serve"))
        for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
            exec(compile(block, "serve.md", "exec"), found)
        found["folder"] = Path.cwd()
    return found


def test_the_python_of_the_page_runs(names: dict[str, Any]) -> None:
    assert names["before"] != names["after"]
    assert names["control"] != names["treated"]
    assert names["replies"] <= {names["control"], names["treated"]}
    pair: Any = names["pair"]
    assert not torch.equal(pair[0], pair[1])
    batched, single, length = names["batched"], names["single"], names["inputs"]["input_ids"].shape[1]
    assert batched.generated_tokens == single[0, length:].tolist()
    subject, baked, again = names["subject"], names["baked"], names["again"]
    assert isinstance(subject, hw.Subject)
    assert isinstance(baked, hw.Subject)
    assert isinstance(again, hw.Subject)
    inputs = subject.prepare(text="The function returns")
    with torch.no_grad():
        with hw.patch(subject, names["fix"]):
            patched = subject.model(**inputs).logits
        plain = subject.model(**inputs).logits
        for model in (baked.model, again.model, names["model"]):
            logits = model(**inputs).logits  # type: ignore[operator]
            torch.testing.assert_close(logits, patched, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(plain, patched, atol=1e-2)


def test_the_commands_of_the_page_run(
    names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "winner.json").write_bytes((Path(str(names["folder"])) / "winner.json").read_bytes())
    monkeypatch.chdir(tmp_path)
    for line in block.strip().splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "headwise"
        done = run(*arguments)
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "baked" / "config.json").is_file()


def test_the_web_server_of_the_page_answers_each_request_with_its_own_fix(names: dict[str, Any]) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from concurrent.futures import ThreadPoolExecutor

    from fastapi.testclient import TestClient

    app = names["build"](names["subject"], str(Path(str(names["folder"])) / "winner.json"))
    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(client.get, "/answer", params={"text": names["text"], "fix": n % 2}) for n in range(8)
        ]
        replies = [one.result().json() for one in asked]
    assert replies == [names["control"], names["treated"]] * 4


def test_streams_of_the_page_are_patched_as_a_whole_each_with_its_own_fix(names: dict[str, Any]) -> None:
    pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
    from concurrent.futures import ThreadPoolExecutor

    from fastapi.testclient import TestClient

    app = names["build_stream"](names["subject"], str(Path(str(names["folder"])) / "winner.json"))
    with TestClient(app) as client, ThreadPoolExecutor(4) as pool:
        asked = [
            pool.submit(client.get, "/stream", params={"text": names["text"], "fix": n % 2}) for n in range(8)
        ]
        replies = [one.result().text.partition("</s>")[0] for one in asked]
    assert replies == [names["control"], names["treated"]] * 4
    texts = [f"The function {end}" for end in ("returns", "takes", "is")]
    plain = [names["answer"](text) for text in texts]
    with hw.patch(names["subject"], names["fix"]):
        treated = [names["answer"](text) for text in texts]
    assert names["side_by_side"] == list(zip(treated, plain, strict=True))
