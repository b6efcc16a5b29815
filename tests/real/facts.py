"""What is known of the heads of real models, measured again: `python -m tests.real.facts [NAME ...]`.

Exits with status 1 if a fact does not hold; a model that is not there is said, and is no failure.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch

import headwise as hw
from tests.real import facts_encoders, facts_smollm2, facts_whisper
from tests.real.fact import Fact
from tests.real.folders import existing
from tests.real.packages import Unavailable

FACTS = {
    "smollm2-sink": Fact("smollm2", facts_smollm2.first_token_sink),
    "smollm2-induction": Fact("smollm2", facts_smollm2.induction),
    "smollm2-ioi": Fact("smollm2", facts_smollm2.names_in_sentences),
    "smollm2-movers": Fact("smollm2", facts_smollm2.movers, long=True),
    "smollm2-act": Fact("smollm2", facts_smollm2.act, long=True),
    "whisper-alignment": Fact("whisper", facts_whisper.order_of_heads),
    "whisper-word-times": Fact("whisper", facts_whisper.word_starts),
    "rxnmapper-masked": Fact("rxnmapper", facts_encoders.masked_atoms),
    "rxnmapper-atoms": Fact("rxnmapper", facts_encoders.atom_mapping),
    "minilm-sink": Fact("minilm", facts_encoders.cls_sink),
}


def main(names: list[str]) -> int:
    """Measure the facts of these names; without names, all but the long ones."""
    unknown = [name for name in names if name not in FACTS]
    if unknown:
        print(f"There is no fact {unknown[0]!r}. There are: {', '.join(FACTS)}")
        return 2
    warnings.simplefilter("ignore")
    failed = 0
    for name in names or [name for name, fact in FACTS.items() if not fact.long]:
        fact = FACTS[name]
        started = time.perf_counter()
        try:
            subject = hw.load(existing(fact.model))
        except Unavailable as error:
            print(f"{name}: not measured. {error}", flush=True)
            continue
        torch.manual_seed(0)
        found = fact.measure(subject)
        failed += not found.holds
        state = "" if found.holds else "NOT AS EXPECTED: "
        print(f"{name}: {state}{found.text} ({time.perf_counter() - started:.0f} s)", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
