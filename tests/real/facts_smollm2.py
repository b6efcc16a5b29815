"""What is known of SmolLM2's heads: a sink without a BOS token, and copying by induction heads."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import nullcontext

import torch

import headwise as hw
from tests.real.fact import Finding

PROSE = (
    "The family of Dashwood had long been settled in Sussex. Their estate was large, and their residence was at "
    "Norland Park, in the centre of their property, where, for many generations, they had lived in so respectable a "
    "manner as to engage the general good opinion of their surrounding acquaintance. The late owner of this estate "
    "was a single man, who lived to a very advanced age, and who for many years of his life, had a constant companion "
    "and housekeeper in his sister."
)
HALF, ROWS = 40, 4
"""Random tokens that are read twice, and how many such sequences."""
Head = tuple[int, int]


def first_token_sink(subject: hw.Subject) -> Finding:
    """Most heads of the later layers rest on the first token, an ordinary word."""
    inputs = subject.prepare(text=PROSE)
    with torch.no_grad(), hw.capture(subject) as trace:
        subject.model(**inputs)
    keys = trace.to_frame("key")
    first = keys[keys["position"] == 0]
    sinks, late = (
        int((first["mean_received"] > 0.3).sum()),
        first[first["layer"] >= 12]["mean_received"].mean(),
    )
    token = trace.layout.axes["text"].tokens[0][0]
    text = (
        f"the first token, {token!r}, is a sink (alpha > 0.3) of {sinks} of {len(first)} heads, and takes {late:.0%} "
        "of the attention in layers 12 to 29"
    )
    return Finding(text, token == "The" and sinks >= 120 and late > 0.45)


def induction(subject: hw.Subject) -> Finding:
    """Copying of random tokens needs a previous-token head and the induction heads behind it."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randint(1000, 40_000, (ROWS, HALF), generator=generator)
    ids = torch.cat([half, half], 1)
    with torch.no_grad(), hw.capture(subject, stats=False, maps=True) as trace:
        subject.model(input_ids=ids)
    copying, previous = {}, {}
    for site in trace.sites:
        pattern = trace.maps[site]
        # A row of the second half is about to copy what follows its own token in the first half.
        scores = pattern.diagonal(1 - HALF, -2, -1)[..., 1:].mean((0, 2))
        before = pattern.diagonal(-1, -2, -1).mean((0, 2))
        for head in range(pattern.shape[1]):
            copying[site.layer, head] = float(scores[head])
            previous[site.layer, head] = float(before[head])
    ranked = sorted(copying, key=copying.__getitem__, reverse=True)
    best, mover = ranked[:5], max(previous, key=previous.__getitem__)
    rng = random.Random(0)
    others = [
        rng.choice([(layer, head) for head in range(9) if copying[layer, head] < 0.1]) for layer, _ in best
    ]
    whole = copied(subject, ids)
    silenced = {"best": best, "others": others, "mover": [mover]}
    without = {group: copied(subject, ids, heads) for group, heads in silenced.items()}
    text = (
        f"induction heads {', '.join(f'{name(head)} {copying[head]:.2f}' for head in best)}; {whole:.0%} of random "
        f"tokens are copied, without these five {without['best']:.0%}, without five others of the same layers "
        f"{without['others']:.0%}, without the previous-token head {name(mover)} alone {without['mover']:.0%}"
    )
    holds = ranked[0] == (18, 6) and mover == (16, 0) and whole > 0.4
    return Finding(
        text, holds and without["best"] < 0.05 and without["mover"] < 0.2 and without["others"] > whole - 0.2
    )


def copied(subject: hw.Subject, ids: torch.Tensor, silent: Iterable[Head] = ()) -> float:
    """The share of tokens of the second half that are the most probable ones, with some heads silenced."""
    heads = tuple(dict.fromkeys(silent))
    patch = hw.patch(subject, hw.fixes.ZeroHeads(heads=heads)) if heads else nullcontext()
    with torch.no_grad(), patch:
        guesses = subject.model(input_ids=ids).logits[:, HALF:-1].argmax(-1)
    return float((guesses == ids[:, HALF + 1 :]).float().mean())


def names_in_sentences(subject: hw.Subject) -> Finding:
    """Indirect object identification: the right name is preferred to the one that was said twice."""
    preferred = hw.evaluate(subject, "ioi", n=60).estimates["preferred"].value
    return Finding(f"the right name is preferred in {preferred:.1%} of 60 sentences", preferred > 0.9)


def movers(subject: hw.Subject) -> Finding:
    """The name mover that head_types finds says the name, and the negative one speaks against it."""
    found = hw.analyses.head_types(subject, prompts="names").frame
    best = found.loc[found.groupby("type")["score"].idxmax()].set_index("type")
    heads = {kind: (int(row["layer"]), int(row["head"])) for kind, row in best.iterrows()}
    mover, negative = heads["name mover"], heads["negative name mover"]
    others = [(mover[0], 8), (negative[0], 8)]
    ahead = {}
    for label, silent in (("whole", []), ("mover", [mover]), ("negative", [negative]), ("others", others)):
        patch = hw.patch(subject, hw.fixes.ZeroHeads(heads=tuple(silent))) if silent else nullcontext()
        with patch:
            ahead[label] = hw.evaluate(subject, "ioi", n=40).estimates["logit_difference"].value
    text = (
        f"the right name is {ahead['whole']:.2f} nats ahead in 40 sentences; without the name mover {name(mover)} "
        f"{ahead['mover']:.2f}, without the negative one {name(negative)} {ahead['negative']:.2f}, without "
        f"{' and '.join(map(name, others))} {ahead['others']:.2f}"
    )
    return Finding(text, ahead["mover"] < ahead["whole"] < ahead["negative"])


def act(subject: hw.Subject) -> Finding:
    """ACT looks for heads whose sinks cost answers."""
    fix = hw.fit(subject, "ACT", "ioi", n=24)
    return Finding(
        f"ACT, fitted on 24 sentences, finds {len(fix.heads)} heads: {fix.source}", bool(fix.source)
    )


def name(head: Head) -> str:
    """As `L18H6`."""
    return f"L{head[0]}H{head[1]}"
