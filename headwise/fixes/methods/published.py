"""Constants that papers and their code give for particular models.

A model is recognised by the shape of its language part, since names change when a checkpoint is copied. Sources:
methods' papers and repositories as named beside each row; nothing here was checked by us on the models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headwise.subject.info import ModelInfo


@dataclass(frozen=True)
class Shape:
    """The language parts that a row of a table is about."""

    text_family: str
    layers: int
    width: int
    key_heads: int
    vocabulary: range
    """Sizes of the vocabulary, padding and added tokens included."""

    def fits(self, model: ModelInfo) -> bool:
        """True for a model of this shape."""
        return (
            self.text_family == model.text_family
            and self.layers == model.layers
            and self.width == model.width
            and self.key_heads == model.key_heads
            and model.vocabulary in self.vocabulary
        )


LLAMA_2_7B = Shape("llama", 32, 4096, 32, range(32000, 32101))
LLAMA_2_13B = Shape("llama", 40, 5120, 40, range(32000, 32101))
QWEN2_VL_7B = Shape("qwen2_vl_text", 28, 3584, 4, range(152064, 152065))
INTERNVL2_8B = Shape("internlm2", 32, 4096, 8, range(92544, 92600))

SINK_DIMENSIONS: tuple[tuple[str, Shape, tuple[int, ...]], ...] = (
    ("LLaVA-1.5-7B, Vicuna-7B (summaries of the paper, code)", LLAMA_2_7B, (1415, 2533)),
    ("LLaVA-1.5-13B, LLaVA-1.6-Vicuna-13B (code)", LLAMA_2_13B, (2100, 4743)),
    ("Qwen2-VL-7B (summaries of the paper)", QWEN2_VL_7B, (458, 2570)),
    ("InternVL2-8B (summaries of the paper)", INTERNVL2_8B, (3584,)),
)
"""Residual dimensions that mark sinks, of VAR (arXiv 2503.03321) and of the repository MICV-yonsei/VisAttnSink."""

REINFORCED_LAYERS: tuple[tuple[str, str, int, tuple[int, ...]], ...] = (
    ("LLaVA-1.5-7B", "llava", 32, (1, *range(18, 32))),
    ("LLaVA-NeXT-7B", "llava_next", 32, (1, *range(18, 32))),
    ("InstructBLIP-7B", "instructblip", 32, tuple(range(14, 32))),
)
"""Layers that VHR reinforces (arXiv 2412.13949, section 4), by family and depth."""
