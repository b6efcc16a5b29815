"""What is known of RXNMapper's and MiniLM's heads: atoms of a product find themselves; [CLS] is a sink."""

from __future__ import annotations

import re

import torch

import headwise as hw
from tests.real.fact import Finding
from tests.real.facts_smollm2 import PROSE

REACTIONS = (
    "[CH3:1][CH:2]([CH3:3])[SH:4].CN(C)C=O.F[c:5]1[n:6][cH:7][cH:8][cH:9][c:10]1[F:11].O=C([O-])[O-].[K+].[K+]>>"
    "[CH3:1][CH:2]([CH3:3])[S:4][c:5]1[n:6][cH:7][cH:8][cH:9][c:10]1[F:11]",
    "C1COCCO1.CC(C)(C)[O:3][C:2](=[O:1])[CH2:4][O:5][NH:6][C:7](=[O:8])[NH:9][CH2:10][c:11]1[cH:12][cH:13][cH:14]"
    "[c:15]2[cH:16][cH:17][cH:18][cH:19][c:20]12.Cl>>[O:1]=[C:2]([OH:3])[CH2:4][O:5][NH:6][C:7](=[O:8])[NH:9][CH2:10]"
    "[c:11]1[cH:12][cH:13][cH:14][c:15]2[cH:16][cH:17][cH:18][cH:19][c:20]12",
)
"""Where every atom of the product comes from, by the numbers behind the colons."""
LAYER, HEAD = 10, 5
"""The head that the package rxnmapper reads."""


def tokens_and_atoms(mapped: str) -> tuple[list[str], list[int]]:
    """The tokens of the plain reaction, and the number of the atom that each is; 0 where it is none."""
    tokens, atoms = [], []
    for part in re.findall(r"\[[^\]]+\]|Br|Cl|>>|.", mapped):
        atom = re.fullmatch(r"\[([A-Za-z][a-z]?)(?:H\d?)?:(\d+)\]", part)
        tokens.append(atom[1] if atom else part)
        atoms.append(int(atom[2]) if atom else 0)
    return tokens, atoms


def atom_mapping(subject: hw.Subject) -> Finding:
    """Head 10.5 looks from an atom of the product at the same atom of the reactants."""
    right, total, everywhere = 0, 0, []
    for mapped in REACTIONS:
        tokens, atoms = tokens_and_atoms(mapped)
        with torch.no_grad(), hw.capture(subject, stats=False, maps=True) as trace:
            subject.model(**subject.prepare(text="".join(tokens)))
        arrow = tokens.index(">>")
        reactant = [place for place in range(arrow) if tokens[place][0].isalpha()]
        product = [place for place in range(arrow, len(tokens)) if atoms[place]]
        for site in trace.sites:
            pattern = trace.maps[site][0, :, 1:-1, 1:-1]  # without [CLS] and [SEP]
            chosen = pattern[:, product][:, :, reactant].argmax(-1)
            for head in range(len(pattern)):
                same = sum(
                    atoms[reactant[int(key)]] == atoms[query]
                    for query, key in zip(product, chosen[head], strict=True)
                )
                everywhere.append(same / len(product))
                if (site.layer, head) == (LAYER, HEAD):
                    right, total = right + same, total + len(product)
    others = sum(everywhere) / len(everywhere)
    text = (
        f"head {LAYER}.{HEAD} is right on {right} of {total} atoms of {len(REACTIONS)} reactions; the mean head on "
        f"{others:.0%}"
    )
    return Finding(text, right == total and others < 0.4)


def masked_atoms(subject: hw.Subject) -> Finding:
    """Every token of a reaction, hidden one at a time, is the most probable one in its place."""
    right, total = 0, 0
    for mapped in REACTIONS:
        ids = subject.prepare(text="".join(tokens_and_atoms(mapped)[0]))["input_ids"]
        inner = torch.arange(1, ids.shape[1] - 1)
        hidden = ids.repeat(len(inner), 1)
        hidden[inner - 1, inner] = subject.tokenizer.mask_token_id
        with torch.no_grad():
            guesses = subject.model(input_ids=hidden).logits[inner - 1, inner].argmax(-1)
        right, total = right + int((guesses == ids[0, inner]).sum()), total + len(inner)
    return Finding(f"{right} of {total} hidden tokens are recovered", right >= 0.95 * total)


def cls_sink(subject: hw.Subject) -> Finding:
    """[CLS] takes about half of the attention in the middle layers, on single sentences."""
    with torch.no_grad(), hw.capture(subject) as trace:
        subject.model(**subject.prepare(text=PROSE.split(". ")))
    keys = trace.to_frame("key")
    first = keys[keys["token"] == "[CLS]"].groupby("layer")["mean_received"].mean()
    middle = first.loc[1:4].mean()
    return Finding(f"[CLS] takes {middle:.0%} of the attention in layers 1 to 4", 0.35 < middle < 0.65)
