"""Files come in, and texts are normalised, by the readers alone: a walk over the code, and a list of what does not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwise

ROOT = Path(headwise.__file__).parent
READING = {
    *(
        "open",
        "read_text",
        "read_bytes",
        "safe_open",
        "load_file",
        "fromfile",
        "memmap",
        "loadtxt",
        "genfromtxt",
    ),
    *(
        "read_csv",
        "read_table",
        "read_parquet",
        "read_feather",
        "read_pickle",
        "read_excel",
        "read_hdf",
        "read_sql",
    ),
    *("read_orc", "read_xml", "read_html", "read_stata", "read_sas", "read_spss", "ParquetFile", "SoundFile"),
    *("load_dataset", "ZipFile", "TarFile", "DictReader", "unpack_archive", "urlopen", "urlretrieve"),
}
"""Names that read files, whoever they belong to."""
OF_MODULES = {
    "json": {"load", "loads", "JSONDecoder"},
    "torch": {"load"},
    "np": {"load"},
    "numpy": {"load"},
    "yaml": {"load", "load_all", "safe_load", "safe_load_all", "full_load", "unsafe_load"},
    "soundfile": {"read", "info", "blocks"},
    "tomllib": {"load", "loads"},
    "gzip": {"decompress"},
    "csv": {"reader"},
    "pd": {"read_json"},
    "unicodedata": {"normalize", "is_normalized"},
}
READING_OF_MODULES = frozenset().union(*OF_MODULES.values())
NEVER = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "ctypes", "xml"}
PACKAGE = "files of the package itself"
ALLOWED = {
    "cli/zoo.py": (PACKAGE, "read_text"),
    "evaluation/harness/_harness.py": ("JSON that was just made of a config", "json.loads"),
    "evaluation/harness/data.py": ("tables whose size is checked before", "read_csv", "csv.reader"),
    "evaluation/harness/guard.py": ("writes to the null device", "open"),
    "evaluation/task_run.py": ("JSON that transformers has just made of a config", "json.loads"),
    "figures/page.py": ("JSON that plotly has just made of a figure", "json.loads"),
    "files.py": ("locks a file that is being written", "open"),
    "model/folder.py": ("JSON as transformers reads it, of bytes and a depth that are bounded", "json.loads"),
    "model/location.py": ("the header of a file; its tensors stay closed", "safe_open"),
    "saliency/run_state.py": ("safetensors of a stopped run, checked by a digest", "safe_open"),
    "probes/trace/storage.py": ("safetensors, mapped, checked by header and digests", "safe_open"),
    "reports/notebook/widget.py": (PACKAGE, "read_text"),
    "reports/page/page.py": (
        "files of the package, and a spec that was just made",
        "read_text",
        "json.loads",
    ),
    "results/columns.py": (
        "cells of a column, each as JSON, of a file whose digest was checked",
        "json.loads",
    ),
    "zoo/damage.py": (PACKAGE, "load_file"),
    "zoo/data/clips.py": (PACKAGE, "read_text", "soundfile.read", "json.loads", "SoundFile"),
    "zoo/data/phrases.py": (PACKAGE, "read_bytes", "gzip.decompress", "json.loads"),
    "zoo/data/synthesis.py": (
        "calls the espeak library when the zoo's clips are made",
        "ctypes",
        "ctypes.util",
    ),
    "zoo/data/text.py": (PACKAGE, "read_text", "read_bytes", "json.loads"),
    "zoo/recipes/nmt.py": ("JSON that tokenizers has just made", "json.loads"),
    "zoo/recipes/speech.py": ("JSON that tokenizers has just made", "json.loads"),
    "zoo/train.py": ("this user's own stopped run, weights only", "torch.load"),
    "zoo_checks/cards.py": (PACKAGE, "read_text", "json.loads", "tomllib.loads"),
}
"""Modules that read past the readers: why, and by what."""


def sites(tree: ast.Module) -> Iterator[str]:
    """What a module reads files with: calls, references that are handed on, and modules that are never imported."""
    own = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("headwise.")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            yield from (module for module in modules if module.split(".")[0] in NEVER)
            yield from (f"{modules[0]}.{name}" for name in names if name in OF_MODULES.get(modules[0], ()))
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value) if node.attr in READING_OF_MODULES else ""
            if node.attr in OF_MODULES.get(owner, ()):
                yield f"{owner}.{node.attr}"
            elif node.attr in READING:
                yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in READING - own:
            yield node.id


def found(name: str) -> set[str]:
    """What a module of the package reads files with; nothing where there is no such module."""
    path = ROOT / name
    return set(sites(ast.parse(path.read_text(encoding="utf-8")))) if path.is_file() else set()


def test_files_come_in_by_one_door() -> None:
    modules = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py")} - set(ALLOWED)
    others = {
        name: reads for name in sorted(modules) if not name.startswith("readers/") and (reads := found(name))
    }
    assert not others, "these read past the readers: take headwise.readers"


@pytest.mark.parametrize("name", ALLOWED)
def test_the_list_of_what_reads_past_it_is_as_short_as_it_can_be(name: str) -> None:
    _, *allowed = ALLOWED[name]
    assert found(name) <= set(allowed), f"{name}: take headwise.readers"
    assert found(name) == set(allowed), f"{name} does not read by all that it may any more: shorten the list"


@pytest.mark.parametrize(
    "code",
    [
        *(
            "open(path)",
            "path.open('rb')",
            "Path(p).read_text()",
            "p.read_bytes()",
            "json.load(file)",
            "json.loads(text)",
        ),
        *(
            "pd.read_csv(p)",
            "pandas.read_parquet(p)",
            "pd.read_json(p)",
            "Image.open(p)",
            "soundfile.read(p)",
        ),
        *(
            "soundfile.SoundFile(p)",
            "soundfile.info(p)",
            "yaml.load(f, Loader)",
            "yaml.safe_load(f)",
            "torch.load(p)",
        ),
        *(
            "np.load(p)",
            "numpy.fromfile(p)",
            "import pickle",
            "from pickle import loads",
            "safe_open(p, framework='pt')",
        ),
        *(
            "import xml.etree.ElementTree",
            "map(open, paths)",
            "map(Path.read_text, paths)",
            "io.open(p)",
            "os.open(p, 0)",
        ),
        *(
            "from json import loads",
            "gzip.open(p)",
            "zipfile.ZipFile(p)",
            "pq.ParquetFile(p)",
            "load_file(p)",
        ),
        *(
            "datasets.load_dataset(p)",
            "tomllib.loads(t)",
            "csv.reader(f)",
            "from unicodedata import normalize",
        ),
    ],
)
def test_the_walk_sees(code: str) -> None:
    assert list(sites(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    [
        "from headwise.evaluation.data.files import read_table\nread_table(p)",
        "reopen(p)",
        "json.dumps(x)",
        "model.load()",
    ],
)
def test_the_walk_passes(code: str) -> None:
    assert not list(sites(ast.parse(code)))
