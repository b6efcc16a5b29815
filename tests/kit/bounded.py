"""A process of its own that reads files of strangers, with what it may take: 1 GB more than before, 5 s for a file."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from headwise.errors import HeadwiseError

ROOT = Path(__file__).parents[2]
DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where thousands of files are written in a row."""
MEMORY = 10**9
"""Bytes that reading one file may take."""
SECONDS = 5.0
"""Of one core, for one file."""
MEGABYTES = 10_000_000
"""The size of files for which that is a law."""


def call(module: str, *arguments: object, timeout: float) -> Any:
    """What `python -m module` printed as JSON in its last line; whatever kills or stops it is an AssertionError."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def confined() -> Iterator[None]:
    """This process can ask for three times `MEMORY` from here on, and warnings are errors."""
    size = int(_status("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * MEMORY, resource.RLIM_INFINITY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def fault(read: Callable[[], object]) -> str:
    """What is wrong with reading a file: an error that is not ours, too much memory or time; "" where nothing is."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins at what is held now
    before, begun = _status("VmHWM"), time.process_time()
    said = ""
    try:
        read()
    except HeadwiseError:
        pass
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:300]}"
        at = error.__traceback__
        while at is not None:
            if "headwise/" in at.tb_frame.f_code.co_filename or at.tb_next is None:
                said += f"\n    {at.tb_frame.f_code.co_filename}:{at.tb_lineno}"
            at = at.tb_next
    seconds, taken = time.process_time() - begun, _status("VmHWM") - before
    if taken > MEMORY:
        said += f" took {taken / 2**20:,.0f} MiB"
    if seconds > SECONDS:
        said += f" took {seconds:.1f} s"
    return said


def excess(read: Callable[[], object]) -> str:
    """`fault` of a call in a child of this process, which may take a minute; what is imported here is not counted.

    The time is that of the processor; since a busy machine stretches that, too, the best of three calls counts.
    """
    said = ""
    for _ in range(3):
        receive, send = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads that a child does not have
            child = os.fork()
        if not child:
            try:
                resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
                resource.setrlimit(
                    resource.RLIMIT_AS, (_status("VmSize") + 8 * MEMORY, resource.RLIM_INFINITY)
                )
                os.write(send, fault(read).encode()[:4000] or b"-")
            finally:
                os._exit(0)
        os.close(send)
        os.waitpid(child, 0)
        with open(receive, encoding="utf-8", errors="replace") as file:
            said = (file.read() or "killed").removeprefix("-")
        if not said.endswith(" s"):
            break
    return said


def filled(first: str, unit: str, last: str, *, size: int = MEGABYTES) -> str:
    """The first part, the second until there are `size` bytes, the last; {n} counts, LONG are 96 characters."""
    first, unit, last = (part.replace("LONG", "word" * 24) for part in (first, unit, last))
    left = size - len(first) - len(last)
    if "{n}" not in unit:
        return first + unit * (left // len(unit.encode())) + last
    units = [unit.replace("{n}", str(number)) for number in range(left // len(unit))]
    sizes = accumulate(map(len, units))
    return first + "".join(part for part, size in zip(units, sizes, strict=True) if size <= left) + last


def _status(name: str) -> int:
    """A line of what Linux knows about this process, in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{name}:")[1].split()[0])
