"""A GPT-2 whose every head was written by hand: three layers that solve two copying tasks exactly.

The residual stream is a sum of seven sub-spaces (`SIZES`). A vector u of that sum is embedded as `u @
SPREAD`, whose entries come in pairs (u, -u)/√2: the mean is zero, and because every head that works writes
exactly one unit vector, LayerNorm is a known factor, undone in the reading matrices. Scores that differ do
so by half of `SHARPNESS` or more, so that softmax is one-hot to 1e-6; heads that find nothing look at BOS.

| head | does | reads | writes |
| --- | --- | --- | --- |
| 0.0 | previous token | position - 1 | tok → prev |
| 0.1 | duplicate token: an earlier copy of this token | tok, not itself | pos → dup |
| 0.3 | inert, looks at BOS | | nothing |
| 1.0 | induction: the token after an earlier copy of this one | prev | tok → gather |
| 1.1 | S-inhibition: the token that occurred twice | dup | tok → inhib |
| 2.0 | mover: what was gathered, or a candidate that is not inhibited | tok | tok → out |

All other heads are inert and uniform. Logit of a token: 1 for the copied token, 0 otherwise.

Tasks, with candidates a, b, c and fillers f, g, h:
IOI `BOS a f b g b h END` → a; IND `BOS f a g b h c g` → b.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

VOCABULARY = POSITIONS = 16
LAYERS, HEADS = 3, 4
BOS, END = 0, 1
CANDIDATES = range(4, 12)
FILLERS = (12, 13, 14)
SHARPNESS = 40.0

SIZES = {"tok": 16, "pos": 16, "prev": 16, "dup": 16, "gather": 16, "inhib": 16, "out": 16}
STARTS = {name: 16 * index for index, name in enumerate(SIZES)}
WIDTH = sum(SIZES.values())
MODEL_WIDTH = 2 * WIDTH
HEAD_WIDTH = MODEL_WIDTH // HEADS
CONSTANT = HEAD_WIDTH - 1
"""The head dimension in which every query holds 1, so that a key can ask for attention unconditionally."""
FILLED = (2, 4, 6, 7)
"""Sub-spaces filled before layers 0, 1, 2 and the final norm: the squared length of the residual."""
SPREAD = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1) / math.sqrt(2)

IOI_HEADS = {(0, 1), (1, 1), (2, 0)}
IND_HEADS = {(0, 0), (1, 0), (2, 0)}
INERT_HEADS = {(0, 2), (0, 3), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)}


def known_circuit() -> GPT2LMHeadModel:
    """The model, in evaluation mode."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=POSITIONS,
        n_embd=MODEL_WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=8,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        tie_word_embeddings=False,
        bos_token_id=BOS,
        eos_token_id=BOS,
        layer_norm_epsilon=1e-12,
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "ln_" in name and name.endswith("weight") else 0.0)
        model.transformer.wte.weight.copy_(SPREAD[_span("tok")])
        model.transformer.wpe.weight.copy_(SPREAD[_span("pos")])
        _write_heads(model)
        model.lm_head.weight.copy_(SPREAD[_span("out")] * math.sqrt(FILLED[3] / MODEL_WIDTH))
    return model


def ioi_prompts() -> list[tuple[torch.Tensor, int, int]]:
    """All 112 prompts of the IOI task: (ids, right answer, the repeated name)."""
    f, g, h = FILLERS
    prompts = []
    for a, b in permutations(CANDIDATES, 2):
        for first, second in ((a, b), (b, a)):
            prompts.append((torch.tensor([BOS, first, f, second, g, b, h, END]), a, b))
    return prompts


def ind_prompts() -> list[tuple[torch.Tensor, int, int]]:
    """336 prompts of the induction task: (ids, right answer, the token that follows the other filler)."""
    f, g, h = FILLERS
    return [(torch.tensor([BOS, f, a, g, b, h, c, g]), b, c) for a, b, c in permutations(CANDIDATES, 3)]


def logit_difference(logits: torch.Tensor, right: torch.Tensor, wrong: torch.Tensor) -> torch.Tensor:
    """(example,) logit of the right token minus that of the wrong one, at the last position.

    Args:
        logits: (example, position, vocabulary).
        right: (example,) token ids.
        wrong: (example,) token ids.
    """
    rows = torch.arange(len(logits))
    return logits[rows, -1, right] - logits[rows, -1, wrong]


