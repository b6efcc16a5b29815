"""Fetches and converts every real model: `python -m tests.real`."""

from tests.real.folders import fetched

for name, state in fetched():
    print(f"{name}: {state}", flush=True)
