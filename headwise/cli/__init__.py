"""Command line: `headwise report | analyse | trace | doctor | eval | compare | fit | search | patch | harness | ...`.

Exit status: 0; 1 when a finding fails a threshold that was asked for, or on an error nobody foresaw; 2 for
bad input, said in one line. Starting up imports typer and nothing heavy.
"""

from __future__ import annotations


def main() -> None:
    """The console entry."""
    from headwise.cli.app import app

    app(prog_name="headwise")