def _write_heads(model: GPT2LMHeadModel) -> None:
    """Set the weights of every head that is not inert and uniform."""
    sharp, half = SHARPNESS, SHARPNESS / 2
    always = torch.zeros(HEAD_WIDTH)
    always[CONSTANT] = 1

    previous = _nothing()
    previous[STARTS["pos"], 0] = sharp
    for position in range(1, POSITIONS):
        previous[STARTS["pos"] + position, position - 1] = sharp
    _set_head(model, 0, 0, query=previous, key=_read("pos"), value=_read("tok"), write=_write("prev"))

    same_token_elsewhere = sharp * _read("tok") - 2 * sharp * _read("pos", at=VOCABULARY)
    _set_head(
        model,
        0,
        1,
        query=_without_bos(same_token_elsewhere, "tok"),
        key=_call_out(_read("tok") + _read("pos", at=VOCABULARY), [BOS], half),
        value=_read("pos"),
        write=_write("dup"),
        query_bias=always,
    )
    bos_only = _call_out(_nothing(), [BOS], sharp)
    _set_head(
        model, 0, 3, query=_nothing(), key=bos_only, value=_nothing(), write=_nothing().T, query_bias=always
    )

    _set_head(
        model,
        1,
        0,
        query=_without_bos(sharp * _read("tok"), "tok"),
        key=_call_out(_read("prev"), [BOS], half),
        value=_read("tok"),
        write=_write("gather"),
        query_bias=always,
    )
    flagged = _call_out(_nothing(), [BOS], half)
    flagged[STARTS["dup"] + 1 : STARTS["dup"] + POSITIONS, CONSTANT] = sharp
    _set_head(
        model,
        1,
        1,
        query=_nothing(),
        key=flagged,
        value=_read("tok"),
        write=_write("inhib"),
        query_bias=always,
    )

    wanted = _without_bos(sharp * _read("gather") - sharp * _read("inhib"), "gather", "inhib")
    _set_head(
        model,
        2,
        0,
        query=wanted,
        key=_call_out(_call_out(_read("tok"), CANDIDATES, sharp), [BOS], half),
        value=_read("tok"),
        write=_write("out"),
        query_bias=always,
    )


def _set_head(
    model: GPT2LMHeadModel,
    layer: int,
    head: int,
    *,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    write: torch.Tensor,
    query_bias: torch.Tensor | None = None,
) -> None:
    """Put one head's reading (sub-spaces × width) and writing (width × sub-spaces) matrices in place."""
    attention: Any = cast("Any", model).transformer.h[layer].attn
    columns = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
    norm = math.sqrt(FILLED[layer] / MODEL_WIDTH)  # undoes LayerNorm
    unscale = HEAD_WIDTH**0.25  # on query and key: undoes 1/√width
    for part, (matrix, factor) in enumerate(((query, unscale), (key, unscale), (value, 1.0))):
        start = part * MODEL_WIDTH
        attention.c_attn.weight[:, start + columns.start : start + columns.stop] = (
            SPREAD.T @ matrix * factor * norm
        )
    if query_bias is not None:
        attention.c_attn.bias[columns] = query_bias * unscale
    attention.c_proj.weight[columns] = write @ SPREAD


def _span(name: str) -> slice:
    return slice(STARTS[name], STARTS[name] + SIZES[name])


def _nothing() -> torch.Tensor:
    return torch.zeros(WIDTH, HEAD_WIDTH)


def _read(name: str, *, at: int = 0) -> torch.Tensor:
    """Copy a sub-space into head dimensions `at` onwards."""
    matrix = _nothing()
    matrix[_span(name), at : at + SIZES[name]] = torch.eye(SIZES[name])
    return matrix


def _write(name: str) -> torch.Tensor:
    """Copy the first head dimensions into a sub-space."""
    return _read(name).T


def _call_out(key: torch.Tensor, tokens: list[int] | range, strength: float) -> torch.Tensor:
    """A key matrix that asks for `strength` of score from every query wherever one of `tokens` stands."""
    key = key.clone()
    for token in tokens:
        key[STARTS["tok"] + token, CONSTANT] = strength
    return key


def _without_bos(query: torch.Tensor, *names: str) -> torch.Tensor:
    """A query matrix that asks for nothing when the token in one of the sub-spaces is BOS."""
    query = query.clone()
    for name in names:
        query[STARTS[name] + BOS] = 0
    return query
